"""What many tasks, lengths and rivals add: recovered bits, effective length, cost, a short page."""

from pathlib import Path

import pytest
import yaml

from gistbench.records import NotApplicable
from gistbench.report import Scorecard, render, summary_table
from gistbench.report.criteria import load_criteria
from gistbench.report.scorecard import build_scorecard
from gistbench.report.sections.fairness import fairness
from gistbench.report.sections.figures import arm_figures
from gistbench.report.sections.length_table import effective_lengths
from gistbench.report.sections.recovered import bits_points, recovered_bits
from gistbench.report.sections.tradeoff import CORE_TASKS, tradeoff
from gistbench.report.statistics import mean, wilson
from gistbench.storage import read_json
from tests.fixtures.ladder_run import BITS, KV, LadderRun, usual_rate

TASKS = Path(__file__).parents[2] / "tasks"
SMALL = LadderRun(
    tasks=("niah_passkey", "niah_uuid", "niah_update"),
    arms=("gist", "full", "full-tuned", "truncate-10", "truncate-64", "swapped", "none"),
)


# ---------------------------------------------------------------------------------- recovered bits


def test_recovered_bits_are_the_rate_times_the_bits_over_the_gists(read):
    passkey, uuid = bits_points(read(SMALL))
    assert (passkey.label, uuid.label) == ("niah_passkey", "niah_uuid")  # the update recalls none
    rate = wilson(47, 50)
    each = BITS["niah_passkey"] / 10
    assert passkey.recovered.value == pytest.approx(each * rate.value)
    assert (passkey.recovered.low, passkey.recovered.high) == pytest.approx(
        (each * rate.low, each * rate.high)
    )
    assert passkey.ratio.value == 492.5
    assert passkey.capacity.value == 8 * KV
    assert uuid.answer_bits.value == 128


def test_bits_that_differ_between_samples_have_a_t_interval():
    samples = LadderRun(tasks=("niah_passkey",), arms=("gist",), num_samples=20).samples()
    changed = [
        s.model_copy(update={"entropy_bits": 20.0 if s.index % 2 else 10.0}) for s in samples
    ]
    values = [(s.entropy_bits or 0) * s.scores["exact_match"] / 10 for s in changed]
    found, expected = recovered_bits(tuple(changed)), mean(values)
    assert expected is not None
    assert (found.value, found.high) == pytest.approx((expected.value, expected.high))


def test_no_bits_are_claimed_where_the_entropy_is_not_recorded(read):
    run = SMALL.but(sample_change=lambda s: s.model_copy(update={"entropy_bits": None}))
    assert bits_points(read(run)) == ()


# -------------------------------------------------------------------------------- effective length


def falling(arm, task, tokens):
    if arm in ("swapped", "none"):
        return 0.0
    return {1024: 1.0, 2048: 0.96, 4096: 0.3 if arm == "gist" else 0.98}[tokens]


def test_the_effective_length_is_the_longest_that_keeps_its_score(read):
    run = SMALL.but(lengths=(4096, 1024, 2048), rate=falling, num_samples=200)
    (table, *_) = effective_lengths(read(run))
    cells = dict(zip(table.columns, table.groups[0].rows[0].cells, strict=True))
    assert "none" not in cells and "swapped" not in cells
    assert cells["gist"].text == "2,048 tokens"
    assert cells["full"].text == "at least 4,096 tokens"


def test_a_score_that_is_guessing_at_the_shortest_length_has_no_effective_length(read):
    run = SMALL.but(lengths=(4096, 1024), rate=lambda *_: 0.0)
    (table, *_) = effective_lengths(read(run))
    assert all(cell.not_measured for row in table.groups[0].rows for cell in row.cells)


def test_one_length_has_no_effective_length(read):
    assert effective_lengths(read(SMALL)) == ()


# ------------------------------------------------------------------------------------------- cells


