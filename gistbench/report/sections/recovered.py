"""How many bits come back from a gist token.

An answer that is exactly right proves that its bits were in the gists. Summed over the samples and
divided by the gist tokens that is a lower bound on what was stored: what the question did not ask
for, and what came back almost right, does not count.
"""

from __future__ import annotations

import statistics

from gistbench.metrics import compression_ratio, format_ratio
from gistbench.records import SampleRecord, TaskRecord
from gistbench.report.controls import exact
from gistbench.report.evidence import GIST, Evidence, Samples
from gistbench.report.ladder import BitsPoint
from gistbench.report.sections.figures import rate_figure
from gistbench.report.shown import Figure
from gistbench.report.statistics import Estimate, mean, wilson

FAMILIES = ("niah_digits_", "niah_labelled_")
SINGLE = ("niah_passkey", "niah_uuid")
BITS_PER_BYTE = 8


def bits_points(evidence: Evidence) -> tuple[BitsPoint, ...]:
    """One point for each task and length of the digits and labelled families."""
    points = []
    for task in evidence.run.tasks:
        samples = evidence.samples(GIST, task)
        known = samples and all(s.entropy_bits is not None and s.num_gists for s in samples)
        if known and (task.name in SINGLE or task.name.startswith(FAMILIES)):
            points.append(_point(evidence, task, samples))
    return tuple(points)


def bits_notes(points: tuple[BitsPoint, ...]) -> tuple[str, ...]:
    """What the figures are, and what they are not."""
    if not points:
        return ()
    return (
        "Recovered bits per gist token: the entropy of every answer that was recalled exactly, "
        "over all samples, divided by the gist tokens. It is a lower bound on what the gists hold "
        "and no measure of it: what the question did not ask for (the other labels' values, the "
        "prose) and answers that were nearly right count as nothing.",
        "The capacity is the number of bits in the gists' keys and values as they are kept. It is "
        "an upper bound that no model comes near, and says nothing of how much could be read back.",
    )


def recovered_bits(samples: Samples) -> Estimate:
    """Entropy recalled exactly, in bits per gist token, as a mean over samples.

    Where every answer of a task holds the same number of bits, this is a rate times a constant, and
    so is Wilson's interval. Where the bits differ it is Student's t of the bits recalled.

    Args:
        samples: At least one, each with its entropy and its gist tokens.

    Raises:
        ValueError: The bits differ and there is one sample only, which cannot be.
    """
    bits = {_bits_per_gist(sample) for sample in samples}
    if len(bits) == 1:
        each, rate = bits.pop(), wilson(exact(samples), len(samples))
        return Estimate(each * rate.value, each * rate.low, each * rate.high, rate.n)
    recalled = [_bits_per_gist(s) * s.scores["exact_match"] for s in samples]
    found = mean(recalled)
    if found is None:
        raise ValueError("bits that differ need at least two samples")
    return Estimate(found.value, max(0.0, found.low), found.high, found.n)


def _bits_per_gist(sample: SampleRecord) -> float:
    return (sample.entropy_bits or 0.0) / (sample.num_gists or 1)


def _point(evidence: Evidence, task: TaskRecord, samples: Samples) -> BitsPoint:
    n = len(samples)
    ratio = statistics.fmean(
        compression_ratio(sample.context_tokens, sample.num_gists or 1) for sample in samples
    )
    bits = statistics.fmean(sample.entropy_bits or 0.0 for sample in samples)
    capacity = statistics.fmean(BITS_PER_BYTE * sample.cache_bytes for sample in samples)
    per_gist = statistics.fmean(
        BITS_PER_BYTE * sample.cache_bytes / (sample.num_gists or 1) for sample in samples
    )
    found = recovered_bits(samples)
    return BitsPoint(
        label=evidence.label(task),
        task=task.name,
        context_tokens=task.context_tokens,
        ratio=Figure(value=ratio, n=n, text=format_ratio(ratio)),
        answer_bits=Figure(value=bits, n=n, text=f"{bits:.1f} bits"),
        recalled=rate_figure(exact(samples), n),
        recovered=Figure(
            value=found.value,
            low=found.low,
            high=found.high,
            n=n,
            text=f"{found.value:.3g} bits",
            detail=f"{found.low:.3g} to {found.high:.3g}, n = {n:,}",
        ),
        capacity=Figure(
            value=per_gist, n=n, text=f"{per_gist:,.0f} bits", detail=f"{capacity:,.0f} in all"
        ),
    )
