"""The committed power table is what the code gives."""

from pathlib import Path

from gistbench.report.power_page import power_page

PAGE = Path(__file__).parents[2] / "docs" / "power.md"


def test_the_committed_page_is_what_the_code_gives():
    assert PAGE.read_text(encoding="utf-8") == power_page()


def test_the_page_says_what_two_hundred_and_four_hundred_prompts_can_show():
    text = power_page()
    assert "**n = 200**" in text and "**n = 400**" in text
    assert "0 of 200 leaves anything up to 1.9 % open" in text  # Wilson: 3.84 / (200 + 3.84)
