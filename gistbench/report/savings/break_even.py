"""After how many questions compressing once has paid, from the rounds of the phases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy import stats

from gistbench.metrics import format_seconds
from gistbench.records import NotMeasured
from gistbench.report.savings.corners import phase_of
from gistbench.report.statistics import CONFIDENCE
from gistbench.speed.savings_records import Arm, PhaseCost, PrecisionSavings

Rival = Literal["kept", "read again"]


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Where two straight lines of cost over questions meet.

    Attributes:
        outcome: "after": gists cost less from some question on; "never"; "until": they cost less
            up to some question, since each one costs more; "undecided": the rounds do not tell
            whether a question costs less.
        questions: After (or until) how many, not rounded.
        low: End of its interval.
        high: Likewise.
        reason: Why, in words.
    """

    outcome: Literal["after", "never", "until", "undecided"]
    reason: str
    questions: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def text(self) -> str:
        """As it is shown."""
        if self.questions is None:
            return self.outcome
        if self.outcome == "until":
            return f"only up to {whole(self.questions) - 1:,} questions"
        number = whole(self.questions)
        return "from the first question" if number <= 1 else f"from {number:,} questions on"

    @property
    def detail(self) -> str:
        """Interval and reason."""
        if self.low is None or self.high is None:
            return self.reason
        where = f"{self.questions:.3g} ({self.low:.3g} to {self.high:.3g})"
        return f"the lines meet at {where}; {self.reason}"


def whole(questions: float) -> int:
    """The first number of questions that lies behind a crossing."""
    return max(1, math.floor(questions) + 1)


def break_even(precision: PrecisionSavings, contexts: int, rival: Rival) -> BreakEven | NotMeasured:
    """Compressing once against full context.

    Seconds of Q questions about one context, asked and answered with so many others at a time::

        gist        C + Q a          C: read into gists       a: question and answer from gists
        kept        F + Q b          F: read whole            b: from the whole cache
        read again  Q (F + b)

    Against a cache that is kept the lines meet at ``(C - F) / (b - a)``, against reading again at
    ``C / (F + b - a)``.

    Args:
        precision: Of both.
        contexts: Answered together; the time of a batch is shared by its rows.
        rival: What full context does with its cache.
    """
    found: dict[tuple[Arm, str], Sequence[float]] = {}
    for arm in ("full", "gist"):
        for phase, size in (("compress", 1), ("question", contexts), ("decode", contexts)):
            cost = phase_of(precision, arm, phase, size)  # type: ignore[arg-type]
            if cost is None or not cost.round_seconds:
                return NotMeasured(not_measured=_missing(cost, phase))
            found[arm, phase] = [seconds / size for seconds in cost.round_seconds]

    def answer(arm: Arm) -> list[float]:
        pairs = zip(found[arm, "question"], found[arm, "decode"], strict=True)
        return [question + decode for question, decode in pairs]

    saved = [b - a for b, a in zip(answer("full"), answer("gist"), strict=True)]
    extra = list(found["gist", "compress"])
    if rival == "kept":
        extra = [c - f for c, f in zip(extra, found["full", "compress"], strict=True)]
    else:
        saved = [f + s for f, s in zip(found["full", "compress"], saved, strict=True)]
    return crossing(extra, saved)


def crossing(extra: Sequence[float], saved: Sequence[float]) -> BreakEven:
    """Where the line of gists meets the other, with Fieller's interval (1954, JRSS B 16, 175-185).

    Args:
        extra: Seconds that gists cost more before the first question, in each round.
        saved: Seconds that a question costs less with gists, in the same rounds.
    """
    n = len(saved)
    more, less = math.fsum(extra) / n, math.fsum(saved) / n
    spread = _spread(extra, saved, more, less) if n > 1 else None
    if spread is not None and less**2 <= spread[1]:
        return BreakEven(
            "undecided",
            f"a question from gists differs by {_signed(-less)}, which is within the noise of "
            f"{n} rounds",
        )
    if less == 0:
        return BreakEven("never", "a question from gists takes as long")
    low, high = _fieller(more, less, spread) if spread is not None else (None, None)
    questions = more / less
    why = f"{_signed(more)} before the first question, {_signed(-less)} for each"
    if less < 0:
        if more >= 0:
            return BreakEven("never", f"{why}: gists cost more from the start")
        return BreakEven("until", why, questions, low, high)
    return BreakEven("after", why, questions, low, high)


def _signed(seconds: float) -> str:
    sign = "+" if seconds >= 0 else "−"
    return f"{sign}{format_seconds(abs(seconds))}"


def _spread(
    extra: Sequence[float], saved: Sequence[float], more: float, less: float
) -> tuple[float, float, float]:
    """Squared half-widths of both means, and their product term."""
    n = len(saved)
    square = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1)) ** 2 / (n * (n - 1))
    first, second = [x - more for x in extra], [y - less for y in saved]
    return (
        square * math.fsum(x * x for x in first),
        square * math.fsum(y * y for y in second),
        square * math.fsum(x * y for x, y in zip(first, second, strict=True)),
    )


def _fieller(more: float, less: float, spread: tuple[float, float, float]) -> tuple[float, float]:
    """Ends of all R for which 0 lies in the interval of ``more - R less``."""
    a = less**2 - spread[1]
    b = more * less - spread[2]
    c = more**2 - spread[0]
    root = math.sqrt(max(0.0, b * b - a * c))
    return (b - root) / a, (b + root) / a


def _missing(cost: PhaseCost | None, phase: str) -> str:
    if cost is None:
        return "the part phases was not asked for"
    return f"the phase {phase} has no times: both arms at once did not fit"
