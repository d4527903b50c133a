"""Claims about arms as an lm-eval model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from lm_eval.api.instance import Instance

from gistbench import generators
from gistbench.arms.base import Prompt, Reader
from gistbench.arms.gist import Gist
from gistbench.core.cache import ContextCache
from gistbench.errors import UsageError
from gistbench.evaluation.answers import AnswerFile
from gistbench.evaluation.engine import Engine
from gistbench.evaluation.lm import ArmLM, with_donors
from gistbench.models.prompts import PromptTokens, cut_at
from tests.fixtures.engines import make_doc, make_engine, make_prompt

GREEDY = {"do_sample": False, "temperature": 0.0, "max_gen_toks": 8, "until": ["\n", "."]}


@pytest.fixture(scope="module")
def engine(tiny_base: Path) -> Engine:
    return make_engine("full", tiny_base)


@pytest.fixture
def lm(engine: Engine) -> ArmLM:
    return ArmLM(engine, batch_size=1, identity={"arm": "full"})


def request_for(doc: dict[str, Any], prompt: str | None = None, **options: Any) -> Instance:
    text = doc["context"] + doc["question"] if prompt is None else prompt
    return Instance(
        request_type="generate_until",
        doc=doc,
        arguments=(text, {**GREEDY, **options}),
        idx=0,
        metadata=("niah_passkey", 0, 1),
    )


@pytest.fixture(scope="module")
def doc(engine: Engine) -> dict[str, Any]:
    return make_doc(engine.base.tokenizer, 0)


@pytest.mark.parametrize("options", [{"do_sample": True}, {"temperature": 0.7}])
def test_sampling_is_refused(lm: ArmLM, doc: dict[str, Any], options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="asks for sampling"):
        lm.generate_until([request_for(doc, **options)])


@pytest.mark.parametrize("around", ["Q: 1+1? A: 2\n\n{}", "<|user|>{}", "{} "])
def test_changed_prompts_are_refused(lm: ArmLM, doc: dict[str, Any], around: str) -> None:
    prompt = around.format(doc["context"] + doc["question"])
    with pytest.raises(UsageError, match="prompts with more than context and question"):
        lm.generate_until([request_for(doc, prompt)])


@pytest.mark.parametrize("missing", ["context", "question"])
def test_documents_without_a_seam_are_refused(lm: ArmLM, doc: dict[str, Any], missing: str) -> None:
    whole = doc["context"] + doc["question"]
    part = {name: value for name, value in doc.items() if name != missing}
    with pytest.raises(UsageError, match="does not say where its context ends"):
        lm.generate_until([request_for(part, whole)])


def test_loglikelihoods_are_refused(lm: ArmLM) -> None:
    for ask in (lm.loglikelihood, lm.loglikelihood_rolling):
        with pytest.raises(UsageError, match="generate_until tasks only"):
            ask([])


def test_a_prompt_longer_than_the_positions_is_refused_not_cut(lm: ArmLM, engine: Engine) -> None:
    long = make_doc(engine.base.tokenizer, 0, context_tokens=1010)
    with pytest.raises(
        UsageError, match=r"need 1,0\d\d positions .* the model has 1,024"
    ) as caught:
        lm.generate_until([request_for(long)])
    room = int(str(caught.value).split("--context-tokens ")[1].split()[0])
    fits = make_doc(engine.base.tokenizer, 0, context_tokens=room)
    assert len(lm.generate_until([request_for(fits)])) == 1


def test_samples_of_another_tokenizer_are_refused(lm: ArmLM, doc: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="made for another tokenizer"):
        lm.generate_until([request_for({**doc, "context_tokens": 150})])


def test_outputs_end_before_the_first_stop_string() -> None:
    assert cut_at(" 12345\nand more. Yes", ("\n", ".")) == " 12345"
    assert cut_at(" 12345. Then\n", ("\n", ".")) == " 12345"
    assert cut_at(" 12345입니다.", (".", "입니다")) == " 12345"
    assert cut_at(" 12345", ("\n",)) == " 12345"
    assert cut_at(" 12345", ()) == " 12345"


def test_an_answer_stops_at_its_stop_string(engine: Engine) -> None:
    """The stop is taken from what the model writes of itself."""
    prompt = make_prompt(engine.base.tokenizer, 0)
    free = engine.respond([prompt], until=(), max_new_tokens=12)[0]
    assert free.output_tokens == 12
    stop = free.output[len(free.output) // 2]
    stopped = engine.respond([prompt], until=(stop,), max_new_tokens=12)[0]
    assert stopped.output == free.output.split(stop)[0]
    assert stopped.output_tokens <= 12
    assert stop not in stopped.output


def test_answers_come_back_in_the_order_of_the_requests(engine: Engine) -> None:
    docs = [make_doc(engine.base.tokenizer, index) for index in range(5)]
    alone = [
        ArmLM(engine, batch_size=1, identity={}).generate_until([request_for(doc)])[0]
        for doc in docs
    ]
    together = ArmLM(engine, batch_size=3, identity={}).generate_until(
        [request_for(doc) for doc in docs]
    )
    assert together == alone


def test_donors_have_another_answer_and_go_round(engine: Engine) -> None:
    prompts = with_donors([make_prompt(engine.base.tokenizer, index) for index in range(4)])
    assert [prompt.donor.sample_id for prompt in prompts if prompt.donor] == [
        prompts[place].sample_id for place in (1, 2, 3, 0)
    ]
    assert all(prompt.donor and prompt.donor.answer != prompt.answer for prompt in prompts)


def test_resuming_asks_the_model_nothing_that_was_answered(engine: Engine, tmp_path: Path) -> None:
    requests = [request_for(make_doc(engine.base.tokenizer, index)) for index in range(4)]
    seen: list[bool] = []

    def lm(path: Path, identity: dict[str, Any]) -> ArmLM:
        return ArmLM(
            engine,
            batch_size=2,
            identity=identity,
            answers=AnswerFile(path),
            progress=lambda *step: seen.append(step[3]),
        )

    file = tmp_path / "answers.jsonl"
    first = lm(file, {"arm": "full"}).generate_until(requests)
    assert lm(file, {"arm": "full"}).generate_until(requests) == first
    assert seen == [False, False, True, True]
    seen.clear()
    for identity in ({"arm": "gist"}, {"arm": "full", "base": "x"}, {"arm": "full", "dtype": "y"}):
        lm(file, identity).generate_until(requests)
    assert seen == [False] * 6
    seen.clear()
    for item in requests:
        item.arguments[1]["max_gen_toks"] = 7
    lm(file, {"arm": "full"}).generate_until(requests)
    assert seen == [False, False]


def test_a_donor_is_another_document_that_states_its_answer(engine: Engine) -> None:
    first, second, third, fourth = (make_prompt(engine.base.tokenizer, i) for i in range(4))
    sibling = replace(second, tokens=first.tokens)  # another question to the same document
    silent = replace(third, holds_answer=False)
    given = with_donors([first, sibling, silent, fourth])
    assert [prompt.donor.sample_id for prompt in given if prompt.donor] == [
        fourth.sample_id,
        fourth.sample_id,
        fourth.sample_id,
        first.sample_id,
    ]
    assert with_donors([first, sibling])[0].donor is None


def test_a_donor_does_not_hold_the_answer_that_it_must_not_know(engine: Engine) -> None:
    first, second, third = (make_prompt(engine.base.tokenizer, index) for index in range(3))
    second = replace(second, context_text=f"Elsewhere {first.answer} is stated too.")
    assert with_donors([first, second, third])[0].donor == third


def test_a_donor_answers_with_another_of_the_choices_that_are_named(engine: Engine) -> None:
    first, second, third = (make_prompt(engine.base.tokenizer, index) for index in range(3))
    first = replace(first, choices=(first.answer, third.answer))
    assert with_donors([first, second, third])[0].donor == third
    assert with_donors([first, second])[0].donor is None


def test_of_own_data_a_donor_may_hold_the_answer_where_all_others_do(engine: Engine) -> None:
    first, second, third = (make_prompt(engine.base.tokenizer, index) for index in range(3))
    second = replace(second, context_text=f"Elsewhere {first.answer} is stated too.")
    assert with_donors([first, second])[0].donor is None
    first = replace(first, counted=False)
    assert with_donors([first, second])[0].donor == second
    assert with_donors([first, second, third])[0].donor == third


def test_a_donor_was_asked_the_same_where_there_is_one(engine: Engine) -> None:
    first, second, third = (make_prompt(engine.base.tokenizer, index) for index in range(3))
    other = PromptTokens(second.tokens.context, [*second.tokens.question, 1])
    asked_otherwise = replace(second, tokens=other)
    assert with_donors([first, asked_otherwise, third])[0].donor == third
    donor = with_donors([first, asked_otherwise])[0].donor
    assert donor == asked_otherwise


class CountingArm(Gist):
    """Says what it was asked to read."""

    read_ids: ClassVar[list[list[str]]] = []

    def read(self, reader: Reader, prompts: Sequence[Prompt]) -> ContextCache:
        self.read_ids.append([prompt.sample_id for prompt in prompts])
        return super().read(reader, prompts)


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_two_questions_to_one_document_are_put_to_the_same_gists(
    tiny_base: Path, tiny_checkpoint: Path, batch_size: int
) -> None:
    whole = make_engine("gist", tiny_base, tiny_checkpoint)
    requests = []
    for index in range(6):
        asked = generators.generator("niah_two_questions").build_sample(
            whole.base.tokenizer,
            task="niah_two_questions",
            split="test",
            context_tokens=160,
            index=index,
            seed=0,
        )
        requests.append(request_for({**asdict(asked)}))
    CountingArm.read_ids.clear()
    engine = replace(whole, arm=CountingArm())
    together = ArmLM(engine, batch_size=batch_size, identity={})
    shared = together.generate_until(requests)
    # Each document was read once, before its second question was known to the batch's cache.
    read = [sample for batch in CountingArm.read_ids for sample in batch]
    assert [sample.rsplit("/", 1)[1] for sample in read] == ["0", "2", "4"]
    apart = ArmLM(whole, batch_size=1, identity={})
    assert shared == [apart.generate_until([request])[0] for request in requests]
