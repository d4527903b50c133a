"""Runs whose every answer a test writes down, and their comparison."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gistbench.records import SampleRecord
from gistbench.report.compare import Comparison, compare
from gistbench.report.compare.sides import Side, load_sides
from tests.fixtures.synthetic_run import SyntheticRun

Compare = Callable[..., Comparison]


def answering(run: SyntheticRun, **digits: str) -> SyntheticRun:
    """The run with these answers: a digit for each sample of an arm, 1 where it is right.

    Arms that are not named keep theirs.
    """

    def change(sample: SampleRecord) -> SampleRecord:
        if sample.arm not in digits:
            return sample
        right = digits[sample.arm][sample.index] == "1"
        scores = {**sample.scores, "exact_match": float(right), "contains": float(right)}
        output = sample.expected if right else f"wrong {sample.index}"
        return sample.model_copy(update={"scores": scores, "output": output})

    return run.but(sample_change=change)


def with_samples(run: SyntheticRun, **fields: object) -> SyntheticRun:
    """The run with other fields in each sample; a callable is asked for each."""
    before = run.sample_change

    def change(sample: SampleRecord) -> SampleRecord | None:
        found = before(sample) if before else sample
        if found is None:
            return None
        values = {
            name: value(found) if callable(value) else value for name, value in fields.items()
        }
        return found.model_copy(update=values)

    return run.but(sample_change=change)


@pytest.fixture
def sides(tmp_path: Path) -> Callable[..., tuple[Side, ...]]:
    """Write runs as A, B, ... and read them as a comparison does."""

    def read(*runs: SyntheticRun) -> tuple[Side, ...]:
        names = "ABCDEFGHIJ"
        return load_sides([run.write(tmp_path / n) for n, run in zip(names, runs, strict=False)])

    return read


@pytest.fixture
def compared(tmp_path: Path) -> Compare:
    """Write runs as A, B, ... and compare them."""

    def of(*runs: SyntheticRun, arms: tuple[str, ...] = ()) -> Comparison:
        names = "ABCDEFGHIJ"
        folders = [run.write(tmp_path / n) for n, run in zip(names, runs, strict=False)]
        return compare(folders, arms)

    return of
