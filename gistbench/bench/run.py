"""`gistbench run`: every arm on the same samples, then one directory of records.

A run directory is claimed by its settings: the same settings go on where a run stopped, others are
refused. While arms are at work their answers lie in ``work/``; the records appear at the end,
whole.
"""

from __future__ import annotations

import json
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from gistbench import generators, ruler
from gistbench.arms.names import (
    find_arm_name,
    not_applicable,
    require_possible,
    with_controls,
)
from gistbench.bench import spread
from gistbench.bench.checkpoints import find_checkpoints
from gistbench.bench.claim import claim
from gistbench.bench.job import PROBE_FILE, ArmResult, Event, Probe, TimingResult
from gistbench.bench.own_texts import require_donors, with_own_texts
from gistbench.bench.processes import run_worker
from gistbench.bench.state import Display, Run
from gistbench.bench.writing import write_records
from gistbench.config import RunConfig
from gistbench.errors import UsageError
from gistbench.models.catalog import find_model
from gistbench.models.manifest import base_of
from gistbench.records import (
    NotMeasured,
    ThroughputRound,
)
from gistbench.storage import (
    check_writable,
    only_process,
    read_json,
    write_atomically,
)

DEFAULT_SAMPLES = 200
MIN_SAMPLES = 6
LOAD_SECONDS = 12.0


def run(config: RunConfig, folder: Path, *, display: Display, command: str) -> Path:
    """Evaluate every arm and write the run's records.

    Args:
        config: Everything that determines the run.
        folder: The run directory.
        display: Told of the progress.
        command: The command line, for the record.

    Returns:
        The run directory, holding run.json, samples.jsonl and memory.jsonl.

    Raises:
        UsageError: Something in the settings cannot be; nothing done before is lost.
    """
    config = with_own_texts(config)
    wanted = with_controls(config.models)
    # A user's contexts keep their lengths, which --context-tokens says nothing of.
    length = None if set(config.tasks) == {generators.OWN_DATA} else config.context_tokens
    excluded = not_applicable(wanted, length)
    arms = tuple(arm for arm in wanted if arm not in excluded)
    require_possible(arms, chunked=config.chunk_tokens is not None)
    ruler.require_possible(config.tasks, samples=config.samples, split=config.split)
    checkpoints = find_checkpoints(config, arms)
    least = max(
        int(generators.task_definition(task)["metadata"].get("least_samples", 2))
        for task in config.tasks
    )
    if "swapped" in arms and config.samples is not None and config.samples < least:
        raise UsageError(
            f"--samples {config.samples} leaves the swapped control no document with another "
            f"answer; pass --samples {least} or more"
        )
    if "swapped" in arms:
        require_donors(config)
    base = base_of(config.checkpoint, config.base, config.tuned_checkpoint)
    find_model(base)
    spread.require_possible(config)
    check_writable(folder)
    state = Run(config, folder, display, command, arms, excluded, checkpoints, base)
    with only_process(folder):
        _run(state, wanted, length)
    return folder


def _run(state: Run, wanted: tuple[str, ...], length: int | None) -> None:
    if not claim(state):
        state.display.say(f"{state.folder} already holds this run, complete; nothing to do")
        return
    found = _probe(state)
    state.excluded = _not_applicable(state.config, wanted, length, found)
    state.arms = tuple(arm for arm in wanted if arm not in state.excluded)
    _choose_samples(state, found)
    spread.require_possible(state.config, state.samples, found)
    for reason in state.excluded.values():
        state.display.say(f"not applicable: {reason}")
    results = _evaluate_all(state)
    rounds = _timing(state, on_gpu=found.provenance.device.startswith("cuda"))
    write_records(state, found, results, rounds)
    shutil.rmtree(state.work, ignore_errors=True)


def _not_applicable(
    config: RunConfig, wanted: tuple[str, ...], length: int | None, found: Probe
) -> dict[str, str]:
    """What stands against arms, now that the model and a user's contexts are known."""
    shortest, where = found.shortest_own_tokens, ""
    if shortest is not None and (length is None or shortest < length):
        length, where = shortest, f", the shortest context of {config.data_file}"
    reasons = not_applicable(wanted, length, found.base.model_type)
    return {arm: f"{reason}{where}" for arm, reason in reasons.items()}


def _probe(state: Run) -> Probe:
    path = state.work / PROBE_FILE
    if not path.is_file():
        # What is measured stands for every arm, so it is taken where the whole context is read.
        whole = [name for name in map(find_arm_name, state.arms) if name.reads_whole_context]
        here = (name.name for name in whole if name.environment is None)
        # Nor in another environment: versions and tokenizer are to be those of most arms.
        arm = next(here, "full" if whole else _least_budget(state.arms))
        state.display.arm(arm, "loading, and timing one context")
        run_worker(state.job("probe", arm), lambda _: None)
    return read_json(path, Probe)


def _least_budget(arms: tuple[str, ...]) -> str:
    """Of arms that read no whole context, the one that any context is long enough for."""
    names = [name for name in map(find_arm_name, arms) if not name.is_control]
    return min(names, key=lambda name: name.budget_tokens or 0).name


