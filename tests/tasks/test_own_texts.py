"""Claims about haystacks and questions that a user brings."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SENTENCES = [
    f"The {animal} of {place} {did} before anybody else was awake, and said nothing about it."
    for animal in ("heron", "ferret", "marmot", "lemming", "otter")
    for place in ("Ghent", "Derry", "Vaduz", "Malmo", "Split", "Arles", "Cork")
    for did in ("left", "sang", "slept", "dug", "swam")
]
SHORT = ["It did.", "Who knew?", "So it went on.", "Rain fell all day.", "Nobody came by then."]


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A text file with some eighteen thousand bytes of prose."""
    file = tmp_path / "book.txt"
    lines = [f"{text} {SHORT[place % 5]}" for place, text in enumerate(SENTENCES)]
    file.write_text("\n\n".join(lines), encoding="utf-8")
    return file


def _sample(niah: Any, tokenizer: Any, index: int = 0, **changes: Any) -> Any:
    arguments = {
        "task": "niah_passkey",
        "split": "test",
        "context_tokens": 3000,
        "seed": 0,
        **changes,
    }
    return niah.build_sample(tokenizer, index=index, **arguments)


# ---------------------------------------------------------------------------------- own haystacks


@pytest.mark.parametrize("task", ["niah_passkey", "niah_labelled_4", "niah_absent", "niah_uuid"])
def test_needles_are_hidden_in_the_users_prose(
    niah: Any, byte_tokenizer: Any, book: Path, task: str
) -> None:
    known = {*SENTENCES, *SHORT}
    for index in range(6):
        sample = _sample(niah, byte_tokenizer, index, task=task, text=book)
        plain = _sample(niah, byte_tokenizer, index, task=task)
        assert len(sample.context.encode()) == 3000
        assert (sample.answer, sample.question) == (plain.answer, plain.question)
        rest = [s for s in re.split(r"(?<=[.?!])\s+", sample.context) if s not in known]
        assert len(rest) == sample.num_needles


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(context_tokens=st.integers(1500, 9000), index=st.integers(0, 10**6))
def test_own_haystacks_are_exact_too(
    niah: Any, byte_tokenizer: Any, tmp_path_factory: Any, context_tokens: int, index: int
) -> None:
    file = tmp_path_factory.getbasetemp() / "own-haystack.md"
    if not file.is_file():
        file.write_text(" ".join(SENTENCES + SHORT), encoding="utf-8")
    sample = _sample(niah, byte_tokenizer, index, context_tokens=context_tokens, text=file)
    assert len(sample.context.encode()) == context_tokens
    assert sample.context.count(sample.needle) == 1


def test_another_haystack_makes_other_ids_and_other_kept_samples(
    niah: Any, byte_tokenizer: Any, book: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.txt"
    other.write_text(book.read_text(encoding="utf-8").replace("Ghent", "Turin"), encoding="utf-8")
    arguments = {
        "tokenizer": byte_tokenizer,
        "context_tokens": 2000,
        "num_samples": 2,
        "cache_folder": str(tmp_path / "kept"),
    }
    ids, contexts = set(), set()
    for haystack in (None, str(book), str(other)):
        for row in niah.load(**arguments, haystack=haystack)["test"]:
            ids.add(row["id"])
            contexts.add(row["context"])
    assert len(ids) == len(contexts) == 6
    assert len(list((tmp_path / "kept").iterdir())) == 3
    mark = niah.own_mark("niah_passkey", book)
    assert re.fullmatch(r"haystack-[0-9a-f]{12}", mark)
    assert f"niah_passkey/test/2000/{mark}" not in ids  # the seed stands between
    assert f"niah_passkey/test/2000/seed0/{mark}/1" in ids


def test_a_changed_file_is_read_again(niah: Any, book: Path) -> None:
    before = niah.own_mark("niah_passkey", book)
    book.write_text(book.read_text(encoding="utf-8") + " The end came.", encoding="utf-8")
    assert niah.own_mark("niah_passkey", book) != before


def test_a_folder_is_read_whole_and_in_order(niah: Any, tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("Second it was.", encoding="utf-8")
    (tmp_path / "a.txt").write_text("\ufeffFirst it was.", encoding="utf-8")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.TXT").write_text("Third it was.", encoding="utf-8")
    (tmp_path / "d.csv").write_text("no,prose", encoding="utf-8")
    prose = niah.prose.of_path(tmp_path)
    assert [unit.strip() for unit in prose.units] == [
        "First it was.",
        "Second it was.",
        "Third it was.",
    ]


def test_sentences_that_read_like_keys_are_left_out(niah: Any, book: Path) -> None:
    book.write_text("It was 1851. It cost 12345 guilders. It was 1852.", encoding="utf-8")
    units = [unit.strip() for unit in niah.prose.of_path(book).units]
    assert units == ["It was 1851.", "It was 1852."]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.txt", None, "none.txt does not exist; name a text file, or a folder of them"),
        ("empty.txt", b"", "holds no sentence; name files with prose in them"),
        ("blank.txt", b" \n\n\t", "holds no sentence"),
        ("latin.txt", "caf\u00e9 at noon".encode("latin-1"), r"latin.txt is not UTF-8 text \(byte"),
        ("nul.txt", b"Some text.\0 More.", "nul.txt holds NUL bytes, so it is no text"),
    ],
)
def test_what_is_no_text_is_named(
    niah: Any, byte_tokenizer: Any, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        _sample(niah, byte_tokenizer, text=tmp_path / name)


def test_a_folder_without_text_is_named(niah: Any, byte_tokenizer: Any, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match=r"holds no \.txt or \.md file"):
        _sample(niah, byte_tokenizer, text=tmp_path)
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"bad\.txt is not UTF-8"):
        _sample(niah, byte_tokenizer, text=tmp_path)


