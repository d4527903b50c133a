"""The committed scorecards are what the committed records give, and they go on saying the same."""

from pathlib import Path

import pytest

from gistbench.models.catalog import file_sha256
from gistbench.models.manifest import ADAPTER_FILE, shipped_checkpoints
from gistbench.report import Scorecard
from gistbench.report.criteria import load_criteria
from gistbench.report.evidence import load_evidence
from gistbench.report.page.pages import markdown_page
from gistbench.report.scorecard import build_scorecard
from gistbench.report.statistics import wilson
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


RECIPE_RUNS = {"ten-gists": "smollm2-135m-gist-10-ladder", "one-gist": "smollm2-135m-gist-1"}


@pytest.mark.parametrize("name", RECIPE_RUNS)
def test_the_readme_states_what_the_shipped_checkpoints_answered(name: str) -> None:
    folder = PUBLISHED / "recipe" / name / "test"
    evidence = load_evidence(folder)
    page = markdown_page(build_scorecard(evidence, load_criteria()))
    assert page == (folder / "scorecard.md").read_text(encoding="utf-8")
    assert evidence.run.checkpoint is not None
    shipped = shipped_checkpoints()[RECIPE_RUNS[name]]
    assert evidence.run.checkpoint.sha256 == file_sha256(shipped / ADAPTER_FILE)
    exact: dict[tuple[str, int], list[bool]] = {}
    for sample in (each for group in evidence.groups.values() for each in group):
        if sample.arm == "gist":
            series = exact.setdefault((sample.task, sample.nominal_tokens), [])
            series.append(sample.scores["exact_match"] == 1)
        else:
            assert sample.scores["exact_match"] == 0
    stated = _column_of_readme(list(RECIPE_RUNS).index(name))
    labelled = []
    for (task, tokens), answers in exact.items():
        rate = wilson(sum(answers), len(answers))
        if task.startswith("niah_labelled"):
            labelled.append(f"{100 * rate.value:.1f}")
        elif task == "niah_absent":
            assert stated[task, tokens].startswith(f"200 and {sum(answers) - 200} of 200")
        else:
            text = f"{100 * rate.value:.1f} % ({100 * rate.low:.1f} to {100 * rate.high:.1f})"
            assert stated[task, tokens] == text
    if labelled:
        assert stated["niah_labelled_2", 4925] == f"{', '.join(labelled)} %"
    rest = {task for (task, _), text in stated.items() if text == "not trained"}
    assert rest == {task for task, _ in stated} - {task for task, _ in exact}


def _column_of_readme(number: int) -> dict[tuple[str, int], str]:
    """Cells of the table of a broader training, by the first task that their row names."""
    readme = (PUBLISHED.parents[1] / "README.md").read_text(encoding="utf-8")
    part = readme.split("## What a broader training reaches")[1].split("\n## ")[0]
    rows = [row.split("|") for row in part.splitlines() if row.startswith("| `niah_")]
    return {
        (row[1].split("`")[1], 7900 if "7,900" in row[1] else 4925): row[2 + number].strip()
        for row in rows
    }