def _choose_samples(state: Run, found: Probe) -> None:
    """Take the number of samples asked for, or what the time allows at the measured rate."""
    plan = state.work / "samples.json"
    if plan.is_file():
        chosen = json.loads(plan.read_text(encoding="utf-8"))
        state.samples, note = chosen["samples"], chosen["note"]
    else:
        state.samples, note = samples_for(state.config, found.prefill_seconds, state.arms)
        write_atomically(plan, json.dumps({"samples": state.samples, "note": note}) + "\n")
    if note:
        state.notes.append(note)
        state.display.say(note)


def samples_for(
    config: RunConfig, prefill_seconds: float, arms: tuple[str, ...]
) -> tuple[int, str]:
    """How many samples a run takes, and the sentence that says why.

    Args:
        config: With `samples`, that is the answer; with `time_budget_seconds`, as many as fit.
        prefill_seconds: Measured seconds of reading one context.
        arms: All arms; controls cost no prefill time, any other at most that of one context.
    """
    if config.samples is not None:
        return config.samples, ""
    if config.time_budget_seconds is None:
        return DEFAULT_SAMPLES, ""
    reading = sum(not find_arm_name(arm).is_control for arm in arms)
    for_answers = 1.25
    per_sample = max(1e-6, len(config.tasks) * reading * prefill_seconds * for_answers)
    left = config.time_budget_seconds - LOAD_SECONDS * len(arms)
    samples = max(MIN_SAMPLES, int(left / per_sample))
    samples = min(samples, DEFAULT_SAMPLES)
    return samples, (
        f"{samples} samples: one context took {prefill_seconds:.1f} s to read here, and about "
        f"{config.time_budget_seconds:.0f} s were allowed (at least {MIN_SAMPLES})"
    )


def _evaluate_all(state: Run) -> dict[str, ArmResult]:
    """Every arm's answers: one arm after the other, or as many at once as the settings allow.

    An arm that fails lets those that have begun finish, so that nothing of theirs is lost.
    """
    if any(not (state.work / f"{arm}.json").is_file() for arm in state.arms):
        spread.remember(state)
    at_once = min(state.config.parallel_arms, len(state.arms))
    if state.config.processes > 1:
        _prepare(state, state.config.processes)
    if at_once == 1:
        return {arm: _evaluate(state, arm) for arm in state.arms}
    _prepare(state, at_once)
    begun: dict[str, Future[ArmResult]] = {}

    def evaluate(arm: str) -> ArmResult:
        # The control reuses what the gist arm compresses; that one stands first in the queue.
        if arm == "swapped" and "gist" in begun:
            begun["gist"].result()
        return _evaluate(state, arm)

    with ThreadPoolExecutor(at_once) as pool:
        for arm in state.arms:
            begun[arm] = pool.submit(evaluate, arm)
        try:
            return {arm: future.result() for arm, future in begun.items()}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _prepare(state: Run, at_once: int) -> None:
    """Build the samples once, tasks side by side, before several arms ask for them."""
    done = state.work / "samples.prepared"
    if done.is_file():
        return
    state.display.say("building the samples")
    with ThreadPoolExecutor(at_once) as pool:
        jobs = [state.job("prepare", task, tasks=(task,)) for task in state.config.tasks]
        list(pool.map(lambda job: run_worker(job, lambda _: None), jobs))
    done.touch()


def _evaluate(state: Run, arm: str) -> ArmResult:
    path = state.work / f"{arm}.json"
    if not path.is_file():
        state.display.arm(arm, "loading")

        def listen(event: Event) -> None:
            if event.kind == "progress":
                state.display.progress(arm, event.task, event.done, event.total)
            elif event.kind == "status":
                state.display.arm(arm, event.text)

        if state.config.processes > 1:
            spread.evaluate(state, arm, listen)
        else:
            run_worker(state.job("evaluate", arm), listen)
    return read_json(path, ArmResult)


def _timing(state: Run, *, on_gpu: bool) -> dict[str, tuple[ThroughputRound, ...] | NotMeasured]:
    """Rounds of the speed measurement, the arms taking turns."""
    measured = [arm for arm in state.arms if not find_arm_name(arm).is_control]
    if not on_gpu:
        reason = "no NVIDIA GPU in this run: decoding speed is measured on one only"
        return {arm: NotMeasured(not_measured=reason) for arm in state.arms}
    control = NotMeasured(not_measured="a control: its speed decides nothing")
    outcomes: dict[str, tuple[ThroughputRound, ...] | NotMeasured] = {
        arm: control for arm in state.arms
    }
    rounds: dict[str, list[ThroughputRound]] = {arm: [] for arm in measured}
    for round_index in range(state.config.timing_rounds):
        for arm in measured:
            path = state.work / f"{arm}.timing-{round_index}.json"
            if not path.is_file():
                text = f"timing, round {round_index + 1} of {state.config.timing_rounds}"
                state.display.arm(arm, text)
                run_worker(state.job("timing", arm, round_index=round_index), lambda _: None)
            outcome = read_json(path, TimingResult).outcome
            if isinstance(outcome, NotMeasured):
                outcomes[arm] = outcome
            else:
                rounds[arm].append(outcome)
    for arm in measured:
        if rounds[arm]:
            outcomes[arm] = tuple(rounds[arm])
        elif outcomes[arm] is control:
            outcomes[arm] = NotMeasured(not_measured="--timing-rounds 0: no round was asked for")
    return outcomes