def test_where_whole_sentences_fit_no_length_one_is_broken_off(
    niah: Any, byte_tokenizer: Any, tmp_path: Path
) -> None:
    file = tmp_path / "even.txt"
    every = [f"In year {year} rain fell on the old mill." for year in range(1000, 1200)]
    file.write_text(" ".join(every), encoding="utf-8")
    for context_tokens in range(2000, 2010):
        sample = _sample(niah, byte_tokenizer, context_tokens=context_tokens, text=file)
        assert len(sample.context.encode()) == context_tokens
        rest = sample.context.replace(sample.needle, "")
        broken = [s for s in re.split(r"(?<=[.])\s+", rest) if s and s not in every]
        assert all(s.endswith(" ...") and s.removesuffix(" ...") in rest for s in broken)


def test_too_little_text_says_how_much_there_is_and_is_needed(
    niah: Any, byte_tokenizer: Any, book: Path
) -> None:
    size = len(" ".join(book.read_text(encoding="utf-8").split()).encode())
    with pytest.raises(ValueError, match="the haystack's text has") as caught:
        _sample(niah, byte_tokenizer, context_tokens=30_000, text=book)
    had, length, needed = (
        int(n.replace(",", "")) for n in re.findall(r"[\d,]*\d", str(caught.value))
    )
    assert length == 30_000 and 29_000 < needed < 30_000
    assert had == pytest.approx(size, rel=0.02)


# --------------------------------------------------------------------------------- own questions

LINES = [
    {
        "context": "The lamp is green. The door is shut.",
        "question": "The lamp is",
        "answer": "green",
    },
    {"context": "The lamp is red.", "question": " What is red? It is the", "answer": "lamp"},
    {"id": "mine", "context": "Nothing is.\n", "question": "What is?", "answer": " nothing. "},
]


def _write(folder: Path, *lines: object) -> Path:
    file = folder / "data.jsonl"
    written = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    file.write_text("\n".join(written) + "\n", encoding="utf-8")
    return file


def _own(niah: Any, tokenizer: Any, file: Path, **changes: Any) -> list[dict[str, Any]]:
    arguments = {"task": "own_jsonl", "tokenizer": tokenizer, "data_file": str(file), **changes}
    return list(niah.load(**arguments)["test"])


def test_lines_are_asked_as_they_are(niah: Any, byte_tokenizer: Any, tmp_path: Path) -> None:
    file = _write(tmp_path, LINES[0], "", *LINES[1:])
    rows = _own(niah, byte_tokenizer, file)
    mark = niah.own_mark("own_jsonl", data_file=file).removeprefix("data-")
    assert [row["id"] for row in rows] == [
        f"own_jsonl/{mark}/line1",
        f"own_jsonl/{mark}/line3",
        f"own_jsonl/{mark}/mine",
    ]
    assert rows[0]["context"] == LINES[0]["context"]
    assert [row["question"] for row in rows] == [
        " \n\nThe lamp is",
        " What is red? It is the",
        " \n\nWhat is?",
    ]
    assert [row["answer"] for row in rows] == ["green", "lamp", "nothing."]
    for row in rows:
        assert row["context_tokens"] == len(row["context"].encode())
        assert row["prompt_tokens"] == len((row["context"] + row["question"]).encode())
        assert row["num_needles"] is row["entropy_bits"] is None


