"""The pages show what the records hold, and nothing that was not measured as a number."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gistbench.errors import UsageError
from gistbench.records import NotMeasured
from gistbench.report.savings.render import (
    html_page,
    lengths_card,
    lengths_tables,
    markdown_page,
    render_lengths,
    render_savings,
    savings_card,
    savings_tables,
)
from gistbench.storage import write_json
from tests.fixtures.savings import lengths_record, precision, savings_record

NOTHING = NotMeasured(not_measured="no NVIDIA GPU in this run")


def test_a_page_is_one_file_with_its_charts_and_the_tables_behind_them(tmp_path: Path) -> None:
    write_json(tmp_path / "savings.json", savings_record())
    card, page = render_savings(tmp_path)
    text = page.read_text()
    assert text.count("<svg") == 1 and "<script" not in text
    assert not re.search(r'(src|href)="(?!#|data:)', text)
    for section in card.sections:
        assert f'<section id="{section.id}"' in text
        assert f'<a href="#{section.id}">' in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert "13,926" in text and "13,926" in (tmp_path / "savings.md").read_text()
    assert [section.id for section in card.sections] == [
        "ratios",
        "budget",
        "questions",
        "apart",
        "phases",
        "bytes",
    ]


def test_a_ratio_above_its_floor_ratio_is_called_broken_before_anything_else() -> None:
    card = savings_card(savings_record())
    (text,) = card.broken
    assert text.startswith("Tokens a second within the budget, bf16: 39.23x lies above the floor")
    page = html_page(card)
    assert page.index("BROKEN MEASUREMENT") < page.index('id="ratios"')
    assert 'class="badge INVALID">39.23x' in page
    assert "BROKEN: above its floor ratio" in markdown_page(card)
    table = savings_tables(card)[0]
    assert any("BROKEN" in str(cell) for column in table.columns for cell in column.cells)


def test_bytes_that_differ_from_their_prediction_are_an_error_shown_as_such() -> None:
    made = precision("nf4")
    wrong = made.key_values[1].model_copy(update={"measured_bytes": 1_310_721})
    card = savings_card(
        savings_record(made.model_copy(update={"key_values": (made.key_values[0], wrong)}))
    )
    assert (
        "Keys and values of gist, NF4: 1,310,721 bytes measured, 1,310,720 predicted."
        in card.broken
    )
    assert 'class="badge FAIL">NOT EQUAL' in html_page(card)
    assert html_page(card).count('class="badge PASS">equal') == 1


def test_what_was_not_measured_says_why_and_is_no_number() -> None:
    made = precision("none", stored=NOTHING, answered=NOTHING, throughput=NOTHING)
    card = savings_card(savings_record(made, precision("nf4")))
    page = markdown_page(card)
    assert "| stored | not measured (1) | not measured (1) |" in page
    assert "Not measured: no NVIDIA GPU in this run" in page


def test_a_share_that_there_cannot_be_is_not_called_unmeasured() -> None:
    """NF4 makes reading slower in the made-up record: there is no saving to share."""
    card = savings_card(savings_record())
    (shares,) = [t for t in savings_tables(card) if str(t.title).startswith("Whose saving")]
    shown = [str(cell) for column in shares.columns for cell in column.cells]
    assert shown.count("N/A") >= 4 and "not measured" not in shown
    row = next(line for line in markdown_page(card).splitlines() if "N/A (1)" in line)
    assert row.count("N/A (1)") == 4


def test_the_page_says_what_the_floors_of_nf4_count() -> None:
    old = precision("nf4")
    counted = tuple(cost.model_copy(update={"unpacked_parameters": 0}) for cost in old.phases or ())
    assert isinstance(old.throughput, tuple)
    rounds = tuple(
        side.model_copy(update={"unpacked_parameters": 6_979_321_856}) for side in old.throughput
    )
    new = old.model_copy(update={"phases": counted, "throughput": rounds})
    mixed = old.model_copy(update={"phases": counted})
    said = {
        name: markdown_page(savings_card(savings_record(made)))
        for name, made in (
            ("old", old),
            ("new", new),
            ("mixed", mixed),
            ("none", precision("none")),
        )
    }
    packed, unpacked = "count packed weights alone", "read packed, written and read again"
    assert {name for name, page in said.items() if packed in page} == {"old", "mixed"}
    assert {name for name, page in said.items() if unpacked in page} == {"new"}


def test_a_part_that_was_not_asked_for_leaves_no_section() -> None:
    made = precision("nf4", phases=None, stored=None, answered=None, throughput=None)
    card = savings_card(savings_record(made))
    assert [section.id for section in card.sections] == ["ratios", "bytes"]
    assert any("Not in this record: bf16" in note for note in card.notes)
    page = html_page(card)
    assert "<svg" not in page and "Gists and NF4 apart" not in page


def test_long_reads_are_two_curves_and_a_table(tmp_path: Path) -> None:
    write_json(tmp_path / "lengths.json", lengths_record())
    card, page = render_lengths(tmp_path)
    text = page.read_text()
    assert text.count("<svg") == 2
    (section,) = card.sections
    groups = {group.title: group.rows for group in section.tables[0].groups}
    over = groups["peak over weights, keys and values"][2].cells
    read = lengths_record().precisions[0].reads[-2]
    assert over[1].value == read.peak_bytes / read.needed_bytes  # type: ignore[operator]
    assert over[0].not_measured == "128,000 tokens read once do not fit on this GPU"
    flat = groups["peak over that of the shortest read in the same way"]
    assert flat[0].cells[2].value == 1.0 and 1 < (flat[2].cells[2].value or 0) < 1.01
    assert lengths_tables(lengths_card(lengths_record()))


def test_foreign_text_in_a_record_is_shown_and_not_obeyed() -> None:
    made = savings_record().model_copy(update={"command": "</code><script>alert(1)</script>\u202e"})
    page = html_page(savings_card(made))
    assert "<script>" not in page and "\u202e" not in page


def test_a_folder_without_a_record_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"savings\.json cannot be read"):
        render_savings(tmp_path)
