"""One pass, two passes, and the ordinary transformers model that both are held against."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from gistbench.config import AdapterConfig, TrainConfig
from gistbench.core.layout import GistLayout, pad_left
from gistbench.core.mask import dense_mask
from gistbench.models.adapter import add_adapter, add_gist_rows
from gistbench.models.architectures import settled
from gistbench.models.cache import open_cache
from gistbench.models.catalog import find_model
from gistbench.models.decode import continue_layout, read_contexts
from gistbench.models.loading import BaseModel, load_base


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tiny matrices gain nothing from threads, and lose much where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Batch:
    """Contexts and questions of different lengths, so that both parts are padded on their left."""

    contexts: list[list[int]]
    questions: list[list[int]]
    gist_ids: tuple[int, ...]
    segmented: bool = False

    def row(self, index: int) -> Batch:
        return Batch([self.contexts[index]], [self.questions[index]], self.gist_ids, self.segmented)

    def joint(self, *, num_visible: int | None = None) -> tuple[torch.Tensor, GistLayout]:
        prefix, prefix_padding = pad_left([[*row, *self.gist_ids] for row in self.contexts], 0)
        suffix, suffix_padding = pad_left(self.questions, 0)
        visible = len(self.gist_ids) if num_visible is None else num_visible
        layout = GistLayout(
            prefix.shape[1], visible, prefix_padding, suffix_padding, "joint", self.segmented
        )
        return torch.cat([prefix, suffix], dim=1), layout

    def real(self) -> torch.Tensor:
        """Real question slots, ``(batch, suffix)``."""
        _, padding = pad_left(self.questions, 0)
        length = max(map(len, self.questions))
        return torch.arange(length) >= torch.tensor(padding).unsqueeze(1)


class Passes:
    """Logits of the questions' slots, ``(batch, suffix, vocabulary)``, by different routes."""

    @staticmethod
    def one(model: Any, batch: Batch, **options: Any) -> torch.Tensor:
        ids, layout = batch.joint(**options)
        length = ids.shape[1] - layout.prefix_length
        positions = layout.joint_positions(length)
        output = model(input_ids=ids, position_ids=positions, layout=layout, use_cache=False)
        return output.logits[:, layout.prefix_length :]

    @staticmethod
    def two(
        model: Any, batch: Batch, *, keep_all: bool = False, steps: Sequence[int] = ()
    ) -> torch.Tensor:
        """Two passes; the second in one piece, or cut before each of ``steps``."""
        context = read_contexts(
            model,
            batch.contexts,
            gist_ids=batch.gist_ids,
            keep_all=keep_all,
            segmented=batch.segmented,
        )
        ids, padding = pad_left(batch.questions, 0)
        layout = continue_layout(context, padding)
        cache = open_cache(context, room=ids.shape[1])
        logits = []
        with torch.inference_mode():
            for start, end in zip((0, *steps), (*steps, ids.shape[1]), strict=True):
                output = model(
                    input_ids=ids[:, start:end],
                    position_ids=layout.suffix_positions(start, end - start),
                    past_key_values=cache,
                    use_cache=True,
                    layout=layout,
                )
                logits.append(output.logits)
        return torch.cat(logits, dim=1)

    @staticmethod
    def ordinary(model: Any, implementation: str = "sdpa") -> Any:
        """The same weights under one of transformers' own attention functions."""
        plain = copy.deepcopy(model)
        plain.set_attn_implementation(implementation)
        return plain

    @classmethod
    def masked(cls, model: Any, batch: Batch, implementation: str = "sdpa") -> torch.Tensor:
        """An ordinary model given the dense 4-D mask: nothing of ours but `dense_mask`."""
        ids, layout = batch.joint()
        length = ids.shape[1] - layout.prefix_length
        plain = cls.ordinary(model, implementation)

        def mask(window: int | None) -> torch.Tensor:
            allowed = dense_mask(layout, length, window).unsqueeze(1)
            if implementation == "sdpa":
                return allowed
            # Eager attention adds the mask, so a boolean one would hide nothing.
            return torch.where(allowed, 0.0, torch.finfo(plain.dtype).min).to(plain.dtype)

        window = getattr(plain.config, "sliding_window", None)
        masks: Any = mask(window if plain.config.model_type == "mistral" else None)
        if "sliding_attention" in (getattr(plain.config, "layer_types", None) or ()):
            masks = {"full_attention": mask(None), "sliding_attention": mask(window)}
        output = plain(
            input_ids=ids,
            position_ids=layout.joint_positions(length),
            attention_mask=masks,
            use_cache=False,
        )
        return output.logits[:, layout.prefix_length :]


@pytest.fixture
def passes() -> type[Passes]:
    """The routes to the same logits."""
    return Passes


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """A batch of random tokens; three gist ids by default, taken from the vocabulary's end."""

    def make(
        context_lengths: Sequence[int] = (21, 12, 4, 0),
        question_lengths: Sequence[int] = (9, 2, 6, 1),
        *,
        gist_ids: tuple[int, ...] = (58, 59, 60),
        vocabulary: int = 58,
        seed: int = 1,
    ) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        contexts, questions = (
            [torch.randint(vocabulary, (n,), generator=generator).tolist() for n in lengths]
            for lengths in (context_lengths, question_lengths)
        )
        return Batch(contexts, questions, gist_ids)

    return make


@pytest.fixture
def make_adapted() -> Callable[..., tuple[Any, tuple[int, ...], TrainConfig]]:
    """Wrap a model in a LoRA and gist rows that are as different from zero as trained ones."""

    def make(model: Any, **adapter: Any) -> tuple[Any, tuple[int, ...], TrainConfig]:
        options = {"num_gists": 3, "lora_rank": 4, "lora_alpha": 8, **adapter}
        config = TrainConfig(name="tiny", adapter=AdapterConfig(**options))
        gist_ids = add_gist_rows(model, config.adapter.num_gists)
        wrapped = add_adapter(model, config, gist_ids)
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for weight in wrapped.parameters():
                if weight.requires_grad:
                    weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
        return wrapped.eval(), gist_ids, settled(config, model.config.model_type)

    return make


@pytest.fixture
def make_base_folder(tmp_path: Path, make_tiny: Callable[..., Any]) -> Callable[..., Path]:
    """A base model on disk as the hub lays it out: configuration, safetensors, tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    def make(architecture: str = "llama", *, name: str = "base", **options: Any) -> Path:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=300,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(
            ["the pass key is hidden in the text, find the key"] * 9, trainer
        )
        model = make_tiny(architecture, vocab_size=320, **options)
        folder = tmp_path / name
        model.save_pretrained(folder)
        PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
        return folder

    return make


@pytest.fixture
def load_folder() -> Callable[..., BaseModel]:
    """Load a base folder as the command line would."""

    def load(folder: Path, dtype: torch.dtype = torch.float32) -> BaseModel:
        return load_base(find_model(str(folder)), dtype=dtype, device="cpu")

    return load