def test_as_many_lines_are_taken_as_asked(niah: Any, byte_tokenizer: Any, tmp_path: Path) -> None:
    file = _write(tmp_path, *LINES)
    assert len(_own(niah, byte_tokenizer, file, num_samples=2)) == 2
    with pytest.raises(ValueError, match=r"data\.jsonl has 3 lines"):
        _own(niah, byte_tokenizer, file, num_samples=4)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    context=st.text(min_size=1).filter(str.strip),
    question=st.text(min_size=1).filter(str.strip),
)
def test_no_text_is_changed_but_the_white_space_at_the_seam(
    niah: Any, byte_tokenizer: Any, tmp_path_factory: Any, context: str, question: str
) -> None:
    folder = tmp_path_factory.mktemp("own")
    line = {"context": context, "question": question, "answer": "yes"}
    (row,) = _own(niah, byte_tokenizer, _write(folder, line))
    assert row["context"] == context.rstrip()
    assert row["question"].strip() == question.strip()
    assert row["question"][0].isspace()


GOOD = {"context": "A b.", "question": "C?", "answer": "d"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", "line 2: no JSON .*write one object on it"),
        ("[1, 2]", "line 2: a JSON list; write an object"),
        ({"context": "A b.", "question": "C?"}, "line 2: 'answer' is missing, empty or no text"),
        ({**GOOD, "context": "  "}, "line 2: 'context' is missing, empty or no text"),
        ({**GOOD, "answer": 7}, "line 2: 'answer' is missing, empty or no text"),
        ({**GOOD, "until": "."}, "line 2: unknown field 'until'; only"),
        ({**GOOD, "answer": "one\ntwo"}, "line 2: the answer holds .*, where generation ends"),
        ({**GOOD, "id": "line1"}, "line 2: its id is that of line 1; leave one of them out"),
        (LINES[0], "line 2: its prompt is that of line 1; leave one of them out"),
    ],
)
def test_a_broken_line_is_named(
    niah: Any, byte_tokenizer: Any, tmp_path: Path, line: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _own(niah, byte_tokenizer, _write(tmp_path, LINES[0], line))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "data.jsonl does not exist; name a file of JSON lines"),
        (b"\n \n", "data.jsonl holds no line; write one JSON object on each"),
        (b'{"context": "A"}\n\xff', "data.jsonl line 2: not UTF-8 text; convert the file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    niah: Any, byte_tokenizer: Any, tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "data.jsonl"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        _own(niah, byte_tokenizer, file)


def test_no_file_says_where_one_is_named(niah: Any, byte_tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="pass --data-file FILE"):
        niah.load(task="own_jsonl", tokenizer=byte_tokenizer)


def test_a_prompt_longer_than_the_positions_is_refused_not_cut(
    niah: Any, byte_tokenizer: Any, tmp_path: Path
) -> None:
    file = _write(tmp_path, GOOD, {**GOOD, "context": "word " * 100})
    assert _own(niah, byte_tokenizer, file, max_length=600, answer_tokens=64)
    with pytest.raises(
        ValueError, match=r"data.jsonl line 2: its prompt has 504 tokens, and 436 are allowed"
    ):
        _own(niah, byte_tokenizer, file, max_length=500, answer_tokens=64)


@pytest.mark.parametrize(
    ("output", "exact"),
    [(" nothing", 1), (" nothing.", 1), (" Nothing.", 0), (" nothing at all", 0), ("", 0)],
)
def test_a_full_stop_at_the_end_says_nothing(niah: Any, output: str, exact: float) -> None:
    doc = {"task": "own_jsonl", "answer": "nothing."}
    assert niah.process_results(doc, [output])["exact_match"] == exact


def test_plain_lm_eval_reads_both(byte_tokenizer: Any, book: Path, tmp_path: Path) -> None:
    from lm_eval.tasks import TaskManager, get_task_dict

    byte_tokenizer.save_pretrained(tmp_path / "tokenizer")
    manager = TaskManager(
        include_path=str(Path(__file__).resolve().parents[2] / "tasks"),
        include_defaults=False,
        metadata={
            "tokenizer": str(tmp_path / "tokenizer"),
            "haystack": str(book),
            "data_file": str(_write(tmp_path, *LINES)),
            "context_tokens": 2000,
            "num_samples": 2,
        },
    )
    for name, found in get_task_dict(["niah_passkey", "own_jsonl"], manager).items():
        docs = list(found.test_docs())
        assert len(docs) == 2
        assert ("haystack-" in docs[0]["id"]) == (name == "niah_passkey")
        assert found.doc_to_text(docs[0]) == docs[0]["context"] + docs[0]["question"]
