"""Nothing invisible stays invisible, and nothing is changed twice."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gistbench.report.page.visible_text import cut, cut_note, visible, visible_ends


def test_control_and_bidirectional_characters_become_readable():
    assert visible("a\u202eb\u0000\n") == "a⟨U+202E⟩b⟨NUL⟩⟨LF⟩"
    assert visible("한국어 12345 é") == "한국어 12345 é"


def test_spaces_at_the_ends_are_seen():
    assert visible_ends(" 1 2  ") == "⟨SP⟩1 2⟨SP⟩⟨SP⟩"
    assert visible_ends("  ") == "⟨SP⟩⟨SP⟩"


@given(st.text())
@settings(max_examples=100, deadline=None)
def test_visible_text_is_printable_and_stays_as_it_is(text):
    shown = visible(text)
    assert all(c.isprintable() or c.isspace() for c in shown)
    assert visible(shown) == shown


def test_a_cut_says_how_much_it_took():
    assert cut("abcdef", 4) == ("abcd", 2)
    assert cut("abcdef", 4, keep_end=True) == ("cdef", 2)
    assert cut("abc", 3) == ("abc", 0)
    assert cut("abc", 0, keep_end=True) == ("", 3)
    assert cut_note(12_345) == "12,345 characters cut"
    assert cut_note(0) == ""
