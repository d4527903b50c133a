"""Times are those of batches; no percentile stands on too few of them."""

from gistbench.records import NotMeasured, Timing
from gistbench.report.sections.latency import latency


def cells(found, quantity, arm):
    rows = next(group.rows for group in found.table.groups if group.title == quantity)
    return dict(
        zip(found.table.columns, next(r.cells for r in rows if r.label == arm), strict=True)
    )


def test_percentiles_stand_with_their_intervals_and_p99_only_where_n_allows(read, gpu_run):
    found = latency(read(gpu_run))
    assert found is not None
    times = cells(found, "question to first token", "gist")
    assert times["batches"].text == "40"
    assert times["p50"].low is not None and times["p50"].low < times["p50"].value
    assert times["p90"].not_measured is None
    assert times["p99"].not_measured == "p99 needs 368 timed batches"
    many = gpu_run.but(num_samples=400, hits={"gist": 400, "full": 16})
    found = latency(read(many))
    assert found is not None
    assert cells(found, "question to first token", "gist")["p99"].n == 400


def test_samples_of_one_batch_are_one_time(read, gpu_run):
    def batched(sample):
        timing = Timing(
            batch_size=10,
            compress_seconds=1.0 + sample.index // 10,
            first_token_seconds=0.1,
            decode_seconds=0.5,
            decode_steps=5,
        )
        return sample.model_copy(update={"timing": timing})

    found = latency(read(gpu_run.but(sample_change=batched)))
    assert found is not None
    read_times = cells(found, "read the context (prefill)", "gist")
    assert (read_times["batches"].text, read_times["longest"].text) == ("4", "4 s")
    assert cells(found, "each further token", "gist")["shortest"].value == 0.1
    assert "one batch of 10 samples at 4,925 context tokens" in found.notes[0]


def test_what_was_not_timed_is_named_with_its_reason(read, gpu_run):
    found = latency(read(gpu_run))
    assert found is not None
    assert found.notes[-1] == (
        "NOT MEASURED, read the context (prefill): swapped, none. "
        "Reason: this arm reads no context of its own."
    )
    reason = NotMeasured(not_measured="arms ran at once")

    def untimed(sample):
        return sample.model_copy(update={"timing": reason})

    found = latency(read(gpu_run.but(sample_change=untimed)))
    assert found is not None
    assert found.panels == () and found.table.groups == ()
    assert len(found.notes) == 3
    assert all(note.endswith("Reason: arms ran at once.") for note in found.notes)


def test_curves_are_thinned_and_keep_their_ends(read, gpu_run):
    many = gpu_run.but(num_samples=400, hits={"gist": 400})
    found = latency(read(many))
    assert found is not None
    curve = found.panels[0].curves[0]
    assert len(curve.seconds) <= 101
    assert curve.shares[-1] == 1.0 and curve.shares[0] == 1 / 400
    assert curve.seconds[0] == 0.09 and curve.seconds[-1] == 0.09 + 399 * 1e-4
