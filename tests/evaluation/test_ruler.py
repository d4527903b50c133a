"""Claims about RULER's tasks of lm-eval: unchanged, and split where the question begins."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from gistbench import generators, ruler
from gistbench.errors import GistbenchError, PrerequisiteError, UsageError
from gistbench.evaluation.documents import load_ruler, own_fields, own_scores
from gistbench.evaluation.lm import ArmLM
from tests.fixtures.engines import make_engine

MAX_TOKENS = 1500
BEGINNINGS = {
    "niah_single_1": "What is the special magic number for ",
    "niah_multikey_2": "What is the special magic number for ",
    "niah_multikey_3": "What is the special magic uuid for ",
    "ruler_vt": "Question: Find all variables that are assigned the value ",
    "ruler_fwe": "Question: Do not provide any explanation.",
}
OFFLINE = [name for name, task in ruler.TASKS.items() if not task.needs_essays]
SOON = ("niah_single_1", "ruler_vt")


def load(name: str, folder: Path, **changes: Any) -> Any:
    for package in ruler.PACKAGES:
        pytest.importorskip(package)
    settings: dict[str, Any] = {
        "tokenizer_folder": folder,
        "max_tokens": MAX_TOKENS,
        "seed": 0,
        "trust_remote_code": False,
    }
    return load_ruler(name, **{**settings, **changes})


def plain(name: str, folder: Path, samples: int) -> list[dict[str, Any]]:
    """What lm-eval alone makes of a task: its own model, its own defaults."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    results = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(folder), "dtype": "float32"},
        tasks=[name],
        task_manager=TaskManager(
            include_path=str(ruler.folder()),
            include_defaults=False,
            metadata={"tokenizer": str(folder), "max_seq_lengths": [MAX_TOKENS]},
        ),
        batch_size=1,
        device="cpu",
        limit=samples,
        bootstrap_iters=0,
        log_samples=True,
    )
    return list(results["samples"][name])


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in SOON else pytest.mark.slow) for name in OFFLINE],
)
def test_the_full_arm_is_plain_lm_eval_sample_by_sample(name: str, ruler_base: Path) -> None:
    from lm_eval import simple_evaluate

    task = load(name, ruler_base)
    lm = ArmLM(make_engine("full", ruler_base), batch_size=1, identity={})
    ours = simple_evaluate(model=lm, tasks=[task], limit=2, bootstrap_iters=0, log_samples=True)
    mine = ours["samples"][name]
    theirs = plain(name, ruler_base, 2)
    assert len(mine) == len(theirs) == 2
    for entry, other in zip(mine, theirs, strict=True):
        for field in ("doc_hash", "prompt_hash", "target_hash", "filtered_resps"):
            assert entry[field] == other[field]
        prompt = entry["arguments"][0][0]
        assert hashlib.sha256(prompt.encode()).hexdigest() in lm.responses
        assert entry[str(MAX_TOKENS)] == other[str(MAX_TOKENS)]
    assert mine[0]["filtered_resps"] != mine[1]["filtered_resps"], "answers that cannot differ"


@pytest.mark.parametrize("name", OFFLINE)
def test_context_ends_where_the_question_begins(name: str, ruler_base: Path) -> None:
    task = load(name, ruler_base)
    task.set_config(key="num_fewshot", value=0)
    task.build_all_requests(limit=25)
    for item in task.instances:
        doc = own_fields(name, item.doc, item.args[0])
        assert doc["context"] + doc["question"] == item.args[0]
        assert doc["context"].endswith("\n")
        assert doc["question"].startswith(BEGINNINGS[name])
        assert doc["question"].endswith(item.doc["gen_prefix"])
        assert all(value in doc["context"] for value in doc["values"])
        assert not any(value in doc["question"] for value in doc["values"])
        assert "\n" not in doc["question"]


@pytest.mark.parametrize("name", sorted(ruler.TASKS))
def test_the_yaml_is_lm_evals_own_with_what_it_does_not_declare(name: str) -> None:
    fields = generators.task_definition(name)
    assert fields["task"] == name
    assert fields["doc_to_text"] == "{{input}}"
    assert fields["metadata"]["version"].startswith("1.0, lm-eval ")
    assert fields["metadata"]["chance_floor"] == 0


