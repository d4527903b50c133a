"""`docs/gate.md`, written by ``python -m gistbench.gate.rates_page > docs/gate.md``."""

from __future__ import annotations

from collections.abc import Sequence

from gistbench.gate.policy import AccuracyPolicy, Policy, TimePolicy, load_policy
from gistbench.gate.rates import accuracy_rates, prompts_needed, time_rates
from gistbench.report.power import one_sided_power
from gistbench.report.statistics import wilson

SIMULATIONS = 2000
PUBLISHED_PAIRS = 400
"""Prompts that the two published runs of one checkpoint share; a test counts them again."""

LADDER_CELLS = 17 * 3
"""The ladder's tasks times gist, full and full-tuned."""

RIVAL_CELLS = 227
"""Cells of the published ladder, rivals included, in which something can be lost."""

FAMILIES = (1, LADDER_CELLS, RIVAL_CELLS)

TIMES = 2 * 3
"""Gist and full, times reading, first token and decoding step."""

SIZES = (200, 400, 1000)
UNCHANGED = (0.0, 0.01, 0.02, 0.03, 0.05)
DISCORDANCES = (0.05, 0.08, 0.10, 0.20)
DROP, TARGET = 0.05, 0.90
VARIATION, SLOWDOWN = 0.05, 0.10
REPEATS = (6, 8, 10, 12, 16)

_INTRODUCTION = """# How often the gate errs

Written by `python -m gistbench.gate.rates_page`; a test holds this page against the code.

`gistbench gate` says *pass* (exit code 0), *regression* (1), *refused* (2) or *inconclusive* (3).
What follows are the error rates of its [default policy](../gistbench/gate/policy.yaml), from the
functions that decide, on simulated runs. The *discordance* is the share of prompts on which
exactly one of the two runs is right; where nothing has changed, it splits evenly. A *cell* is one
arm on one task. {simulations} simulated runs stand behind each share, so that its standard error is
at most {error} points.

How discordant is a run with an earlier one of the same checkpoint? The two published runs of
`smollm2-135m-gist-10` share 400 prompts, with other batch sizes on the same kind of card. None of
their outputs differ, for `gist` or for `full`, which leaves up to {spotless} open (Wilson).
"""

_DECISIONS = """## What it compares

| check | against the baseline | regression | pass |
|---|---|---|---|
| accuracy | each cell, paired by prompt hash | McNemar's exact test, one-sided, after Holm's \
adjustment over all cells: p at most {accuracy_alpha:g} | the 95 % interval of the difference \
(Newcombe) lies above -{margin:g} points |
| cache bytes, weights | to the byte | any difference, also fewer | none |
| allocated memory | torch's count, contexts held | more than {allocated:g} % above | otherwise |
| device memory | NVML's reading, contexts held | more than {device:g} % and {slack} MiB above | \
otherwise |
| time | {repeats} runs or more on either side, by turns | Mann-Whitney's p at most {time_alpha:g} \
after Holm's adjustment, and at least {slowdown:g} % slower (Hodges-Lehmann), and Cliff's delta at \
least {delta:g} | the one-sided 95 % limit of the slowdown is below {tolerance:g} % |
| criteria | those of CONCEPT.md that it met | not met any more, or at a lower grade | met |
| controls | the scorecard's rule, for each run by itself | a leak by that rule, and better than \
the baseline's control (McNemar, Holm: p at most {controls_alpha:g}) | clean by that rule |

What is neither is inconclusive, with the n that would decide, and not a pass. What a baseline
measured and a run did not is refused where the policy requires it, else *not compared*, in words.
A time is never judged by one run against one run. A loss that the test finds is a regression also
where it is smaller than the margin; whoever accepts it writes a new baseline, with a reason.

A cell that the baseline answered nowhere can lose nothing. It passes, and is not counted in the
adjustment.
"""


