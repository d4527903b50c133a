"""The page, the record and the table of a comparison: whole, self-contained, safe."""

import io
import json

import pytest
from rich.console import Console

from gistbench.errors import UsageError
from gistbench.report.compare import Comparison, comparison_table, write_comparison
from gistbench.storage import read_json
from tests.fixtures.page_reader import PageReader
from tests.fixtures.synthetic_run import SyntheticRun
from tests.report.compare.conftest import answering, with_samples

HOSTILE = "<script>alert(1)</script>`|[x](http://e.com)\u202e\u0000\u200b" + "y" * 100_000
RUN = SyntheticRun(num_samples=10, hits={"gist": 10, "full": 4, "swapped": 0, "none": 0})
BEFORE, AFTER = answering(RUN, gist="1111100000"), answering(RUN, gist="1110010000")
LEAKING = SyntheticRun(hits={"gist": 40, "full": 4, "swapped": 30, "none": 0})


def written(found, folder):
    paths = write_comparison(found, folder)
    return PageReader(paths.html.read_text(encoding="utf-8")), paths


def printed(found):
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(comparison_table(found))
    return console.export_text()


def hostile():
    base = RUN.record().base.model_copy(update={"name": "$a_{b}$<script>[red]\u202e\x1b[31m"})

    def output(sample):
        return HOSTILE if sample.arm == "gist" else sample.output

    def sample_id(sample):
        return f"<img src=x onerror=alert(2)>{sample.index}"

    def donor(sample):
        return f"<img src=x onerror=alert(2)>{(sample.index + 1) % 10}"

    run = with_samples(answering(RUN, gist="0" * 10), output=output, sample_id=sample_id)
    return with_samples(run, donor_sample_id=donor).but(
        run_changes={"base": base, "settings": {"<b>x</b>": "<script>|\u2066"}}
    )


def test_the_page_needs_no_network_and_no_script_and_is_well_formed(compared, tmp_path):
    for name, runs in (("two", (BEFORE, AFTER)), ("leak", (BEFORE, AFTER, LEAKING, hostile()))):
        page, _ = written(compared(*runs), tmp_path / name)
        page.require_self_contained()
        page.require_accessible()


def test_the_page_says_first_what_the_paired_tests_say(compared, tmp_path):
    good, bad = answering(RUN, gist="1" * 10), answering(RUN, gist="0" * 10)
    page, _ = written(compared(good, bad), tmp_path / "out")
    first = page.words.split("The runs")[0]
    assert "gist, B against A on niah_passkey: worse, -100.0 points" in first


def test_of_many_comparisons_the_first_stand_on_top_and_the_rest_is_counted(compared):
    lines = compared(BEFORE, *[AFTER] * 5).headlines  # five runs of two arms
    assert len(lines) == 9
    assert lines[-1] == "And 2 more comparisons, prompt by prompt below."


def test_a_leak_in_one_run_stands_above_everything_else(compared, tmp_path):
    found = compared(SyntheticRun(), LEAKING)
    page, paths = written(found, tmp_path / "out")
    top = page.words.split("gist, B against A")[0]
    assert "INVALID-LEAK. A control arm knew what it cannot know." in top
    assert "B: swapped on niah_passkey: right in 30 of 40" in top
    markdown = paths.markdown.read_text(encoding="utf-8")
    assert markdown.index("**INVALID-LEAK.**") < markdown.index("## The runs")
    assert "INVALID-LEAK: B: swapped" in printed(found).splitlines()[1]


def test_hostile_text_stays_text(compared, tmp_path):
    page, paths = written(compared(BEFORE, hostile()), tmp_path / "out")
    assert len(page.source) < 200_000
    assert "<script>alert(1)</script>" in page.text
    markdown = paths.markdown.read_text(encoding="utf-8")
    for picture in ("⟨U+202E⟩", "⟨NUL⟩", "⟨U+200B⟩", "⟨U+2066⟩", "characters cut"):
        assert picture in page.text
    for character in "\u202e\u0000\u200b\u2066\x1b":
        assert character not in page.source
        assert character not in markdown
    assert "<script>" not in markdown


