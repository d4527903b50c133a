"""The committed scorecards are what the committed records give, and they go on saying the same."""

from pathlib import Path

import pytest

from gistbench.report import Scorecard
from gistbench.report.criteria import load_criteria
from gistbench.report.evidence import load_evidence
from gistbench.report.page.pages import markdown_page
from gistbench.report.scorecard import build_scorecard
from gistbench.storage import read_json

PUBLISHED = Path(__file__).parents[2] / "results" / "published"

OUTCOMES = {
    "smollm2-135m-gist-10": {
        "compression_ratio": "PASS",
        "passkey_accuracy": "PASS",
        "vram": "PASS",
        "throughput": "INCONCLUSIVE",
        "global_understanding": "NOT_MEASURED",
        "hallucination_rate": "NOT_MEASURED",
    },
    "smollm2-135m-gist-global-10": {
        "compression_ratio": "PASS",
        "passkey_accuracy": "FAIL",
        "vram": "NOT_MEASURED",
        "throughput": "NOT_MEASURED",
        "global_understanding": "NOT_MEASURED",
        "hallucination_rate": "NOT_MEASURED",
    },
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_published_run_still_gives_its_scorecard(name):
    card = build_scorecard(load_evidence(PUBLISHED / name), load_criteria())
    assert {verdict.id: verdict.outcome for verdict in card.verdicts} == OUTCOMES[name]
    assert card == read_json(PUBLISHED / name / "scorecard.json", Scorecard)
    assert markdown_page(card) == (PUBLISHED / name / "scorecard.md").read_text(encoding="utf-8")
