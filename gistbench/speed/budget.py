"""Contexts really brought into a device's memory: stored, or being answered."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gistbench.models.memory import began_out_of_memory
from gistbench.records import NotMeasured
from gistbench.speed.held import HeldBatch, block, places_in
from gistbench.speed.meter import Meter
from gistbench.speed.savings_records import Arm, Probe
from gistbench.speed.subject import Subject, let_go


@dataclass(frozen=True)
class StoredContexts:
    """Contexts in memory, of which the last is read while all others are there.

    Attributes:
        subject: The model.
        arm: Whose contexts.
        meter: Of the device.
        budget_bytes: Of the device's memory, everything of this process included.
        device_bytes: What the device could give.
    """

    subject: Subject
    arm: Arm
    meter: Meter
    budget_bytes: int
    device_bytes: int

    def probe(self, contexts: int) -> Probe:
        """Read one, copy it to all but the last, and read the last."""
        held: list[torch.Tensor] = []
        used: int | None = None
        self.meter.cap(self.budget_bytes)
        try:
            with self.subject.weights_of(self.arm):
                shape = self.subject.shape(self.arm)
                held.append(block(shape))
                self.subject.read_into(self.arm, places_in(held[0]))
                held += (block(shape) for _ in range(contexts - 1))
                for other in held[1:-1]:
                    other.copy_(held[0])
                if contexts > 1:
                    self.subject.read_into(self.arm, places_in(held[-1]))
            used = measured(self.meter)
        except RuntimeError as error:
            if not began_out_of_memory(error):
                raise
        finally:
            held.clear()
            let_go(self.subject.device)
            self.meter.cap(None)
        return outcome(contexts, used, self.budget_bytes)


@dataclass(frozen=True)
class AnsweredContexts:
    """Contexts in a batch, the last of them read while the others lie in it, then all answered.

    Attributes:
        subject: The model.
        arm: Whose contexts.
        meter: Of the device.
        budget_bytes: Of the device's memory, everything of this process included.
        device_bytes: What the device could give.
    """

    subject: Subject
    arm: Arm
    meter: Meter
    budget_bytes: int
    device_bytes: int

    def probe(self, contexts: int) -> Probe:
        """Load, ask and decode as many as that, together."""
        batch: HeldBatch | None = None
        used: int | None = None
        question_seconds = decode_seconds = None
        self.meter.cap(self.budget_bytes)
        try:
            with self.subject.weights_of(self.arm):
                batch = made = self.subject.batch(self.arm, contexts)
                load(self.subject, self.arm, made)
                ids = self.subject.questions(contexts)
                question_seconds = self.subject.seconds(
                    lambda: self.subject.ask(self.arm, made, ids)
                )
                # Capturing gives back what these passes had taken.
                passes = measured(self.meter)
                self.subject.prepare(made)
                decode_seconds = self.subject.seconds(lambda: self.subject.decode(made))
            used = max(passes, measured(self.meter))
        except RuntimeError as error:
            if not began_out_of_memory(error):
                raise
        finally:
            let_go(self.subject.device, *((batch,) if batch is not None else ()))
            self.meter.cap(None)
        found = outcome(contexts, used, self.budget_bytes)
        if used is None:
            return found
        times = {"question_seconds": question_seconds, "decode_seconds": decode_seconds}
        return found.model_copy(update=times)


def load(subject: Subject, arm: Arm, batch: HeldBatch) -> None:
    """A context in every row, the last one read while the others lie there."""
    subject.read_into(arm, batch.places_of(0))
    batch.spread()
    last = batch.shape[0] - 1
    if last:
        subject.read_into(arm, batch.places_of(last))


def measured(meter: Meter) -> int:
    """Bytes of the budget that are used."""
    used = meter.used()
    if isinstance(used, NotMeasured):  # it could be read when filling began
        raise RuntimeError(f"the budget can no longer be read: {used.not_measured}")
    return used


def outcome(contexts: int, used: int | None, budget_bytes: int) -> Probe:
    """What became of an attempt."""
    if used is None:
        return Probe(contexts=contexts, outcome="out of memory")
    fits = used <= budget_bytes
    return Probe(contexts=contexts, outcome="fits" if fits else "over budget", used_bytes=used)
