"""Every criterion at its borders. Whatever is not measured neither passes nor earns."""

import pytest

from gistbench.records import NotMeasured
from gistbench.report.criteria import load_criteria
from gistbench.report.measured import Measurement
from gistbench.report.statistics import Estimate
from gistbench.report.verdicts import judge, judge_run, score
from tests.fixtures.ladder_run import LadderRun

BLOCK = load_criteria()


def measured(low, high, value=None, blocked=None):
    value = (low + high) / 2 if value is None else value
    return Measurement(
        estimate=Estimate(value, low, high, 50),
        evidence="counted",
        counted="samples",
        needed=lambda threshold: 123,
        blocked=blocked,
    )


def verdicts(evidence):
    return {verdict.id: verdict for verdict in judge_run(BLOCK, evidence)}


@pytest.mark.parametrize(
    ("name", "low", "high", "outcome", "earned"),
    [
        ("compression_ratio", 100, 100, "PASS", 20),
        ("compression_ratio", 99.9, 100.1, "INCONCLUSIVE", 0),
        ("compression_ratio", 90, 99.9, "FAIL", 0),
        ("passkey_accuracy", 0.9001, 1, "PASS", 30),
        ("passkey_accuracy", 0.9, 1, "INCONCLUSIVE", 0),
        ("passkey_accuracy", 0.8, 0.9, "FAIL", 0),
        ("vram", 0.5, 0.5, "PASS", 15),
        ("vram", 0.4999, 0.4999, "FAIL", 0),
        ("throughput", 1.0, 3.0, "PASS", 15),
        ("throughput", 0.99, 3.0, "INCONCLUSIVE", 0),
        ("throughput", 0.5, 0.99, "FAIL", 0),
        ("global_understanding", 0.9, 1, "PASS", 10),
        ("global_understanding", 0.7, 0.89, "PASS", 5),
        ("global_understanding", 0.75, 0.95, "PASS", 5),
        ("global_understanding", 0.69, 0.95, "INCONCLUSIVE", 0),
        ("global_understanding", 0.1, 0.69, "FAIL", 0),
        ("hallucination_rate", 0, 0.02, "PASS", 10),
        ("hallucination_rate", 0.01, 0.1, "PASS", 5),
        ("hallucination_rate", 0.03, 0.11, "INCONCLUSIVE", 0),
        ("hallucination_rate", 0.101, 0.2, "FAIL", 0),
    ],
)
def test_only_the_whole_interval_decides(name, low, high, outcome, earned):
    found = judge(BLOCK[name], measured(low, high))
    assert (found.outcome, found.earned) == (outcome, earned)
    assert (found.n_needed == 123) == (outcome == "INCONCLUSIVE")


def test_the_grade_is_named():
    assert judge(BLOCK["global_understanding"], measured(0.75, 0.95)).outcome_text == "PASS (fair)"
    assert (
        "good is not decided" in judge(BLOCK["global_understanding"], measured(0.75, 0.95)).reason
    )


@pytest.mark.parametrize("criterion", BLOCK.criteria, ids=lambda c: c.id)
def test_nothing_unmeasured_passes_or_earns(criterion):
    found = judge(criterion, NotMeasured(not_measured="no device"))
    assert (found.outcome, found.earned, found.value) == ("NOT_MEASURED", 0, None)
    assert found.reason == "no device"


@pytest.mark.parametrize("criterion", BLOCK.criteria, ids=lambda c: c.id)
def test_a_single_observation_is_inconclusive(criterion):
    alone = Measurement(None, "one", "samples", lambda threshold: 2)
    assert judge(criterion, alone).outcome == "INCONCLUSIVE"
    assert judge(criterion, alone).earned == 0


def test_a_blocked_measurement_cannot_pass_but_can_fail():
    blocked = judge(BLOCK["passkey_accuracy"], measured(0.95, 1, blocked="INVALID-LEAK: why"))
    assert (blocked.outcome, blocked.earned) == ("NOT_MEASURED", 0)
    assert "INVALID-LEAK: why" in blocked.reason
    assert judge(BLOCK["passkey_accuracy"], measured(0.1, 0.2, blocked="x")).outcome == "FAIL"


def test_a_gpu_run_earns_what_it_measured_and_nothing_is_rescaled(gpu_run, read):
    found = verdicts(read(gpu_run))
    outcomes = {name: verdict.outcome for name, verdict in found.items()}
    assert outcomes == {
        "compression_ratio": "PASS",
        "passkey_accuracy": "PASS",
        "vram": "PASS",
        "throughput": "PASS",
        "global_understanding": "NOT_MEASURED",
        "hallucination_rate": "NOT_MEASURED",
    }
    total = score(list(found.values()))
    assert (total.earned, total.out_of) == (80, 100)
    assert total.arithmetic == "20 + 30 + 15 + 15 + 0 + 0 = 80"
    assert total.measurable.startswith("4 of 6 measurable")


