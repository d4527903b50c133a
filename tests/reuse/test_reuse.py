"""Claims about compressed texts: what their files say, who may ask them, and what they answer."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gistbench.errors import TooLongError, UsageError
from gistbench.models.cache import open_cache
from gistbench.models.decode import continue_layout
from gistbench.models.gist_file import load_context, read_context
from gistbench.models.origin import origin_of
from gistbench.models.prompts import split_prompt
from gistbench.models.reading_cost import ReadingCost, measured_read
from gistbench.reuse.asking import ask, read_saved
from gistbench.reuse.compressing import Compressed, compress, write
from gistbench.reuse.model import load_compressor, load_compressor_of
from gistbench.reuse.text import Text, question_tokens, read_text, text_tokens
from tests.fixtures.tiny_base import NUM_GISTS, write_tiny_base

ROOT = Path(__file__).resolve().parents[2]
QUESTION = "What is the pass key mentioned in the text above? The pass key is the number"
FRESH = """
import sys, torch
from pathlib import Path
from gistbench.models.cache import open_cache
from gistbench.models.decode import continue_layout
from gistbench.reuse.asking import read_saved
from gistbench.reuse.model import load_compressor_of
from gistbench.reuse.text import question_tokens
from tests.reuse.test_reuse import QUESTION, logits_of