def rates_page(simulations: int = SIMULATIONS) -> str:
    """The whole page.

    Args:
        simulations: Runs behind each simulated share.
    """
    policy = load_policy()
    error = 100 * 0.5 / simulations**0.5
    introduction = _INTRODUCTION.format(
        simulations=f"{simulations:,}",
        error=f"{error:.1f}",
        spotless=_percent(round(wilson(0, PUBLISHED_PAIRS).high, 3)),
    )
    return "\n".join(
        [
            introduction,
            _decisions(policy),
            _unchanged(policy.accuracy, simulations),
            _drops(policy.accuracy, simulations),
            _times(policy.time, simulations),
            _limits(policy),
        ]
    )


def _decisions(policy: Policy) -> str:
    return _DECISIONS.format(
        controls_alpha=policy.controls.alpha,
        accuracy_alpha=policy.accuracy.alpha,
        margin=100 * policy.accuracy.margin,
        allocated=100 * policy.allocated_memory.tolerance,
        device=100 * policy.device_memory.tolerance,
        slack=policy.device_memory.slack_mib,
        repeats=policy.time.repeats,
        time_alpha=policy.time.alpha,
        slowdown=100 * policy.time.slowdown,
        delta=policy.time.cliffs_delta,
        tolerance=100 * policy.time.tolerance,
    )


def _unchanged(policy: AccuracyPolicy, simulations: int) -> str:
    """False alarms and passes of a model in which nothing has changed."""
    found = {
        (cells, share, n): accuracy_rates(
            policy, cells=cells, n=n, discordance=share, simulations=simulations
        )
        for cells in FAMILIES
        for share in UNCHANGED
        for n in SIZES
    }

    def table(title: str, cells: int, show: str) -> str:
        rows = [
            (_percent(share), [_percent(getattr(found[cells, share, n], show)) for n in SIZES])
            for share in UNCHANGED
        ]
        return f"{title}\n\n{_table('discordance', _heads(SIZES), rows)}"

    def reach(n: int) -> str:
        enough = [d for d in UNCHANGED if found[LADDER_CELLS, d, n].passed >= TARGET]
        return f"{_percent(max(enough))} with n = {n:,}" if enough else f"none with n = {n:,}"

    return "\n".join(
        [
            "## An unchanged model over the whole ladder\n",
            f"{LADDER_CELLS} cells are the 17 tasks of the ladder times `gist`, `full` and "
            f"`full-tuned`; {RIVAL_CELLS} are those of the published ladder, its rivals included, "
            "in which something can be lost.\n",
            table(f"False alarms, {LADDER_CELLS} cells:", LADDER_CELLS, "regression"),
            table(f"False alarms, {RIVAL_CELLS} cells:", RIVAL_CELLS, "regression"),
            f"Holm's method bounds this at {_percent(policy.alpha)} whatever the discordance.\n",
            table(f"Passes, every one of {LADDER_CELLS} cells:", LADDER_CELLS, "passed"),
            table(f"Passes, every one of {RIVAL_CELLS} cells:", RIVAL_CELLS, "passed"),
            table("Passes, a cell alone:", 1, "passed"),
            f"With the margin of {100 * policy.margin:g} points an unchanged ladder of "
            f"{LADDER_CELLS} cells passes with a chance of {_percent(TARGET)} or more up to a "
            f"discordance of {', '.join(map(reach, SIZES))}. Beyond that a run that "
            "does not pass is mostly *inconclusive*: no false alarm, and no pass.\n",
        ]
    )


