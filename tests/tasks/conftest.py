"""What the newer tests of the tasks share: the module as lm-eval finds it, and a tokenizer."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

TASKS = Path(__file__).resolve().parents[2] / "tasks"


@pytest.fixture(scope="session")
def niah() -> Any:
    """The generator, loaded by path and in no package."""
    spec = importlib.util.spec_from_file_location("niah_under_test", TASKS / "niah.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each byte: nothing is trained, so nothing can differ between machines."""
    vocabulary = {c: n for n, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)