file, checkpoint, output = map(Path, sys.argv[1:])
torch.set_num_threads(1)
saved = read_saved(file)
compressor = load_compressor_of([(file, saved.origin)], device="cpu", checkpoint=str(checkpoint))
torch.save(logits_of(compressor, saved.cache), output)
"""


def text(words: str, name: str = "a text") -> Text:
    return Text(name, words, hashlib.sha256(words.encode()).hexdigest())


TEXTS = (
    text("The pass key is 48213. Remember it."),
    text("The grass is green. " * 12 + "The pass key is 90017."),
    text("Here we go, there and back again. The pass key is 55120. " * 5),
)


def logits_of(compressor: Any, cache: Any) -> torch.Tensor:
    """Of the question's last token, over the text's vocabulary: gist rows are never generated."""
    question = question_tokens(compressor.base.tokenizer, QUESTION)
    layout = continue_layout(cache, (0,))
    with torch.inference_mode():
        return compressor.trained.model(
            input_ids=torch.tensor([question]),
            position_ids=layout.suffix_positions(0, len(question)),
            past_key_values=open_cache(cache, room=len(question)),
            use_cache=True,
            logits_to_keep=1,
            layout=layout,
        ).logits[..., : compressor.base.num_text_tokens]


@pytest.fixture
def files(compressor: Any, tmp_path: Path) -> list[Path]:
    """The three texts, compressed."""
    paths = []
    for number, each in enumerate(TEXTS):
        paths.append(tmp_path / f"{number}.gist.safetensors")
        write(compress(compressor, each), paths[-1])
    return paths


def refusal(function: Any, *arguments: Any, **options: Any) -> str:
    """The one sentence in which something is refused."""
    with pytest.raises(UsageError) as raised:
        function(*arguments, **options)
    message = str(raised.value)
    assert "\n" not in message
    assert ";" in message or ": " in message, "a refusal ends with the next step"
    return message


# ----------------------------------------------------------------------------------- what is saved


def test_file_says_which_text_model_and_checkpoint_it_comes_from(
    compressor: Any, files: list[Path]
) -> None:
    _, metadata = read_context(files[1])
    origin = origin_of(metadata, files[1])
    manifest = compressor.trained.manifest
    assert metadata["format_version"] == "1"
    assert metadata["segmented"] == "False"
    assert origin.checkpoint == manifest.name
    assert origin.checkpoint_sha256 == manifest.adapter_sha256
    assert origin.base == compressor.base.reference
    assert origin.base.dtype == "float32"
    assert origin.num_gists == NUM_GISTS
    assert origin.text_sha256 == TEXTS[1].sha256
    tokens = compressor.base.tokenizer(TEXTS[1].text)["input_ids"]
    assert origin.context_tokens == len(tokens)
    assert int(metadata["prefix_length"]) == len(tokens) + NUM_GISTS


def test_fresh_process_gives_the_logits_of_the_unsaved_cache_to_the_bit(
    compressor: Any, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        done = compress(compressor, TEXTS[1])
        expected = logits_of(compressor, done.cache)
    finally:
        torch.set_num_threads(threads)
    file = tmp_path / "one.gist.safetensors"
    write(done, file)
    subprocess.run(
        [sys.executable, "-c", FRESH, file, tiny_checkpoint, tmp_path / "logits.pt"],
        cwd=ROOT,
        check=True,
        timeout=300,
    )
    got = torch.load(tmp_path / "logits.pt", weights_only=True)
    assert torch.equal(got, expected)
    other = logits_of(compressor, compress(compressor, TEXTS[0]).cache)
    assert not torch.equal(got, other), "the text made no difference"


def test_nothing_is_left_beside_a_file_and_nothing_is_replaced(
    compressor: Any, tmp_path: Path
) -> None:
    output = tmp_path / "deep" / "one.gist.safetensors"
    done = compress(compressor, TEXTS[0])
    write(done, output)
    before = output.read_bytes()
    other = compress(compressor, TEXTS[1])
    assert "--force" in refusal(write, other, output)
    assert output.read_bytes() == before
    write(other, output, force=True)
    assert output.read_bytes() != before
    assert [path.name for path in output.parent.iterdir()] == [output.name]


# ---------------------------------------------------------------------------------------- answers


def test_texts_of_any_lengths_in_one_batch_answer_as_each_alone(
    compressor: Any, files: list[Path]
) -> None:
    contexts = [read_saved(file) for file in files]
    assert len({saved.cache.layout.prefix_length for saved in contexts}) == 3
    questions = [QUESTION, "What colour is the grass?"]
    together = ask(compressor, contexts, questions, max_new_tokens=12).replies
    assert [(reply.path, reply.question) for reply in together] == [
        (file, question) for file in files for question in questions
    ]
    alone = [
        ask(compressor, [saved], [question], max_new_tokens=12).replies[0]
        for saved in contexts
        for question in questions
    ]
    assert together == alone
    assert len({reply.text for reply in together}) > 1, "nothing here tells the texts apart"


def test_answer_is_what_a_run_would_answer(compressor: Any, files: list[Path]) -> None:
    """The text and the question apart have the tokens that both together have."""
    tokenizer = compressor.base.tokenizer
    for each in TEXTS:
        joined = split_prompt(tokenizer, each.text, f" \n\n{QUESTION}")
        assert text_tokens(tokenizer, each) == joined.context
        assert question_tokens(tokenizer, QUESTION) == joined.question


def test_asking_leaves_the_saved_text_as_it_is(compressor: Any, files: list[Path]) -> None:
    contexts = [read_saved(file) for file in files]
    first = ask(compressor, contexts, [QUESTION], max_new_tokens=5).replies
    assert ask(compressor, contexts, [QUESTION], max_new_tokens=5).replies == first
    fresh = load_context(files[0])
    for kept, read in zip(contexts[0].cache.keys, fresh.keys, strict=True):
        assert torch.equal(kept, read)


def test_text_read_in_segments_is_saved_and_asked_like_any_other(
    compressor: Any, files: list[Path]
) -> None:
    done = compress(compressor, TEXTS[2], segment_tokens=30)
    assert done.origin.segment_tokens == 30
    segments = -(-done.origin.context_tokens // 30)
    assert done.cache.num_slots == segments * NUM_GISTS > NUM_GISTS
    assert done.compression_ratio == done.origin.context_tokens / done.cache.num_slots
    path = files[0].with_name("segments.gist.safetensors")
    write(done, path)
    saved = read_saved(path)
    assert saved.cache.layout == done.cache.layout
    assert torch.equal(logits_of(compressor, saved.cache), logits_of(compressor, done.cache))
    contexts = [saved, *map(read_saved, files)]
    together = ask(compressor, contexts, [QUESTION], max_new_tokens=9).replies
    for each, reply in zip(contexts, together, strict=True):
        assert ask(compressor, [each], [QUESTION], max_new_tokens=9).replies == [reply]


def test_one_segment_or_chunks_leave_the_file_of_an_ordinary_read(compressor: Any) -> None:
    plain = compress(compressor, TEXTS[1])
    one = compress(compressor, TEXTS[1], segment_tokens=plain.origin.context_tokens)
    chunked = compress(compressor, TEXTS[1], chunk_tokens=16)
    assert plain.origin == one.origin == chunked.origin
    assert plain.cache.layout == one.cache.layout == chunked.cache.layout
    for key, same, near in zip(plain.cache.keys, one.cache.keys, chunked.cache.keys, strict=True):
        assert torch.equal(key, same)
        assert (key - near).abs().max() < 1e-5 * key.abs().max()


def test_gists_of_segments_need_positions_too(compressor: Any) -> None:
    words = text("7" * (compressor.base.max_positions - 2 * NUM_GISTS))
    assert compress(compressor, words).cache.num_slots == NUM_GISTS
    with pytest.raises(TooLongError, match=r"needs 1,032 positions with its gists"):
        compress(compressor, words, segment_tokens=300)


# ------------------------------------------------------------------------------- who may not ask


def changed(file: Path, compressor: Any, **fields: Any) -> Path:
    """The same text as if it came from elsewhere, properly written."""
    saved = read_saved(file)
    path = file.with_name("changed.gist.safetensors")
    write(
        Compressed(saved.cache, saved.origin.model_copy(update=fields), ReadingCost(1, 0.0)),
        path,
        force=True,
    )
    return path


def load_of(path: Path, **options: Any) -> Any:
    return load_compressor_of([(path, read_saved(path).origin)], device="cpu", **options)


def test_another_checkpoint_is_refused_by_hash(
    compressor: Any, files: list[Path], tiny_checkpoint: Path
) -> None:
    for field in ("checkpoint_sha256", "checkpoint_config_sha256"):
        path = changed(files[0], compressor, **{field: "ab" * 32})
        said = refusal(load_of, path, checkpoint=str(tiny_checkpoint))
        assert "abababababab…" in said and "--checkpoint" in said
    shipped = refusal(load_of, files[0], checkpoint="smollm2-135m-gist-10")
    assert "smollm2-135m-gist-10 (660274191c18…)" in shipped


def test_checkpoint_that_does_not_ship_has_to_be_named(files: list[Path]) -> None:
    assert "pass --checkpoint with its folder" in refusal(load_of, files[0])


def test_base_model_that_is_not_found_has_to_be_named(
    files: list[Path], tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moved(name: str) -> Any:
        raise UsageError(f"unknown base model {name!r}")

    monkeypatch.setattr("gistbench.reuse.model.find_model", moved)
    sentence = refusal(load_of, files[0], checkpoint=str(tiny_checkpoint))
    assert "not found from here; pass --base" in sentence


def test_another_base_model_is_refused_by_hash(
    files: list[Path], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    other = write_tiny_base(tmp_path / "other", seed=7)
    said = refusal(load_of, files[0], checkpoint=str(tiny_checkpoint), base=str(other))
    assert f"weights {read_saved(files[0]).origin.base.fingerprint[:12]}… of" in said
    assert "pass --base" in said


def test_same_weights_with_another_setting_are_refused(
    compressor: Any, files: list[Path], tiny_base: Path, tiny_checkpoint: Path
) -> None:
    base = compressor.base.reference
    other = base.model_copy(update={"architecture": {**base.architecture, "rms_norm_eps": 0.5}})
    path = changed(files[0], compressor, base=other)
    said = refusal(load_of, path, checkpoint=str(tiny_checkpoint), base=str(tiny_base))
    assert "rms_norm_eps 0.5" in said


def test_texts_of_different_models_are_not_asked_together(
    compressor: Any, files: list[Path]
) -> None:
    base = compressor.base.reference.model_copy(update={"dtype": "bfloat16"})
    for fields, words in (
        ({"checkpoint_sha256": "ab" * 32}, "different checkpoints"),
        ({"base": base}, "different base models"),
    ):
        path = changed(files[0], compressor, **fields)
        both = [(each, read_saved(each).origin) for each in (files[1], path)]
        said = refusal(load_compressor_of, both, device="cpu")
        assert words in said and "one by one" in said


def test_full_context_checkpoint_cannot_compress() -> None:
    said = refusal(load_compressor, "smollm2-135m-full-10", device="cpu")
    assert "objective full" in said


# ---------------------------------------------------------------------------------- texts refused


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b" \n\t\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"GIF89a\x00\x01", "is a binary file (a zero byte at offset 6)"),
        ("text".encode("utf-16"), "is a binary file"),
        ("grün".encode("latin-1"), "is not UTF-8 text (byte 0xfc at offset 2)"),
    ],
)
def test_what_is_no_text_is_refused(data: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(data)
    said = refusal(read_text, str(tmp_path / "file"))
    assert words in said and said.startswith(str(tmp_path / "file"))


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(read_text, str(tmp_path / "none"))
    assert "is a directory" in refusal(read_text, str(tmp_path))


def test_hash_is_that_of_the_file_and_the_end_of_the_text_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes("\ufeffThe grass.\n\n ".encode())
    read = read_text(str(tmp_path / "file"))
    assert read.text == "The grass."
    assert read.sha256 == hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest()


def test_text_beyond_the_models_positions_is_refused(compressor: Any) -> None:
    room = compressor.base.max_positions - NUM_GISTS - 1
    ids = text_tokens(compressor.base.tokenizer, text("7" * 2000))
    assert len(ids) == 2000, "a token for each digit"
    assert compress(compressor, text("7" * room)).origin.context_tokens == room
    with pytest.raises(TooLongError, match=r"needs 1,024 positions .* has 1,024: shorten"):
        compress(compressor, text("7" * (room + 1)))


def test_question_and_answer_need_positions_too(compressor: Any) -> None:
    long = compress(compressor, text("7" * 1000))
    saved = replace(_saved(long), path=Path("long.gist.safetensors"))
    with pytest.raises(TooLongError, match=r"^long\.gist\.safetensors with question and answer"):
        ask(compressor, [saved], [QUESTION])
    assert "is empty" in refusal(ask, compressor, [saved], [" \n"])


def _saved(done: Compressed) -> Any:
    from gistbench.reuse.asking import Saved

    return Saved(Path("text"), done.cache, done.origin)


def test_metadata_are_plain_text_that_others_can_read(files: list[Path]) -> None:
    from safetensors import safe_open

    with safe_open(files[0], framework="pt") as file:
        told = file.metadata()
        assert file.get_slice("keys").get_shape()[3] == NUM_GISTS
    assert json.loads(told["origin"])["text_sha256"] == TEXTS[0].sha256


def test_a_read_costs_time_and_on_a_cpu_no_bytes_are_counted(compressor: Any) -> None:
    tokens = text_tokens(compressor.base.tokenizer, TEXTS[1])
    gist_ids = compressor.trained.gist_ids
    _, cost = measured_read(compressor.trained.model, tokens, gist_ids=gist_ids)
    assert cost.num_tokens == len(tokens) and cost.seconds > 0
    assert cost.peak_bytes is None and cost.needed_bytes is None


@pytest.mark.gpu
def test_chunks_and_segments_lower_the_peak_on_a_gpu(make_tiny: Any) -> None:
    """A constant above weights, keys and values; above weights alone in segments."""
    model = make_tiny("llama", max_position_embeddings=65536).to("cuda", torch.bfloat16)
    context = torch.randint(58, (60_000,)).tolist()
    above = {}
    for name, options in {
        "one pass": {},
        "chunks": {"chunk_tokens": 2048},
        "segments": {"segment_tokens": 2048},
    }.items():
        _, cost = measured_read(model, context, gist_ids=(58, 59, 60), **options)
        assert cost.peak_bytes is not None and cost.needed_bytes is not None
        above[name] = cost.peak_bytes - cost.needed_bytes
    assert above["chunks"] < above["one pass"] / 5
    assert above["segments"] < above["one pass"] / 5