def test_what_cannot_be_is_neither_zero_nor_failed(tmp_path):
    reason = "truncate-64 cannot keep 64 of 32 context tokens"
    out = NotApplicable(arm="truncate-64", context_tokens=32, reason=reason)
    never = NotApplicable(arm="kv-snapkv-10", context_tokens=32, reason="it always keeps 64 tokens")
    run = SMALL.but(lengths=(32,), not_applicable=(out, never))
    arms = tuple(a for a in run.record().arms if a.name != "truncate-64")
    paths = render(run.but(run_changes={"arms": arms}).write(tmp_path / "run"))
    card = read_json(paths.json, Scorecard)
    by_name = {arm.name: arm for arm in card.arms}
    for name in ("truncate-64", "kv-snapkv-10"):
        figure = by_name[name].accuracy["niah_passkey"]["exact_match"]
        assert (figure.text, figure.value, figure.not_applicable) == ("N/A", None, True)
    for text in (paths.html.read_text("utf-8"), paths.markdown.read_text("utf-8")):
        assert "N/A (" in text
        assert "Not applicable: it always keeps 64 tokens" in text
    assert {c.status for c in card.checks if c.id == "complete"} == {"OK"}
    assert not any("kv-snapkv" in pair.text for pair in card.pairs)


def test_a_cell_that_a_merged_run_did_not_ask_for_is_not_measured(read):
    def passkey_alone(sample):
        other = sample.arm == "full" and sample.task != "niah_passkey"
        return None if other else sample

    parts = SMALL.record().parts
    rest = parts[0].model_copy(update={"arms": tuple(a for a in SMALL.arms if a != "full")})
    full = parts[0].model_copy(update={"arms": ("full",), "tasks": ("niah_passkey",)})
    run = SMALL.but(sample_change=passkey_alone, run_changes={"parts": (rest, full)})
    (arm,) = (arm for arm in arm_figures(read(run)) if arm.name == "full")
    figure = arm.accuracy["niah_uuid"]["exact_match"]
    assert figure.not_measured == "this arm was not run on this task"
    assert arm.complete


def test_absence_has_balanced_accuracy_and_its_three_rates(read):
    def always_none(sample):
        if sample.arm != "gist":
            return sample
        right = float(sample.expected == "none")
        scores = {"exact_match": right, "contains": right, "said_none": 1.0, "stated_key": 0.0}
        return sample.model_copy(update={"output": "none", "scores": scores})

    run = SMALL.but(tasks=("niah_absent",), sample_change=always_none)
    gist = arm_figures(read(run))[0].accuracy["niah_absent"]
    assert gist["balanced_accuracy"].value == 0.5
    assert gist["none_on_absent"].value == gist["none_on_present"].value == 1
    assert gist["key_on_absent"].value == 0
    card = build_scorecard(read(run), load_criteria())
    labels = [row.label for group in card.comparison.groups for row in group.rows]
    assert '"none" where a key is hidden' in labels


# ---------------------------------------------------------------------------------------- tradeoff


def test_core_tasks_are_those_of_the_lm_eval_group():
    group = yaml.safe_load((TASKS / "gistbench_core.yaml").read_text(encoding="utf-8"))
    assert list(CORE_TASKS) == group["task"]


def test_accuracy_against_bytes_is_the_mean_over_tasks_that_tell_arms_apart(read):
    run = SMALL.but(tasks=("niah_passkey", "niah_digits_40", "niah_update"))
    found = tradeoff(read(run))
    assert found is not None
    assert found.panels == ("mean of the 2 tasks that tell arms apart", "niah_passkey")
    points = {point.arm: point for point in found.points}
    assert set(points) == {"gist", "full", "full-tuned", "truncate-10", "truncate-64"}
    assert points["truncate-64"].cache_bytes == 64 * KV
    rates = [usual_rate("gist", task, 4925) for task in ("niah_passkey", "niah_update")]
    hits = [round(50 * rate) / 50 for rate in rates]
    assert points["gist"].rates[0].value == pytest.approx(sum(hits) / 2)