def test_a_cpu_run_measures_no_memory_and_no_throughput(cpu_run, read):
    found = verdicts(read(cpu_run))
    for name in ("vram", "throughput"):
        assert found[name].outcome == "NOT_MEASURED"
        assert "no NVIDIA GPU" in found[name].reason
    assert found["passkey_accuracy"].outcome == "INCONCLUSIVE"
    assert found["passkey_accuracy"].n_needed == 35
    assert score(list(found.values())).earned == 20


# ------------------------------------------------------------------------------------ compression


def test_compression_is_counted_per_sample(gpu_run, read):
    def longer(sample):
        extra = 100 * (sample.index % 2)
        return sample.model_copy(update={"context_tokens": 4900 + extra})

    found = verdicts(read(gpu_run.but(sample_change=longer)))["compression_ratio"]
    assert found.value == pytest.approx(495.0)
    assert found.low is not None
    assert found.low < 495 < (found.high or 0)


def test_too_little_compression_fails(gpu_run, read):
    found = verdicts(read(gpu_run.but(num_gists=50)))["compression_ratio"]
    assert (found.outcome, found.value) == ("FAIL", 98.5)


def test_a_cache_that_kept_more_than_the_gists_has_no_ratio(gpu_run, read):
    def kept_all(sample):
        keeps = sample.arm == "gist" and sample.index == 3
        return sample.model_copy(update={"cache_tokens": 4925}) if keeps else sample

    found = verdicts(read(gpu_run.but(sample_change=kept_all)))["compression_ratio"]
    assert found.outcome == "NOT_MEASURED"
    assert "4,925 slots" in found.reason


# ---------------------------------------------------------------------------------------- passkey


@pytest.mark.parametrize(
    ("right", "outcome"), [(40, "PASS"), (37, "INCONCLUSIVE"), (10, "FAIL"), (36, "INCONCLUSIVE")]
)
def test_passkey_accuracy_borders(gpu_run, read, right, outcome):
    hits = {"gist": right, "full": 16, "swapped": 0, "none": 0}
    found = verdicts(read(gpu_run.but(hits=hits)))["passkey_accuracy"]
    assert found.outcome == outcome
    if right == 36:
        assert found.n_needed is None
        assert "no n decides" in found.reason


def test_another_task_is_never_counted_as_the_passkey_task(gpu_run, read):
    found = verdicts(read(gpu_run.but(tasks=("niah_passkey_ko",))))["passkey_accuracy"]
    assert found.outcome == "NOT_MEASURED"
    both = gpu_run.but(
        tasks=("niah_passkey", "niah_passkey_ko"),
        sample_change=lambda s: (
            s.model_copy(update={"scores": {"exact_match": 0.0}, "output": "none"})
            if s.task.endswith("_ko")
            else s
        ),
    )
    assert verdicts(read(both))["passkey_accuracy"].n == 40
    assert verdicts(read(both))["passkey_accuracy"].value == 1.0


def test_an_incomplete_gist_arm_is_not_measured(gpu_run, read):
    killed = gpu_run.but(
        sample_change=lambda s: None if s.arm == "gist" and s.index >= 39 else s,
        arm_changes={"gist": {"complete": False}},
    )
    found = verdicts(read(killed))
    assert found["passkey_accuracy"].outcome == "NOT_MEASURED"
    assert "1 samples of arm gist are missing" in found["passkey_accuracy"].reason
    assert found["compression_ratio"].outcome == "NOT_MEASURED"


def test_samples_that_vanished_are_noticed_even_if_the_arm_claims_to_be_complete(gpu_run, read):
    cut = gpu_run.but(sample_change=lambda s: None if s.arm == "gist" and s.index >= 39 else s)
    assert verdicts(read(cut))["passkey_accuracy"].outcome == "NOT_MEASURED"


@pytest.mark.parametrize("depth", [0.95, None])
def test_depths_that_are_not_spread_are_not_measured(gpu_run, read, depth):
    same = gpu_run.but(sample_change=lambda s: s.model_copy(update={"needle_depth": depth}))
    found = verdicts(read(same))["passkey_accuracy"]
    assert found.outcome == "NOT_MEASURED"
    assert "depth" in found.reason


def test_sampling_is_not_greedy(gpu_run, read):
    sampled = gpu_run.but(task_changes={"generation": {"do_sample": True}})
    assert verdicts(read(sampled))["passkey_accuracy"].outcome == "NOT_MEASURED"


# ------------------------------------------------------------------------- memory and throughput


def test_memory_is_judged_on_the_steady_state(gpu_run, read):
    found = verdicts(read(gpu_run))["vram"]
    weights, cache = 270_000_000, 32 * 46_080
    assert found.value == pytest.approx(1 - (weights + cache * 10) / (weights + cache * 4925))
    assert found.low == found.value == found.high


def test_one_context_peak_and_precision_stand_beside_memory_and_never_decide(gpu_run, read):
    lines = {line.label: line.text for line in verdicts(read(gpu_run))["vram"].beside}
    assert "less" in lines["One context"]
    assert "0.0 % less" in lines["Peak of the compress pass"]
    assert lines["NF4 gists against bf16 full context"] == "not measured in this run"