def document(**changes: Any) -> dict[str, Any]:
    fields = {
        "index": 3,
        "input": "A special magic number is hidden.\nText 12.\nWhat are all the special magic "
        "numbers for a-b mentioned in the provided text?",
        "outputs": ["12", "34"],
        "max_length": 128,
        "gen_prefix": "The special magic numbers for a-b mentioned in the provided text are",
    }
    return {**fields, **changes}


def test_an_answer_of_several_values_is_right_only_with_all_of_them() -> None:
    def scored(share: float) -> dict[str, float]:
        entry = {"doc": document(), "128": share, "4096": -1.0, "metrics": ["4096", "128"]}
        return own_scores("niah_multivalue", entry)

    assert scored(0.75) == {"exact_match": 0.0, "string_match_all": 0.75}
    assert scored(1.0) == {"exact_match": 1.0, "string_match_all": 1.0}
    doc = document()
    fields = own_fields("niah_multivalue", doc, f"{doc['input']} {doc['gen_prefix']}")
    assert fields["answer"] == "12, 34"
    assert fields["context"][fields["needle_start"] : fields["needle_end"]] == "12"
    assert fields["id"] == "niah_multivalue/128/3"


@pytest.mark.parametrize("around", ["Q: 1? A: 2\n\n{}", "<|user|>{}", "{} ", "{}!"])
def test_a_prompt_that_is_more_than_its_document_is_refused(around: str) -> None:
    doc = document()
    prompt = around.format(f"{doc['input']} {doc['gen_prefix']}")
    with pytest.raises(UsageError, match="prompts with more than its document"):
        own_fields("niah_multivalue", doc, prompt)


@pytest.mark.parametrize(
    "text",
    [
        "What are all the special magic numbers for a-b mentioned in the provided text?",
        "Text.\nWhat is hidden in the provided text?",
        "Text. What is the special magic number for a-b mentioned in the provided text?",
        "Text.\nWhat is the special magic number for a-b mentioned in the provided text?\nSay it.",
    ],
)
def test_a_document_that_does_not_end_in_the_known_question_is_refused(text: str) -> None:
    doc = document(input=text)
    with pytest.raises(UsageError, match="does not end in the question that gistbench knows"):
        own_fields("niah_multivalue", doc, f"{text} {doc['gen_prefix']}")


def test_an_unknown_task_without_a_seam_is_refused() -> None:
    with pytest.raises(UsageError, match="does not say where its context ends"):
        own_fields("ruler_qa_squad", document(), "anything")


@pytest.mark.parametrize(
    ("names", "settings", "said"),
    [
        (("ruler_fwe",), {"samples": 501, "split": "test"}, "pass --samples 500 or less"),
        (("ruler_vt",), {"samples": 5, "split": "validation"}, "has a test split alone"),
    ],
)
def test_what_lm_eval_does_not_have_is_refused(
    names: tuple[str, ...], settings: dict[str, Any], said: str
) -> None:
    ruler.require_possible(("niah_passkey",), **settings)
    with pytest.raises(UsageError, match=said):
        ruler.require_possible(names, **settings)


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ruler, "find_spec", lambda _: None)
    ruler.require_possible(("niah_passkey",), samples=5, split="test")
    with pytest.raises(PrerequisiteError, match="run `pip install wonderwords nltk`"):
        ruler.require_possible(("niah_single_1",), samples=5, split="test")


def test_essays_that_cannot_be_fetched_are_one_sentence(
    ruler_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wonderwords")
    from lm_eval.tasks.ruler import prepare_niah

    def unreachable(**_: str) -> None:
        raise ConnectionError("offline")

    monkeypatch.setattr(prepare_niah, "get_haystack", unreachable)
    with pytest.raises(PrerequisiteError, match="run it once with network") as caught:
        load("niah_single_2", ruler_base)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", OFFLINE)
def test_a_length_without_room_is_refused_and_does_not_hang(name: str, ruler_base: Path) -> None:
    with pytest.raises(UsageError, match=r"--context-tokens 100 is too short for task"):
        load(name, ruler_base, max_tokens=100)


def test_a_tokenizers_own_code_is_not_run_unasked(ruler_base: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(ruler_base, tmp_path / "base"))
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings["auto_map"] = {"AutoTokenizer": ["evil.Tokenizer", None]}
    file.write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(GistbenchError, match="pass --trust-remote-code if you trust it"):
        load("ruler_fwe", folder)


def test_rulers_tasks_cannot_be_trained_on() -> None:
    with pytest.raises(UsageError, match="ruler_vt is never trained on"):
        generators.require_trained(("niah_passkey", "ruler_vt"))
