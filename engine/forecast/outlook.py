"""The interface of a job of any kind to its forecast."""

from typing import Any, NamedTuple, Protocol

from engine.forecast.room import Case
from engine.forecast.runtime import Runtime
from engine.jobs import AnySpec
from engine.parts import Resources
from engine.plan import Efforts
from engine.precision import Machine


class Needs(NamedTuple):
    """What a job needs of memory, operations and time; estimates of the latter are fitted by `method`."""

    case: Case
    """The memory of one rank."""
    zero_stage: int
    parameters: int
    trainable_parameters: int
    flops: dict[str, float]
    efforts: Efforts
    method: str
    on_disk: int = 0
    """Bytes of each rank in the run directory during training, without what it saves."""


class Outlook(Protocol):
    """A job of one kind, without its weights."""

    machine: Machine
    ranks: int

    def spec(self, zero_stage: int | None) -> AnySpec:
        """Return the spec with this machine's decisions; `zero_stage` is None where no plan is made."""
        ...

    def counts(self) -> dict[str, Any]:
        """Return the figures of steps, tokens and rows in a plan."""
        ...

    def needs(self, runtime: Runtime | None, room: int) -> Needs:
        """Return the needs; `runtime` is what a process holds besides its tensors, and `room` what a rank may hold.

        Raises:
            SpecError: no plan is made for such a model.
        """
        ...


def pinned(resources: Resources, machine: Machine, zero_stage: int | None) -> Resources:
    """Return the resources with the device and the ZeRO stage; a stage of `auto` without a plan is 0, as in the run."""
    asked = resources.parallel.zero_stage if resources.world_size > 1 else 0
    if zero_stage is None:
        zero_stage = 0 if asked == "auto" else asked
    parallel = resources.parallel.model_copy(update={"zero_stage": zero_stage})
    return resources.model_copy(update={"device": machine.device.type, "parallel": parallel})