def steady_changed(gpu_run, **update):
    arm = gpu_run.arm("gist")
    return gpu_run.but(
        arm_changes={"gist": {"steady_many": arm.steady_many.model_copy(update=update)}}
    )


def test_exactly_half_the_memory_passes(gpu_run, read):
    full = gpu_run.arm("full").steady_many.torch_allocated_bytes
    run = steady_changed(gpu_run, torch_allocated_bytes=full // 2)
    assert verdicts(read(run))["vram"].outcome == "PASS"
    run = steady_changed(gpu_run, torch_allocated_bytes=full // 2 + 1)
    assert verdicts(read(run))["vram"].outcome == "FAIL"


@pytest.mark.parametrize("quantity", ["contexts_held", "context_tokens"])
def test_unlike_steady_states_are_not_compared(gpu_run, read, quantity):
    found = verdicts(read(steady_changed(gpu_run, **{quantity: 8})))["vram"]
    assert found.outcome == "NOT_MEASURED"
    assert quantity.replace("_", " ") in found.reason


def test_other_than_32_contexts_do_not_count(gpu_run, read):
    found = verdicts(read(gpu_run.but(contexts=8)))
    for name in ("vram", "throughput"):
        assert found[name].outcome == "NOT_MEASURED"
        assert "asks for 32" in found[name].reason


@pytest.mark.parametrize(
    ("speeds", "outcome"),
    [
        (((900, 400), (880, 410), (910, 405)), "PASS"),
        (((400, 400), (500, 410), (380, 405)), "INCONCLUSIVE"),
        (((300, 400), (310, 410), (305, 405)), "FAIL"),
        (((400, 400), (410, 410)), "PASS"),
        (((900, 400),), "NOT_MEASURED"),
        ((), "NOT_MEASURED"),
    ],
)
def test_throughput_borders(gpu_run, read, speeds, outcome):
    found = verdicts(read(gpu_run.but(round_speeds=speeds)))["throughput"]
    assert found.outcome == outcome


def test_rounds_are_paired_by_index(gpu_run, read):
    rounds = gpu_run.arm("gist").throughput_rounds
    moved = tuple(r.model_copy(update={"round_index": r.round_index + 2}) for r in rounds)
    run = gpu_run.but(arm_changes={"gist": {"throughput_rounds": moved}})
    found = verdicts(read(run))["throughput"]
    assert found.outcome == "NOT_MEASURED"
    assert "1 paired rounds" in found.reason


@pytest.mark.parametrize("update", [{"context_tokens": 100}, {"contexts": 4}, {"seconds": 0.0}])
def test_unlike_or_empty_rounds_are_no_pair(gpu_run, read, update):
    rounds = tuple(r.model_copy(update=update) for r in gpu_run.arm("gist").throughput_rounds)
    run = gpu_run.but(arm_changes={"gist": {"throughput_rounds": rounds}})
    assert verdicts(read(run))["throughput"].outcome == "NOT_MEASURED"


@pytest.mark.parametrize("name", ["global_understanding", "hallucination_rate"])
def test_what_no_task_measures_is_not_measured(gpu_run, read, name):
    found = verdicts(read(gpu_run))[name]
    assert found.outcome == "NOT_MEASURED"
    assert "no task of this run" in found.reason


def test_a_round_listed_twice_is_not_measured(gpu_run, read):
    rounds = gpu_run.arm("gist").throughput_rounds
    run = gpu_run.but(arm_changes={"gist": {"throughput_rounds": (*rounds, rounds[0])}})
    assert verdicts(read(run))["throughput"].outcome == "NOT_MEASURED"


def test_another_precision_is_shown_where_the_run_has_it(gpu_run, read):
    base = gpu_run.record().base.model_copy(update={"quantization": "nf4"})
    full = gpu_run.arm("full")
    run = gpu_run.but(
        hits={**gpu_run.hits, "full_bf16": 16},
        run_changes={"base": base},
        arm_changes={"full_bf16": {"steady_many": full.steady_many}},
    )
    lines = {line.label: line.text for line in verdicts(read(run))["vram"].beside}
    assert "96.2 % less" in lines["NF4 gists against bf16 full context"]


def test_memory_and_speed_of_another_length_do_not_count_at_the_judged_one(read):
    run = LadderRun(
        tasks=("niah_passkey",), lengths=(512, 4925), arms=("gist", "full", "swapped", "none")
    )
    found = verdicts(read(run))
    assert (found["vram"].outcome, found["throughput"].outcome) == ("PASS", "PASS")

    def longer(arm):
        held = arm.steady_many.model_copy(update={"context_tokens": 4925})
        rounds = tuple(r.model_copy(update={"context_tokens": 4925}) for r in arm.throughput_rounds)
        return arm.model_copy(update={"steady_many": held, "throughput_rounds": rounds})

    arms = tuple(longer(arm) if arm.name in ("gist", "full") else arm for arm in run.record().arms)
    found = verdicts(read(run.but(run_changes={"arms": arms})))
    for name in ("vram", "throughput"):
        assert found[name].outcome == "NOT_MEASURED"
        assert "4,925 tokens, and the run is judged at 512" in found[name].reason
