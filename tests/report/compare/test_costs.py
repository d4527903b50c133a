"""Where one run's cost may be divided by another's."""

import pytest

from gistbench.records import PartRecord
from gistbench.report.compare.costs import cost_ratio
from gistbench.report.sections.figures import COST_METRICS
from tests.fixtures.synthetic_run import SyntheticRun
from tests.report.compare.conftest import with_samples

RUN = SyntheticRun(num_samples=4, hits={"gist": 4, "full": 2, "swapped": 0, "none": 0})
COUNTED = {"cache_tokens", "cache_bytes", "contexts_in_budget"}


def ratios(read, reference_arm="gist", arm="gist"):
    reference, side = read
    return {
        metric: cost_ratio(reference, reference_arm, side, arm, metric) for metric in COST_METRICS
    }


def elsewhere(run, **fields):
    where = run.record().provenance.model_copy(update=fields)
    return run.but(run_changes={"provenance": where})


def timed(run, **fields):
    return with_samples(run, timing=lambda sample: sample.timing.model_copy(update=fields))


def test_a_ratio_is_the_run_over_the_reference(sides):
    found = ratios(sides(RUN, RUN.but(num_gists=20)))
    assert found["cache_tokens"].text == found["cache_bytes"].text == "2x"
    slower = ratios(sides(RUN, timed(RUN, first_token_seconds=0.024)))
    assert slower["first_token_seconds"].value == pytest.approx(2, rel=0.01)
    assert slower["first_token_seconds"].detail == "of medians, one run each"


def test_arms_of_two_runs_have_a_ratio_too(sides):
    found = ratios(sides(RUN, RUN), reference_arm="full", arm="gist")
    assert found["cache_bytes"].value == pytest.approx(10 / 4925)
    assert found["throughput"].value == pytest.approx(900 / 405, rel=0.05)


def test_across_devices_only_what_is_counted_has_a_ratio(sides):
    found = ratios(sides(RUN, elsewhere(RUN, device_name="NVIDIA A100")))
    assert {metric for metric, cell in found.items() if cell.value is not None} == COUNTED
    assert found["steady_many"].not_applicable
    assert found["steady_many"].not_measured == (
        "no ratio: it depends on the device, NVIDIA H200 there and NVIDIA A100 here"
    )


def test_on_a_cpu_the_number_of_cores_is_part_of_the_device(sides):
    cpu = RUN.but(gpu=False)
    found = ratios(sides(cpu, elsewhere(cpu, num_cpu_cores=2)))
    reason = "no ratio: 16 CPU cores there and 2 here"
    assert found["first_token_seconds"].not_measured == reason
    assert found["cache_bytes"].text == "1x"


def test_other_batches_make_other_times_and_the_same_bytes(sides):
    found = ratios(sides(RUN, timed(RUN, batch_size=4)))
    for metric in ("compress_seconds", "first_token_seconds", "decode_tokens_per_second"):
        assert found[metric].not_measured == "no ratio: batches of 1 there and of 4 here"
    assert found["cache_bytes"].text == "1x"
    assert found["steady_many"].text == "1x"


def test_another_number_of_contexts_has_no_ratio_of_memory_and_throughput(sides):
    found = ratios(sides(RUN, RUN.but(contexts=8)))
    assert "32 contexts of 4,925 tokens held there, 8" in found["steady_many"].not_measured
    assert found["throughput"].not_measured.startswith(
        "no ratio: 32 contexts of 4,925 tokens there"
    )
    assert found["steady_one"].text == "1x"


def test_another_length_has_no_ratio_at_all(sides):
    found = ratios(sides(RUN, RUN.but(context_tokens=2048)))
    assert {cell.value for cell in found.values()} == {None}
    assert found["cache_bytes"].not_measured == (
        "no ratio: contexts of 4,925 tokens there and 2,048 here"
    )


def test_a_median_over_other_tasks_has_no_ratio(sides):
    more = RUN.but(tasks=("niah_passkey", "niah_uuid"))
    found = ratios(sides(RUN, more))
    assert found["first_token_seconds"].not_measured == (
        "no ratio: a median over the samples of other tasks"
    )


def test_what_one_run_did_not_measure_has_no_ratio(sides):
    found = ratios(sides(RUN, RUN.but(gpu=False)))
    assert found["steady_many"].not_measured == "no ratio: not measured in both runs"


def test_a_run_merged_from_two_devices_has_no_ratio_of_times(sides):
    parts = tuple(
        PartRecord(
            created="2030-01-02T03:04:05Z",
            command="gistbench run",
            git_commit=None,
            device_name=device,
            arms=tuple(RUN.hits),
            tasks=RUN.tasks,
            context_tokens=RUN.context_tokens,
            samples_sha256="ab" * 32,
        )
        for device in ("NVIDIA H200", "NVIDIA A100")
    )
    merged = RUN.but(run_changes={"parts": parts})
    found = ratios(sides(merged, merged))
    assert found["first_token_seconds"].not_applicable
    assert found["cache_bytes"].text == "1x"