def test_without_full_tuned_the_passkey_task_stands_for_the_mean(read):
    found = tradeoff(read(SMALL.but(arms=("gist", "full", "truncate-10", "swapped", "none"))))
    assert found is not None and found.panels == ("niah_passkey",)


def test_a_run_without_budgets_has_no_tradeoff(read):
    assert tradeoff(read(SMALL.but(arms=("gist", "full", "swapped", "none")))) is None


def test_arms_that_know_the_question_are_marked(read):
    run = SMALL.but(arms=("gist", "full", "full-tuned", "rag-10", "swapped", "none"))
    evidence = read(run)
    found = tradeoff(evidence)
    assert found is not None
    assert {point.arm for point in found.points if point.sees_question} == {"rag-10"}
    assert {row.label for row in found.table.groups[0].rows if row.note} == {"rag-10"}
    assert "rag-10 knew the question before reading" in " ".join(fairness(evidence))


# ---------------------------------------------------------------------------------------- fairness


def test_with_full_tuned_the_even_comparison_is_named(read):
    words = " ".join(fairness(read(SMALL)))
    assert "The even comparison is gist against full-tuned" in words
    assert "not that gists hold more than the context" not in words


def test_a_full_tuned_trained_on_something_else_is_no_even_comparison(read):
    arms = tuple(
        arm.model_copy(update={"trained_on": ("niah_uuid",)}) if arm.name == "full-tuned" else arm
        for arm in SMALL.record().arms
    )
    words = " ".join(fairness(read(SMALL.but(run_changes={"arms": arms}))))
    assert "their comparison is not even" in words


# ---------------------------------------------------------------------------------------- the page


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """Eighteen tasks and 33 arms."""
    return render(LadderRun(num_samples=20).write(tmp_path_factory.mktemp("big") / "run"))


def test_a_big_run_is_a_page_that_can_be_sent(big):
    text = big.html.read_text("utf-8")
    assert len(text) < 1_500_000
    assert text.count("<script") == 1
    for section in ("arms", "paired", "tradeoff", "bits", "depth"):
        assert f'<section id="{section}"' in text and f'href="#{section}"' in text


def test_a_big_run_shows_the_main_arms_and_each_rival_behind_a_click(big):
    card = read_json(big.json, Scorecard)
    assert card.comparison.columns == ("gist", "full", "full-tuned", "swapped", "none")
    assert [table.columns[0] for table in card.rivals][:2] == ["truncate-10", "mean-pool-10"]
    assert sum(len(table.columns) for table in card.rivals) == 28
    assert len([row for row in card.paired if row.first == "gist"]) == 18 * 30
    assert sum(table.open for table in card.depth) == 1
    assert summary_table(card).row_count >= 3


def test_rivals_at_other_lengths_are_in_the_record_and_not_on_the_page(tmp_path):
    paths = render(LadderRun(lengths=(512, 256), num_samples=10).write(tmp_path / "run"))
    card = read_json(paths.json, Scorecard)
    text = paths.html.read_text("utf-8")
    rival = [row for row in card.paired if row.second == "truncate-10"]
    assert [row.judged for row in rival] == [True] * 18 + [False] * 18
    table = text[text.index('aria-label="gist against truncate-10"') :]
    table = table[: table.index("</table>")]
    assert "niah_uuid, 512 tokens" in table and "niah_uuid, 256 tokens" not in table
    assert "Other lengths are in scorecard.json" in text


def test_rows_of_every_table_are_as_wide_as_its_head(big):
    card = read_json(big.json, Scorecard)
    assert card.paired_matrix is not None and card.looser is not None
    for table in (card.comparison, card.paired_matrix, card.looser, *card.rivals):
        for group in table.groups:
            assert all(len(row.cells) == len(table.columns) for row in group.rows)


def test_markdown_of_a_big_run_has_whole_tables(big):
    width = None
    for line in big.markdown.read_text("utf-8").splitlines():
        bars = line.replace("\\|", "").count("|") if line.startswith("|") else None
        assert width is None or bars is None or bars == width, line
        width = bars
