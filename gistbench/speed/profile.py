"""Where the time of a step goes: further steps, after the timed ones, under torch's profiler."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile, supported_activities

from gistbench.measurement import synchronize
from gistbench.records import NotMeasured
from gistbench.speed.kernels import Launch, by_group, by_name, covered, idle_share
from gistbench.speed.records import Profile

NO_KERNELS = NotMeasured(
    not_measured="torch's profiler saw no kernel; set KINETO_LOG_LEVEL=0 to see what it says"
)
NO_IDLE = NotMeasured(
    not_measured="kernels are traced on a GPU only: on a CPU these are operators, and the time "
    "between them is Python's"
)

Clock = Callable[[], float]


class Profiler:
    """Traces stretches of steps, each between `begin` and `end`, and adds them up.

    The first stretch is thrown away: tracing takes time when it starts. On a GPU its activity alone
    is traced, so that the host runs as it does otherwise, but for what each launch is delayed.
    """

    def __init__(self, device: str) -> None:
        """Trace nothing yet.

        Args:
            device: Whose kernels are traced; on a CPU its operators.
        """
        # It writes two lines for each trace otherwise. Read when the first one begins.
        os.environ.setdefault("KINETO_LOG_LEVEL", "6")
        self._device = device
        self._is_gpu = device.startswith("cuda")
        self._trace: profile | None = None
        self._began = 0.0
        self._is_first = True
        self._steps = 0
        self._wall_seconds = 0.0
        self._busy_seconds = 0.0
        self._launches: list[Launch] = []

    def begin(self) -> None:
        """Trace from here on, once the device has finished what came before."""
        activity = ProfilerActivity.CUDA if self._is_gpu else ProfilerActivity.CPU
        # torch may be built without CUPTI.
        if activity not in supported_activities():  # type: ignore[no-untyped-call]
            return
        self._trace = profile(activities=[activity])
        synchronize(self._device)
        self._trace.start()
        self._began = time.perf_counter()

    def end(self, steps: int) -> None:
        """Trace no further, once the device has finished.

        Args:
            steps: That ran since `begin`.
        """
        if self._trace is None:
            return
        synchronize(self._device)
        seconds = time.perf_counter() - self._began
        self._trace.stop()
        trace, self._trace = self._trace, None
        if self._is_first:
            self._is_first = False
            return
        launches = self._launched(trace)
        self._steps += steps
        self._wall_seconds += seconds
        self._busy_seconds += covered(launches)
        self._launches += launches

    def abandon(self) -> None:
        """Trace no further, and keep nothing of the stretch; nothing to do outside of one."""
        if self._trace is not None:
            self._trace.stop()
        self._trace = None

    def result(self) -> Profile | NotMeasured:
        """What the steps took, group by group and kernel by kernel, if anything was traced."""
        if not sum(launch.seconds for launch in self._launches):
            return NO_KERNELS
        return Profile(
            traced="kernels" if self._is_gpu else "operators",
            steps=self._steps,
            seconds_per_step=self._wall_seconds / self._steps,
            idle_share=(
                idle_share(self._busy_seconds, self._wall_seconds) if self._is_gpu else NO_IDLE
            ),
            groups=by_group(self._launches, self._steps),
            kernels=by_name(self._launches, self._steps),
        )

    def _launched(self, trace: profile) -> list[Launch]:
        """Kernels, or operators with the time that they did not spend in others."""
        wanted = "CUDA" if self._is_gpu else "CPU"
        return [
            Launch(
                name=event.name,
                start=event.time_range.start / 1e6,
                end=event.time_range.end / 1e6,
                seconds=(
                    event.time_range.elapsed_us() if self._is_gpu else event.self_cpu_time_total
                )
                / 1e6,
            )
            for event in trace.events()  # type: ignore[no-untyped-call]
            # An annotation, as around an optimiser's step, spans the kernels within it.
            if event.device_type.name == wanted and not event.is_user_annotation
        ]


class LastLook:
    """A clock for an answering loop, between whose last two looks the steps are traced.

    A loop looks at the clock when it starts, at the first token, perhaps again once it is ready,
    and at the end. How often it is, is counted while it answers for the first time.
    """

    def __init__(self, profiler: Profiler, clock: Clock, steps: int) -> None:
        self._profiler, self._clock, self._steps = profiler, clock, steps
        self._looks = self._looks_in_all = 0

    def __call__(self) -> float:
        """Seconds."""
        self._looks += 1
        if self._looks == self._looks_in_all:
            self._profiler.end(self._steps)
        now = self._clock()
        if self._looks == self._looks_in_all - 1:
            self._profiler.begin()
        return now

    def again(self) -> None:
        """The loop has answered, and will answer again."""
        self._looks_in_all, self._looks = self._looks, 0
