"""What a job tells of itself before it runs, whatever its kind."""

from typing import Any, NamedTuple, Protocol

from engine.forecast.room import Case
from engine.forecast.runtime import Runtime
from engine.jobs import AnySpec
from engine.parts import Resources
from engine.plan import Efforts
from engine.precision import Machine


class Needs(NamedTuple):
    """Of memory, operations and time; `method` is that by which it learns from the runs before it."""

    case: Case
    """Of a rank."""
    zero_stage: int
    parameters: int
    trainable_parameters: int
    flops: dict[str, float]
    efforts: Efforts
    method: str
    on_disk: int = 0
    """Bytes of each rank that lie in the run directory while it trains, beside what it saves."""


class Outlook(Protocol):
    """A job of one kind, looked at without its weights."""

    machine: Machine
    ranks: int

    def spec(self, zero_stage: int | None) -> AnySpec:
        """With what this machine decided; None where it cannot tell how far processes have to divide what they hold."""
        ...

    def counts(self) -> dict[str, Any]:
        """Steps, tokens and rows, as a plan tells them."""
        ...

    def needs(self, runtime: Runtime | None, room: int) -> Needs:
        """`runtime` is what a process is known to hold besides its tensors; several divide among them what asks for it.

        Raises:
            SpecError: nothing is planned for such a model.
        """
        ...


def pinned(resources: Resources, machine: Machine, zero_stage: int | None) -> Resources:
    """With the device, and how processes divide what they hold: not at all where a run would not know either."""
    asked = resources.parallel.zero_stage if resources.world_size > 1 else 0
    if zero_stage is None:
        zero_stage = 0 if asked == "auto" else asked
    parallel = resources.parallel.model_copy(update={"zero_stage": zero_stage})
    return resources.model_copy(update={"device": machine.device.type, "parallel": parallel})
