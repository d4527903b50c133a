"""Which prompts are shown as flipped, and what of them."""

from gistbench.report.compare.flips import SHOWN
from gistbench.report.compare.sides import MAX_CHARACTERS
from tests.fixtures.synthetic_run import SyntheticRun
from tests.report.compare.conftest import answering, with_samples

RUN = SyntheticRun(num_samples=10, hits={"gist": 10, "full": 4, "swapped": 0, "none": 0})
BEFORE = answering(RUN, gist="1111100000")


def gist(found):
    return next(group for group in found.flips if group.arm == "gist")


def test_flips_are_named_in_both_directions_with_what_was_expected_and_said(compared):
    group = gist(compared(BEFORE, answering(RUN, gist="1110010000")))
    assert group.heading == "B against A: 2 right then wrong, 1 wrong then right"
    lost, gained = group.lists
    assert (lost.kind, lost.sample_ids) == ("lost", ("niah_passkey-0003", "niah_passkey-0004"))
    assert (gained.kind, gained.sample_ids) == ("gained", ("niah_passkey-0005",))
    flip = lost.shown[0]
    assert flip.expected == flip.before == RUN.key(3)
    assert flip.after == "wrong 3"
    assert gained.shown[0].before == "wrong 5"
    assert lost.caption.startswith("niah_passkey, right then wrong: 2 of 10 prompts in common")


def test_only_the_first_are_shown_and_the_rest_is_counted_and_named(compared):
    group = gist(compared(answering(RUN, gist="1" * 10), answering(RUN, gist="0" * 10)))
    (lost,) = group.lists
    assert len(lost.shown) == SHOWN
    assert len(lost.sample_ids) == 10
    assert f"10 of 10 prompts in common; the first {SHOWN} are shown" in lost.caption


def test_where_nothing_flipped_it_says_so(compared):
    group = gist(compared(BEFORE, BEFORE))
    assert group.lists == ()
    assert group.heading == "B against A: no prompt flipped"


def test_long_outputs_are_cut_and_say_how_much(compared):
    after = with_samples(
        answering(RUN, gist="0" * 10),
        output=lambda s: "w" * (MAX_CHARACTERS + 70) if s.arm == "gist" else s.output,
    )
    flip = gist(compared(BEFORE, after)).lists[0].shown[0]
    assert flip.after == "w" * MAX_CHARACTERS
    assert flip.after_cut == "70 characters cut"
