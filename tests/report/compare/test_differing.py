"""What is listed as different, and what as the same."""

from gistbench.report.compare.differing import alike, differing
from gistbench.report.compare.sides import cells
from tests.fixtures.synthetic_run import SyntheticRun

RUN = SyntheticRun(num_samples=4, hits={"gist": 4, "full": 2, "swapped": 0, "none": 0})


def found(sides, *runs):
    read = sides(*runs)
    return {
        group.title: {row.label: row.values for row in group.rows}
        for group in differing(read, cells(read))
    }


def changed(record, **fields):
    return record.model_copy(update=fields)


def test_runs_of_the_same_thing_differ_in_nothing(sides):
    assert found(sides, RUN, RUN) == {}


def test_only_what_differs_is_listed(sides):
    record = RUN.record()
    other = RUN.but(
        run_changes={
            "base": changed(record.base, quantization="nf4"),
            "checkpoint": changed(record.checkpoint, name="passkey-20", num_gists=20),
            "provenance": changed(
                record.provenance, git_commit="feedbeef", packages={"torch": "2.13.0"}
            ),
        }
    )
    assert found(sides, RUN, other) == {
        "Base model": {"quantisation": ("none", "nf4")},
        "Gist checkpoint": {"name": ("passkey-10", "passkey-20"), "gists": ("10", "20")},
        "Versions": {
            "commit": ("0123abcd", "feedbeef"),
            "torch": ("2.11.0", "2.13.0"),
            "transformers": ("5.17.0", "–"),
        },
    }


def test_an_option_left_alone_is_the_same_as_one_that_did_not_exist_yet(sides):
    old = RUN.but(run_changes={"settings": {"batch_size": 8}})
    new = RUN.but(run_changes={"settings": {"batch_size": 8, "haystack": None}})
    assert found(sides, old, new) == {}
    newer = RUN.but(run_changes={"settings": {"batch_size": 9, "haystack": "mine"}})
    assert found(sides, old, newer) == {
        "Settings": {"batch_size": ("8", "9"), "haystack": ("–", "mine")}
    }


def test_arms_and_tasks_that_not_all_have_are_named(sides):
    more = RUN.but(tasks=("niah_passkey", "niah_uuid"), hits={**RUN.hits, "full-tuned": 1})
    assert found(sides, RUN, more)["What ran"] == {
        "arms that not all have": ("–", "full-tuned"),
        "tasks that not all have": ("–", "niah_uuid"),
    }


def test_a_run_without_a_checkpoint_is_told_by_name_alone(sides):
    without = RUN.but(run_changes={"checkpoint": None})
    assert found(sides, RUN, without) == {"Gist checkpoint": {"name": ("passkey-10", "–")}}


def test_uncommitted_changes_are_a_difference(sides):
    dirty = changed(RUN.record().provenance, git_dirty=True)
    assert found(sides, RUN, RUN.but(run_changes={"provenance": dirty})) == {
        "Versions": {"commit": ("0123abcd", "0123abcd, with uncommitted changes")}
    }


def test_what_all_share_is_one_sentence(sides):
    base = changed(RUN.record().base, dtype="float32")
    assert alike(sides(RUN, RUN.but(run_changes={"base": base}))) == (
        "The same in all: base weights, gist checkpoint, device, gistbench's commit."
    )
