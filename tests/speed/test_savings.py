"""What gists buy is measured part by part, on a CPU as far as a CPU can tell."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gistbench.config_files import validate
from gistbench.errors import UsageError
from gistbench.models.decode import read_contexts
from gistbench.models.manifest import Manifest
from gistbench.records import NotMeasured
from gistbench.report.savings.break_even import break_even
from gistbench.report.savings.render import markdown_page, savings_card
from gistbench.speed import budget, savings
from gistbench.speed.budget import AnsweredContexts, StoredContexts
from gistbench.speed.filling import fill
from gistbench.speed.meter import NO_GPU, Memory, Meter
from gistbench.speed.records import Rates
from gistbench.speed.savings import measure_part, measure_savings
from gistbench.speed.savings_records import PrecisionSavings, SavingsRecord
from gistbench.speed.savings_settings import SavingsConfig
from gistbench.speed.subject import Subject
from gistbench.storage import read_json, write_json

CONTEXT, GISTS, QUESTION, NEW = 40, 3, 5, 6
TOKEN = 2 * 2 * 2 * 16 * 4
"""Keys and values of a token: two layers, two heads of 16, float32."""

RATES = Rates(
    matrix_operations_per_second=1e11,
    matrix_size=512,
    matrix_dtype="float32",
    copy_bytes_per_second=1e10,
    copy_bytes=2**26,
)


@pytest.fixture(autouse=True)
def rates_need_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(savings, "measure_rates", lambda *_: RATES)


@pytest.fixture
def settings(tiny_base: Path) -> Callable[..., SavingsConfig]:
    def make(**changes: Any) -> SavingsConfig:
        fields = {
            "base": str(tiny_base),
            "weights": "random",
            "dtype": "float32",
            "quantizations": "none",
            "context_tokens": CONTEXT,
            "num_gists": GISTS,
            "question_tokens": QUESTION,
            "new_tokens": NEW,
            "contexts": "1,3",
            "rounds": 2,
            **changes,
        }
        return validate(SavingsConfig, fields, "test")

    return make


@pytest.fixture
def square_base(tmp_path: Path) -> Path:
    """A configuration whose matrices 4-bit kernels of every CPU take."""
    fields = {
        "model_type": "llama",
        "vocab_size": 90,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    folder = tmp_path / "square"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


def measure(settings: SavingsConfig, folder: Path, **options: Any) -> SavingsRecord:
    record = measure_savings(settings, folder, device="cpu", command="gistbench", **options)
    assert read_json(folder / "savings.json", SavingsRecord) == record
    return record


def subject_of(settings: SavingsConfig, quantization: Any = "none") -> Subject:
    return Subject.load(settings, quantization, RATES, "cpu")


class CountingMeter(Meter):
    """Counts the blocks and batches that are alive, above what a process holds anyway."""

    own = 10_000

    def __init__(self) -> None:
        super().__init__("cpu", NO_GPU)
        self.alive: list[tuple[weakref.ref[Any], Callable[[Any], int]]] = []
        self.caps: list[int | None] = []
        self.most = 0

    def watch(self, thing: Any, size: Callable[[Any], int]) -> Any:
        self.alive.append((weakref.ref(thing), size))
        return thing

    def used(self) -> int:
        things = [(ref(), size) for ref, size in self.alive]
        now = self.own + sum(size(thing) for thing, size in things if thing is not None)
        self.most = max(self.most, now)
        return now

    def available(self) -> int:
        return 10**9

    def cap(self, limit_bytes: int | None) -> None:
        self.caps.append(limit_bytes)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> CountingMeter:
    """A meter that sees what filling allocates."""
    meter = CountingMeter()
    sound_block, sound_batch = budget.block, Subject.batch
    monkeypatch.setattr(
        budget,
        "block",
        lambda shape: meter.watch(sound_block(shape), lambda t: t.numel() * t.element_size()),
    )
    monkeypatch.setattr(
        Subject,
        "batch",
        lambda self, arm, rows: meter.watch(sound_batch(self, arm, rows), lambda b: b.num_bytes),
    )
    return meter


def test_without_a_gpu_times_and_bytes_are_measured_and_the_rest_says_why_not(
    settings: Callable[..., SavingsConfig], tmp_path: Path
) -> None:
    record = measure(settings(), tmp_path)
    (found,) = record.precisions
    assert [(kv.arm, kv.slots, kv.predicted_bytes) for kv in found.key_values] == [
        ("full", CONTEXT, CONTEXT * TOKEN),
        ("gist", GISTS, GISTS * TOKEN),
    ]
    assert all(kv.equal for kv in found.key_values)
    assert found.phases is not None
    timed = {(c.arm, c.phase, c.contexts): c.round_seconds for c in found.phases}
    phases = [("compress", 1), ("steady", 1), ("steady", 3)]
    phases += [("question", 1), ("question", 3), ("decode", 1), ("decode", 3)]
    assert list(timed) == [(arm, *phase) for phase in phases for arm in ("full", "gist")]
    for (_, name, _), rounds in timed.items():
        assert len(rounds) == (0 if name == "steady" else 2)
    for cost in found.phases:
        for value in (cost.torch_allocated_bytes, cost.device_bytes, cost.joules):
            assert isinstance(value, NotMeasured) and "no NVIDIA GPU" in value.not_measured
    for part in (found.stored, found.answered, found.throughput):
        assert isinstance(part, NotMeasured)
    assert "random weights" in record.accuracy.not_measured


def test_projections_lie_together_before_anything_is_measured(
    settings: Callable[..., SavingsConfig],
) -> None:
    """Laid with the first batch, they would take memory from the budget of its contexts."""
    model: Any = subject_of(settings()).model
    layer = model.model.layers[-1].self_attn
    linears = (layer.q_proj, layer.k_proj, layer.v_proj)
    assert len({linear.weight.untyped_storage().data_ptr() for linear in linears}) == 1


def test_floors_count_every_weight_once_and_every_row_s_keys_and_values(
    settings: Callable[..., SavingsConfig], tmp_path: Path
) -> None:
    (found,) = measure(settings(parts="phases"), tmp_path).precisions
    floors = {(c.arm, c.phase, c.contexts): c for c in found.phases or ()}
    one, three = floors["full", "steady", 1].floor_bytes, floors["full", "steady", 3].floor_bytes
    assert three - one == 2 * CONTEXT * TOKEN  # type: ignore[operator]
    gist = floors["gist", "steady", 3].floor_bytes
    assert three - gist == 3 * (CONTEXT - GISTS) * TOKEN  # type: ignore[operator]
    for name in ("compress", "question", "decode"):
        size = 1 if name == "compress" else 3
        assert 0 < floors["full", name, size].floor_seconds < 1  # type: ignore[operator]
    many = floors["full", "question", 3].floor_seconds
    assert many > floors["full", "question", 1].floor_seconds  # type: ignore[operator]


@pytest.mark.parametrize("arm", ["full", "gist"])
def test_filling_really_fills_and_stops_where_one_more_is_too_much(
    settings: Callable[..., SavingsConfig], counting: CountingMeter, arm: Any
) -> None:
    subject = subject_of(settings())
    slots = CONTEXT if arm == "full" else GISTS
    room = 30 * 51 * TOKEN
    stored = StoredContexts(subject, arm, counting, counting.own + room, 10**9)
    found = fill(stored, arm, tolerance=0.0, most=10**6)
    assert found.fits == room // (slots * TOKEN)
    assert (found.fails, found.ended_by) == (found.fits + 1, "budget")
    assert {probe.decode_seconds for probe in found.probes} == {None}

    answered = AnsweredContexts(subject, arm, counting, counting.own + room, 10**9)
    found = fill(answered, arm, tolerance=0.0, most=10**6)
    buffers = -(-(slots + QUESTION + NEW) // 8) * 8
    assert found.fits == room // (buffers * TOKEN)
    assert all(probe.decode_seconds for probe in found.probes)
    assert counting.used() == counting.own, "nothing is left behind"
    assert set(counting.caps) == {counting.own + room, None}
    assert counting.caps[-1] is None


@pytest.mark.parametrize("arm", ["full", "gist"])
def test_contexts_are_read_to_their_places_while_all_others_lie_there(
    settings: Callable[..., SavingsConfig],
    counting: CountingMeter,
    monkeypatch: pytest.MonkeyPatch,
    arm: Any,
) -> None:
    subject = subject_of(settings())
    seen: list[int] = []
    sound = Subject.read_into

    def watched(self: Subject, arm: Any, places: Any) -> None:
        seen.append(counting.used())
        sound(self, arm, places)

    monkeypatch.setattr(Subject, "read_into", watched)
    StoredContexts(subject, arm, counting, 10**9, 10**9).probe(5)
    one = (CONTEXT if arm == "full" else GISTS) * TOKEN
    assert seen == [counting.own + one, counting.own + 5 * one]


def test_memory_that_runs_out_ends_a_try_and_nothing_else(
    settings: Callable[..., SavingsConfig],
    counting: CountingMeter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject = subject_of(settings())
    sound = Subject.prepare

    def capture_fails(self: Subject, batch: Any) -> None:
        if batch.shape[0] <= 5:
            return sound(self, batch)
        try:
            raise torch.OutOfMemoryError("out of memory")
        except torch.OutOfMemoryError:
            raise RuntimeError("the capture was not ended")  # noqa: B904

    monkeypatch.setattr(Subject, "prepare", capture_fails)
    device = AnsweredContexts(subject, "gist", counting, 10**9, 10**8)
    found = fill(device, "gist", tolerance=0.0, most=100)
    assert (found.fits, found.fails, found.ended_by) == (5, 6, "device")
    assert counting.used() == counting.own

    def breaks(self: Subject, batch: Any) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(Subject, "prepare", breaks)
    with pytest.raises(RuntimeError, match="something else"):
        device.probe(1)
    assert counting.used() == counting.own


def test_the_fastest_batch_that_fitted_is_timed_again_in_turn(
    settings: Callable[..., SavingsConfig],
    counting: CountingMeter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit = (counting.own + 20 * 56 * TOKEN) / 2**30
    subject = subject_of(settings(budget_gib=limit, rounds=3))
    done = PrecisionSavings(quantization="none", weights_bytes=1, adapter_bytes=1)
    done = measure_part(subject, counting, "answered", done)
    order: list[tuple[str, int]] = []
    sound = AnsweredContexts.probe

    def watched(self: AnsweredContexts, contexts: int) -> Any:
        order.append((self.arm, contexts))
        return sound(self, contexts)

    monkeypatch.setattr(AnsweredContexts, "probe", watched)
    found = measure_part(subject, counting, "throughput", done).throughput
    assert isinstance(found, tuple) and isinstance(done.answered, tuple)
    best = {filled.arm: savings.fastest(filled) for filled in done.answered}
    full, gist = ("full", best["full"]), ("gist", best["gist"])
    assert order == [gist, full, full, gist, gist, full]
    assert [(s.arm, s.contexts, len(s.decode_seconds)) for s in found] == [(*full, 3), (*gist, 3)]


def test_a_budget_that_weights_alone_exceed_is_one_sentence_before_anything_is_loaded(
    settings: Callable[..., SavingsConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Subject, "load", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(UsageError, match=r"--budget-gib 0\.0001 is below the weights alone, \d"):
        measure(settings(budget_gib=0.0001), tmp_path)


def test_one_precision_that_does_not_fit_leaves_the_rest_measured(
    settings: Callable[..., SavingsConfig], counting: CountingMeter
) -> None:
    subject = subject_of(settings(budget_gib=1e-6))
    done = PrecisionSavings(quantization="none", weights_bytes=1, adapter_bytes=1)
    found = measure_part(subject, counting, "stored", done)
    assert isinstance(found.stored, NotMeasured)
    assert "raise --budget-gib" in found.stored.not_measured


def test_full_context_is_answered_by_the_base_model_s_own_weights(
    settings: Callable[..., SavingsConfig], square_base: Path
) -> None:
    subject = subject_of(settings(base=str(square_base)), "nf4")
    lora = [w for name, w in subject.model.named_parameters() if ".lora_" in name]
    assert lora
    with torch.no_grad():
        for weight in lora:
            weight.add_(0.5)

    def keys() -> torch.Tensor:
        ids = [list(subject.context)]
        return torch.stack(read_contexts(subject.model, ids, keep_all=True).keys)

    adapted = keys()
    with subject.weights_of("full"):
        bare = keys()
    assert not torch.allclose(bare, adapted)
    assert torch.equal(keys(), adapted)
    with torch.no_grad():
        for weight in lora:
            weight.zero_()
    assert torch.equal(keys(), bare)
    rows = 2 * GISTS * 64
    assert subject.adapter_bytes == (sum(w.numel() for w in lora) + rows) * 4


def test_an_interrupted_measurement_goes_on_where_it_stopped(
    settings: Callable[..., SavingsConfig],
    square_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = {"base": str(square_base), "contexts": 1, "rounds": 1}
    wanted = settings(**chosen, quantizations="none,nf4", parts="phases,stored")
    sound, parts = savings.measure_part, []

    def stops(subject: Any, meter: Any, part: Any, *rest: Any) -> Any:
        if parts == [("none", "phases"), ("none", "stored")]:
            raise KeyboardInterrupt
        parts.append((subject.quantization, part))
        return sound(subject, meter, part, *rest)

    monkeypatch.setattr(savings, "measure_part", stops)
    with pytest.raises(KeyboardInterrupt):
        measure(wanted, tmp_path)
    kept = read_json(tmp_path / "savings.json", SavingsRecord).precisions[0]
    parts.clear()
    record = measure(wanted, tmp_path)
    assert parts == [("nf4", "phases"), ("nf4", "stored")]
    assert record.precisions[0] == kept
    parts.clear()
    assert measure(wanted, tmp_path) == record
    assert parts == []
    joined = measure(settings(**chosen, parts="answered"), tmp_path)
    assert parts == [("none", "answered")]
    assert joined.settings["quantizations"] == ["none", "nf4"]
    assert joined.settings["parts"] == ["phases", "stored", "answered"]


def test_a_page_of_a_cpu_says_that_its_floors_count_packed_weights_alone(
    settings: Callable[..., SavingsConfig], square_base: Path, tmp_path: Path
) -> None:
    wanted = settings(base=str(square_base), quantizations="nf4", parts="phases", rounds=1)
    record = measure(wanted, tmp_path)
    assert any(
        isinstance(cost.floor_seconds, float) and cost.unpacked_parameters is None
        for cost in record.precisions[0].phases or ()
    )
    page = markdown_page(savings_card(record))
    assert "The floors of NF4 in this record count packed weights alone." in page
    assert "read packed, written and read again" not in page


def test_other_settings_do_not_mix_with_what_is_there(
    settings: Callable[..., SavingsConfig], tmp_path: Path
) -> None:
    measure(settings(parts="phases", rounds=1), tmp_path)
    with pytest.raises(UsageError, match=r"measured with another num_gists and rounds; repeat"):
        measure(settings(parts="stored", rounds=2, num_gists=2), tmp_path)


def test_other_versions_and_another_adapter_do_not_mix_with_what_is_there(
    settings: Callable[..., SavingsConfig], tmp_path: Path
) -> None:
    record = measure(settings(parts="phases", rounds=1), tmp_path)
    packages = {**record.provenance.packages, "torch": "1.0"}
    older = record.provenance.model_copy(update={"packages": packages})
    changed = {"provenance": older, "checkpoint_sha256": "ab" * 32}
    write_json(tmp_path / "savings.json", record.model_copy(update=changed))
    with pytest.raises(UsageError, match="measured with another torch and checkpoint; repeat"):
        measure(settings(parts="stored", rounds=1), tmp_path)


def test_what_does_not_fit_is_skipped_in_words(
    settings: Callable[..., SavingsConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = Subject.batch

    def too_many(self: Subject, arm: Any, rows: int) -> Any:
        if rows > 1 and arm == "full":
            raise torch.OutOfMemoryError("out of memory")
        return sound(self, arm, rows)

    monkeypatch.setattr(Subject, "batch", too_many)
    (found,) = measure(settings(parts="phases"), tmp_path).precisions
    assert found.skipped == (
        "3 contexts of full alone do not fit on this GPU",
        "3 contexts of both arms at once, whose times alternate, do not fit on this GPU",
    )
    timed = {(c.phase, c.contexts) for c in found.phases or () if c.round_seconds}
    assert timed == {("compress", 1), ("question", 1), ("decode", 1)}


def test_rounds_that_ran_out_of_memory_half_way_leave_no_times(
    settings: Callable[..., SavingsConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound, calls = Subject.prepare, []

    def runs_out(self: Subject, batch: Any) -> None:
        calls.append(batch)
        if len(calls) == 6:  # each arm alone, a round that does not count, both arms of the next
            raise torch.OutOfMemoryError("out of memory")
        sound(self, batch)

    monkeypatch.setattr(Subject, "prepare", runs_out)
    (found,) = measure(settings(parts="phases", contexts=1), tmp_path).precisions
    assert len(found.skipped) == 1
    assert not any(cost.round_seconds for cost in found.phases or ())
    for rival in ("kept", "read again"):
        assert isinstance(break_even(found, 1, rival), NotMeasured)


def test_the_smallest_batch_times_reading_wherever_it_is_named(
    settings: Callable[..., SavingsConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = Subject.batch

    def too_many(self: Subject, arm: Any, rows: int) -> Any:
        if rows > 1:
            raise torch.OutOfMemoryError("out of memory")
        return sound(self, arm, rows)

    monkeypatch.setattr(Subject, "batch", too_many)
    (found,) = measure(settings(parts="phases", contexts="3,1"), tmp_path).precisions
    timed = {cost.phase for cost in found.phases or () if cost.round_seconds}
    assert timed == {"compress", "question", "decode"}


@pytest.mark.parametrize("weights", ["base", "own"])
def test_a_checkpoint_that_switches_its_own_weights_is_refused(
    weights: str,
    settings: Callable[..., SavingsConfig],
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Manifest, "answer_with", weights)
    wanted = settings(weights="real", base=None, checkpoint=str(tiny_checkpoint), parts="phases")
    with pytest.raises(UsageError, match="reads and answers by different weights"):
        measure(wanted, tmp_path)
    assert not (tmp_path / "savings.json").exists()


def test_a_real_checkpoint_is_measured(
    settings: Callable[..., SavingsConfig], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    wanted = settings(weights="real", base=None, checkpoint=str(tiny_checkpoint), parts="phases")
    record = measure(wanted, tmp_path)
    assert [kv.slots for kv in record.precisions[0].key_values] == [CONTEXT, 4]
    assert "no task was answered" in record.accuracy.not_measured


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"parts": "phases,stores"}, "'stores' cannot be measured, did you mean 'stored'"),
        ({"parts": "throughput"}, "takes its batches from answered; name both"),
        ({"contexts": "1,x"}, "contexts are whole numbers from 1 on"),
        ({"quantizations": "int8"}, "'int8' cannot be measured"),
        ({"weights": "real"}, "the arm gist needs --checkpoint"),
        ({"budget_gib": 0}, "greater than 0"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(
    settings: Callable[..., SavingsConfig], fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        settings(**fields)


def test_contexts_beyond_the_positions_are_refused(
    settings: Callable[..., SavingsConfig], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"exceed the 1,024 positions .*--max-positions"):
        measure(settings(context_tokens=1100), tmp_path)


def test_energy_is_that_of_one_repetition_and_steps_pay_for_no_question() -> None:
    from gistbench.speed.phases import _energy_of

    class Energy(Meter):
        used = 0.0

        def joules(self) -> float:
            return self.used

    meter = Energy("cpu", NO_GPU)

    class Quick:
        class settings:  # noqa: N801
            energy_seconds = 0.001

        def seconds(self, work: Callable[[], None]) -> float:
            work()
            return 0.0

    def spends(joules: float) -> Callable[[], None]:
        def work() -> None:
            meter.used += joules

        return work

    quick: Any = Quick()
    assert _energy_of(quick, meter, spends(3.0)) == pytest.approx(3.0)
    assert _energy_of(quick, meter, spends(2.0), before=spends(5.0)) == pytest.approx(2.0)
    less = _energy_of(quick, meter, spends(0.0), before=spends(5.0))
    assert isinstance(less, NotMeasured), "a difference of nothing is no measurement"


def test_a_cpu_has_no_memory_to_speak_of() -> None:
    meter = Meter.open("cpu")
    assert meter.peak() == Memory(NO_GPU, NO_GPU, NO_GPU)
    for value in (meter.used(), meter.available(), meter.allocated(), meter.joules()):
        assert value == NO_GPU
    assert meter.counts.startswith("not at all: no NVIDIA GPU")
    meter.close()
