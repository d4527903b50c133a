"""Claims about the gate's error rates, and the committed page that publishes them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gistbench.gate import rates_page
from gistbench.gate.policy import load_policy
from gistbench.gate.rates import accuracy_rates, prompts_needed, time_rates
from gistbench.report.controls import CONTROLS
from gistbench.report.evidence import load_evidence
from gistbench.report.power import one_sided_power

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "gate.md"
POLICY = load_policy()
SHARE = re.compile(r"(?<![\w.-])(\d+(?:\.\d+)?) %(?= \|)")
FEW = 40


def test_all_false_alarms_together_stay_within_two_percent() -> None:
    total = POLICY.accuracy.alpha + POLICY.time.alpha + POLICY.controls.alpha
    assert total <= 0.02 + 1e-12


@pytest.mark.parametrize("discordance", [0.0, 0.03, 0.05])
def test_an_unchanged_ladder_raises_no_alarm_beyond_its_bound(discordance: float) -> None:
    found = accuracy_rates(
        POLICY.accuracy, cells=51, n=400, discordance=discordance, simulations=200, seed=1
    )
    assert found.regression <= POLICY.accuracy.alpha + 4 * (0.01 * 0.99 / 200) ** 0.5
    if discordance <= 0.03:
        assert found.passed >= 0.9


def test_a_drop_of_five_points_is_found_at_a_discordance_of_five_percent() -> None:
    found = accuracy_rates(
        POLICY.accuracy, cells=51, n=400, discordance=0.05, drop=0.05, simulations=200, seed=1
    )
    assert found.regression >= 0.9
    summed = one_sided_power(0.05, 0.05, 400, POLICY.accuracy.alpha / 51)
    assert found.regression == pytest.approx(summed, abs=4 * (summed * (1 - summed) / 200) ** 0.5)


@pytest.mark.parametrize("discordance", [0.05, 0.08, 0.1, 0.2])
def test_the_prompts_needed_reach_the_target_and_fewer_do_not(discordance: float) -> None:
    alpha = POLICY.accuracy.alpha / 51
    n = prompts_needed(POLICY.accuracy, cells=51, discordance=discordance, drop=0.05, target=0.9)
    assert one_sided_power(discordance, 0.05, n, alpha) >= 0.9
    assert one_sided_power(discordance, 0.05, n - 1, alpha) < 0.9


def test_a_slowdown_of_ten_percent_is_found_with_the_repeats_asked_for() -> None:
    found = time_rates(
        POLICY.time,
        times=6,
        repeats=POLICY.time.repeats,
        variation=0.05,
        slowdown=0.10,
        simulations=150,
        seed=1,
    )
    assert found.regression >= 0.8 - 2 * (0.8 * 0.2 / 150) ** 0.5
    assert found.passed <= 0.1


def test_a_drop_is_at_most_the_discordance() -> None:
    with pytest.raises(ValueError, match="cannot be"):
        accuracy_rates(POLICY.accuracy, cells=1, n=10, discordance=0.01, drop=0.05, simulations=1)


@pytest.fixture(scope="module")
def small_page() -> str:
    return rates_page.rates_page(FEW)


def numbers(page: str) -> list[float]:
    """The simulated shares of the tables."""
    return [float(value) / 100 for value in SHARE.findall(_simulated(page))]


def skeleton(page: str) -> str:
    """All of a page but what more simulations make more exact."""
    page = SHARE.sub("#", page)
    page = re.sub(r"(?:[\d,]+) (simulated runs|comparisons)", r"# \1", page)
    page = re.sub(r"at most [\d.]+ points", "at most # points", page)
    return re.sub(r"up to a discordance of .*?\. Beyond", "up to #. Beyond", page)


def _simulated(page: str) -> str:
    return page[page.index("## An unchanged model") :]


def test_the_committed_page_is_what_the_code_gives(small_page: str) -> None:
    """Word for word, and share for share within what few simulations allow."""
    committed = PAGE.read_text(encoding="utf-8")
    assert skeleton(committed) == skeleton(small_page)
    pairs = list(zip(numbers(committed), numbers(small_page), strict=True))
    assert len(pairs) > 60
    for published, found in pairs:
        spread = max(published * (1 - published), 0.02) / (FEW // 2)
        assert found == pytest.approx(published, abs=5 * spread**0.5)


def test_the_committed_page_meets_what_is_asked_of_the_gate() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert "3 % with n = 400" in text  # unchanged: passes in 90 %
    found = re.search(r"^\| 5 % \| ([\d.]+) % \|.*\| 353 \| 209 \|$", text, re.MULTILINE)
    assert found is not None and float(found.group(1)) >= 90
    repeats = re.search(rf"^\| {POLICY.time.repeats} \| ([\d.]+) % \|", text, re.MULTILINE)
    assert repeats is not None and float(repeats.group(1)) >= 80


def test_the_published_ladder_has_so_many_cells_with_something_to_lose() -> None:
    evidence = load_evidence(ROOT / "results" / "published" / "ladder")
    counted = [
        any(sample.scores["exact_match"] == 1 for sample in samples)
        for (arm, _), samples in evidence.groups.items()
        if arm not in CONTROLS
    ]
    assert sum(counted) == rates_page.RIVAL_CELLS
    assert len(evidence.run.tasks) * 3 == rates_page.LADDER_CELLS


def test_the_published_runs_agree_as_the_page_says() -> None:
    folder = ROOT / "results" / "published"
    ladder, alone = (load_evidence(folder / n) for n in ("ladder", "smollm2-135m-gist-10"))
    assert ladder.run.checkpoint == alone.run.checkpoint
    for arm in ("gist", "full"):
        one, two = (
            {s.prompt_sha256: s.output for s in run.samples(arm, run.task("niah_passkey"))}
            for run in (ladder, alone)
        )
        common = one.keys() & two.keys()
        assert len(common) == rates_page.PUBLISHED_PAIRS
        assert all(one[key] == two[key] for key in common)
