"""What a job tells of itself before it runs, whatever its kind."""

from typing import Any, NamedTuple, Protocol

from engine.forecast.room import Case
from engine.jobs import AnySpec
from engine.parts import Resources
from engine.plan import Efforts
from engine.precision import Machine


class Needs(NamedTuple):
    """Of memory, operations and time; `method` is that by which it learns from the runs before it."""

    case: Case
    parameters: int
    trainable_parameters: int
    flops: dict[str, float]
    efforts: Efforts
    method: str


class Outlook(Protocol):
    """A job of one kind, looked at without its weights."""

    machine: Machine

    def spec(self) -> AnySpec:
        """With what this machine decided."""
        ...

    def counts(self) -> dict[str, Any]:
        """Steps, tokens and rows, as a plan tells them."""
        ...

    def needs(self, runtime: int | None) -> Needs:
        """`runtime` is what a process is known to hold besides its tensors.

        Raises:
            SpecError: nothing is planned for such a model.
        """
        ...


def pinned(resources: Resources, machine: Machine) -> Resources:
    """With the device; several processes divide their memory as they find it, for the same model."""
    update: dict[str, Any] = {"device": machine.device.type}
    if resources.nproc_per_node == 1:
        update["parallel"] = resources.parallel.model_copy(update={"zero_stage": 0})
    return resources.model_copy(update=update)