def test_the_terminal_table_is_safe_against_markup(compared):
    text = printed(compared(BEFORE, hostile()))
    assert "[red]⟨U+202E⟩⟨ESC⟩" in text
    assert "\x1b" not in text


def test_the_record_survives_its_file_and_is_plain_json(compared, tmp_path):
    found = compared(BEFORE, AFTER)
    _, paths = written(found, tmp_path / "out")
    assert read_json(paths.json, Comparison) == found
    text = paths.json.read_text(encoding="utf-8")
    assert json.loads(text)["pairs"][0]["rows"][0]["only_second"] == 2
    assert "NaN" not in text


def test_the_same_runs_give_the_same_bytes(compared, tmp_path):
    found = [written(compared(BEFORE, AFTER), tmp_path / name)[1] for name in ("one", "two")]
    for name in ("html", "json", "markdown"):
        one, two = (getattr(paths, name).read_bytes() for paths in found)
        assert one == two


def test_the_markdown_has_whole_tables(compared, tmp_path):
    _, paths = written(compared(BEFORE, AFTER, LEAKING), tmp_path / "out")
    widths: dict[int, tuple[int, int]] = {}
    for number, line in enumerate(paths.markdown.read_text(encoding="utf-8").splitlines()):
        if line.startswith("|"):
            start = widths.get(number - 1, (number, line.count("|")))
            assert line.count("|") == start[1], line
            widths[number] = start
    assert len({start for start, _ in widths.values()}) >= 6


def test_up_to_three_runs_share_a_table_and_more_have_rates_and_verdicts_apart(compared):
    (table,) = compared(BEFORE, AFTER, AFTER).accuracy
    assert table.columns == ("A", "B", "B against A", "C", "C against A")
    rates, verdicts = compared(BEFORE, AFTER, AFTER, BEFORE).accuracy
    assert rates.columns == ("A", "B", "C", "D")
    assert verdicts.columns == ("B against A", "C against A", "D against A")
    assert [len(row.cells) for group in verdicts.groups for row in group.rows] == [3, 3]


def test_two_checkpoints_carry_the_note_that_each_was_trained_once(compared):
    other = RUN.record().checkpoint.model_copy(update={"sha256": "01" * 32})
    notes = compared(BEFORE, AFTER.but(run_changes={"checkpoint": other})).notes
    assert any("Each comes from one training" in note for note in notes)
    assert not any("training" in note for note in compared(BEFORE, AFTER).notes)


def test_another_precision_carries_a_note_since_ratios_are_formed_across_it(compared):
    base = RUN.record().base.model_copy(update={"quantization": "nf4"})
    notes = compared(BEFORE, AFTER.but(run_changes={"base": base})).notes
    assert any(note.startswith("Other precision: ") for note in notes)
    assert not any("precision" in note for note in compared(BEFORE, AFTER).notes)


def test_scores_and_criteria_stand_side_by_side(compared):
    table = compared(SyntheticRun(), LEAKING).standing
    assert [cell.text for cell in table.groups[0].rows[0].cells] == ["80 of 100", "50 of 100"]
    passkey = next(row for row in table.groups[1].rows if row.label == "Passkey accuracy")
    assert [cell.badge for cell in passkey.cells] == ["PASS", "NOT_MEASURED"]


def test_a_folder_that_cannot_be_written_is_one_sentence(compared, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        write_comparison(compared(BEFORE, AFTER), tmp_path / "file" / "out")


def test_the_command_repeats_the_comparison(compared, tmp_path):
    found = compared(BEFORE, AFTER, arms=("gist", "gist:full"))
    folders = f"{tmp_path / 'A'} {tmp_path / 'B'}"
    assert found.command == f"gistbench compare {folders} --arms gist,gist:full"
