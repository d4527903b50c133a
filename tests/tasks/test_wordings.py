"""Claims about needles and questions that share no word with each other or with training."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TASKS = Path(__file__).resolve().parents[2] / "tasks"
WORDINGS = json.loads((TASKS / "wordings_en.json").read_text(encoding="utf-8"))
TASK = "niah_passkey_wordings"
SPLITS = ("validation", "test")
every_split = pytest.mark.parametrize("split", SPLITS)


def _sample(niah: Any, tokenizer: Any, index: int = 0, **changes: Any) -> Any:
    arguments = {"split": "test", "context_tokens": 3000, "seed": 0, **changes}
    return niah.build_sample(tokenizer, task=TASK, index=index, **arguments)


def _stems(texts: list[str], function_words: set[str]) -> set[str]:
    """Content words without slots, endings and what follows an apostrophe."""
    found = set()
    for text in texts:
        plain = re.sub(r"\{[^}]*\}|<\w+>|\[[^]]*\]|'s?\b", " ", text.lower())
        for word in re.findall(r"[a-z]+", plain):
            if word not in function_words:
                found.add(re.sub(r"(?<=[a-z]{3})(?:ing|ed|es|e|s)$", "", word))
    return found


@pytest.fixture(scope="module")
def function_words(niah: Any) -> set[str]:
    return {*niah.haystack.function_words("en"), *WORDINGS["function_words"].split()}


def test_the_function_words_are_few_and_closed(function_words: set[str]) -> None:
    assert len(function_words) < 200
    assert not function_words & {"pass", "key", "number", "open", "door", "digits"}


@every_split
def test_a_needle_shares_no_content_word_with_its_question(
    split: str, function_words: set[str]
) -> None:
    for needle, question in WORDINGS[split]:
        assert needle.count("{key}") == 1
        in_needle, in_question = (_stems([text], function_words) for text in (needle, question))
        assert in_needle and in_question
        assert not in_needle & in_question, needle


@every_split
def test_no_content_word_occurs_in_a_training_wording(
    niah: Any, split: str, function_words: set[str]
) -> None:
    trained = [*niah.needles.needle_templates("en", "train")]
    for group in ("labelled_needles", "update_needles", "errand_needles"):
        trained += niah.needles.templates(group, "train")
    trained += niah.haystack.data_of("en")["stray_questions"]["train"]
    for options in niah.needles.needle_grammar("en", "train").values():
        trained += options
    seen = _stems(trained, function_words)
    assert {"pass", "key"} < seen
    ours = _stems([text for pair in WORDINGS[split] for text in pair], function_words)
    assert not ours & seen


@every_split
def test_no_content_word_occurs_in_the_haystack(
    niah: Any, split: str, function_words: set[str]
) -> None:
    ours = _stems([text for pair in WORDINGS[split] for text in pair], function_words)
    assert not ours & _stems(list(niah.haystack.vocabulary("en", split)), function_words)


def test_the_splits_share_no_wording_and_no_content_word(function_words: set[str]) -> None:
    words = [
        _stems([text for pair in WORDINGS[split] for text in pair], function_words)
        for split in SPLITS
    ]
    assert not words[0] & words[1]
    assert len({question for _, question in WORDINGS["test"]}) >= 12
    assert len({needle for needle, _ in WORDINGS["test"]}) == len(WORDINGS["test"])


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    context_tokens=st.integers(1500, 4000),
    index=st.integers(0, 10**6),
    split=st.sampled_from(SPLITS),
)
def test_context_is_exactly_as_long_as_asked(
    niah: Any, byte_tokenizer: Any, context_tokens: int, index: int, split: str
) -> None:
    sample = _sample(niah, byte_tokenizer, index, split=split, context_tokens=context_tokens)
    assert len(sample.context.encode()) == context_tokens  # a byte is a token here


@every_split
def test_needle_and_question_belong_to_each_other(
    niah: Any, byte_tokenizer: Any, split: str
) -> None:
    seen = set()
    for index in range(60):
        sample = _sample(niah, byte_tokenizer, index, split=split, context_tokens=1500)
        pair = [sample.needle.replace(sample.answer, "{key}"), sample.question.strip()]
        assert pair in WORDINGS[split]
        assert sample.context.count(sample.needle) == 1
        assert re.findall(r"\d{5,}", sample.prompt) == [sample.answer]
        assert niah.needles.key_split(sample.answer) == split
        seen.add(sample.question)
    assert len(seen) > 0.8 * len(WORDINGS[split])


def test_it_is_never_trained_on(niah: Any, byte_tokenizer: Any) -> None:
    with pytest.raises(ValueError, match=f"{TASK} is never trained on"):
        _sample(niah, byte_tokenizer, split="train")


@pytest.mark.parametrize("task", [TASK, "own_jsonl"])
def test_a_training_on_it_is_refused_by_name(task: str) -> None:
    from gistbench import generators
    from gistbench.errors import UsageError

    with pytest.raises(UsageError, match=f"task {task} is never trained on"):
        generators.require_trained(("niah_passkey", task))
    generators.require_trained(("niah_passkey", "niah_passkey_prose", "document_topic"))


@pytest.mark.parametrize("task", [TASK, "niah_passkey_prose"])
def test_the_declared_floor_is_that_of_guessing(niah: Any, task: str) -> None:
    from gistbench import generators

    metadata = generators.task_definition(task)["metadata"]
    assert metadata["chance_floor"] == 1 / niah.needles.NUM_KEYS