def _drops(policy: AccuracyPolicy, simulations: int) -> str:
    """How often a real loss in one cell is found."""
    rows = []
    for share in DISCORDANCES:
        rates = accuracy_rates(
            policy,
            cells=LADDER_CELLS,
            n=400,
            discordance=share,
            drop=DROP,
            simulations=simulations,
        )
        needed = [
            prompts_needed(policy, cells=cells, discordance=share, drop=DROP, target=TARGET)
            for cells in FAMILIES
        ]
        among = one_sided_power(share, DROP, 400, policy.alpha / RIVAL_CELLS)
        rows.append(
            (
                _percent(share),
                [
                    _percent(rates.regression),
                    _percent(rates.passed),
                    _percent(among),
                    *(f"{n:,}" for n in reversed(needed)),
                ],
            )
        )
    heads = [
        f"found, n = 400, {LADDER_CELLS} cells",
        "passes",
        f"found, {RIVAL_CELLS} cells",
        *(f"n for {_percent(TARGET)}, {_cells(cells)}" for cells in reversed(FAMILIES)),
    ]
    return (
        f"## A drop of {100 * DROP:g} points in one cell\n\n"
        + _table("discordance", heads, rows)
        + f"\nAt a discordance of {100 * DROP:g} % a drop of {100 * DROP:g} points means that "
        "every prompt that differs is a loss. That is the easy case: the more gains stand beside "
        "the losses, the more prompts it takes. What is said of "
        f"{RIVAL_CELLS} cells and of n is summed from the binomial distribution, for the strictest "
        "level that Holm's method asks. To compare fewer cells (`cells` in a policy) takes fewer "
        "prompts.\n"
    )


def _times(policy: TimePolicy, simulations: int) -> str:
    """How often a slowdown is found, by repeats."""
    rows = []
    for repeats in REPEATS:
        slower, same = (
            time_rates(
                policy,
                times=TIMES,
                repeats=repeats,
                variation=VARIATION,
                slowdown=slowdown,
                simulations=simulations // 2,
            )
            for slowdown in (SLOWDOWN, 0.0)
        )
        rows.append(
            (
                f"{repeats}",
                [
                    _percent(slower.regression),
                    _percent(slower.passed),
                    _percent(same.regression),
                    _percent(same.passed),
                ],
            )
        )
    heads = [
        f"{100 * SLOWDOWN:g} % slower: found",
        "passes",
        "unchanged: false alarm",
        "unchanged: passes",
    ]
    return (
        f"## Times, {TIMES} compared, coefficient of variation {100 * VARIATION:g} %\n\n"
        + _table("runs on either side", heads, rows)
        + f"\nThe policy asks for {policy.repeats}. A repeat is a whole run and counts as its "
        "median: the rounds within a run share their hour. Here "
        f"{simulations // 2:,} comparisons stand behind each share.\n"
    )


def _limits(policy: Policy) -> str:
    total = policy.accuracy.alpha + policy.time.alpha + policy.controls.alpha
    return (
        "## What these figures do not say\n\n"
        "* Prompts are taken to be independent. Where many share a template they are less than "
        "that, and a run says less than its n.\n"
        f"* The chances of a false alarm add up: accuracy {_percent(policy.accuracy.alpha)}, times "
        f"{_percent(policy.time.alpha)} and controls {_percent(policy.controls.alpha)} are "
        f"{_percent(total)} at most over everything that is tested.\n"
        f"* A loss below {100 * policy.accuracy.margin:g} points passes where the test does not "
        "find it. Such losses do not add up over many runs: each is compared with the same "
        "baseline, which moves only by hand.\n"
        "* Machines drift. The rates for times hold where the two sides took turns, which the "
        "gate checks by the times at which the runs were written, and where runs vary as "
        "supposed.\n"
        "* Bytes and weights have no error rate: they are counted.\n"
    )


def _table(first: str, heads: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    lines = [f"| {first} | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    lines += [f"| {label} | {' | '.join(cells)} |" for label, cells in rows]
    return "\n".join(lines) + "\n"


def _cells(count: int) -> str:
    return f"{count} cell{'s'[: count > 1]}"


def _heads(sizes: Sequence[int]) -> list[str]:
    return [f"n = {size:,}" for size in sizes]


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


if __name__ == "__main__":
    print(rates_page(), end="")
