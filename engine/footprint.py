"""What a run holds of memory, component by component, against what was planned for it."""

import re
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from engine.effort import passes_of_rank, rows_of_step, setting_of
from engine.errors import SpecError
from engine.forecast.case import TrainingCase
from engine.forecast.room import Elsewhere, enough_less, room_elsewhere, told, ways_out
from engine.journal import Journal
from engine.model.forward import decoder_of
from engine.model.layer_offload import away_of, held_bytes
from engine.model.load import Subject
from engine.model.loss import part_here
from engine.offload import HOME, AdamWOnDisk
from engine.parts import TrainingSpec
from engine.plan import MemoryPlan, Shape, Workload
from engine.precision import Machine
from engine.session import Session

_STATUS = Path("/proc/self/status")
_FORGET_PEAK = Path("/proc/self/clear_refs")


class Footprint:
    """The weights are loaded when it is made, the optimizer's state comes with the first step."""

    def __init__(self, subject: Subject, machine: Machine) -> None:
        self._machine = machine
        self.weights = weight_bytes(subject.model)
        self._before = self._held() - self.weights
        self._forget_peak()

    def _held(self) -> int:
        if self._machine.device.type == "cuda":
            return torch.cuda.memory_allocated()
        return resident("VmRSS")

    def _forget_peak(self) -> None:
        if self._machine.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        else:
            # Where the system does not let us, what loading held counts as well.
            with suppress(OSError):
                _FORGET_PEAK.write_text("5")

    def total(self) -> int:
        """The most that was held since the weights were loaded."""
        return most_held(self._machine)

    def report(self, journal: Journal, optimizer: torch.optim.Optimizer) -> dict[str, int]:
        """Tell what was held as the event `memory_measured`."""
        held = self.measured(optimizer)
        journal.log("info", "memory_measured", f"up to {held['total'] / 2**30:.2f} GiB were held", **held)
        return held

    def measured(self, optimizer: torch.optim.Optimizer) -> dict[str, int]:
        """Bytes; `passes` is what the passes held at most: activations, gradients, logits and workspace."""
        peak = self.total()
        state = state_bytes(optimizer, self._machine.device)
        return {
            "weights": self.weights,
            "optimizer": state,
            "passes": peak - self._before - self.weights - state,
            "runtime": self._before,
            "total": peak,
        }


def weight_bytes(model: nn.Module) -> int:
    """Of those that this process holds: of what lies elsewhere, what is there at most."""
    held = map(part_here, (*model.parameters(), *model.buffers()))
    tensors = {tensor.data_ptr(): held_bytes(tensor) for tensor in held}
    away = away_of(decoder_of(model))
    return sum(tensors.values()) + (away.at_once_bytes if away is not None else 0)


def state_bytes(optimizer: torch.optim.Optimizer, device: torch.device) -> int:
    """Of what lies on the run's device: an offloaded state does not, of one on the disk what is resident at most."""
    if isinstance(optimizer, AdamWOnDisk):
        return optimizer.at_once_bytes if device == HOME else 0
    states = [value for state in optimizer.state.values() for value in state.values()]
    return sum(value.nbytes for value in states if isinstance(value, torch.Tensor) and value.device == device)


def most_held(machine: Machine) -> int:
    """The most that the GPU's allocator held, or that was resident of this process."""
    return torch.cuda.max_memory_allocated() if machine.device.type == "cuda" else resident("VmHWM")


def resident(field: str) -> int:
    """VmRSS or VmHWM of this process in bytes."""
    found = re.search(rf"^{field}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    assert found is not None, "Linux tells it"
    return int(found[1]) * 1024


def case_of(spec: TrainingSpec, session: Session) -> TrainingCase:
    """A training job as far as its memory is concerned.

    Its rows are full and every token is a label: what the data may ask for, not what it does.

    Raises:
        SpecError: nothing is planned for such a model.
    """
    hyper, replicas = spec.hyperparameters, session.replicas.count
    together = session.rows.train.together if session.rows.train is not None else 1
    passes = passes_of_rank(hyper, replicas)
    rows = -(-rows_of_step(hyper) // (passes * replicas))
    tokens = rows * hyper.max_length * together
    work = Workload(tokens, tokens, hyper.max_length, passes, paired=together > 1, rows=rows)
    shape, setting = Shape.of(decoder_of(session.subject.model).config.to_dict()), setting_of(spec, session.machine)
    case = TrainingCase(spec, shape, work, setting, None, session.ranks.count, session.zero_stage)
    # What the run itself holds elsewhere is not free, and has room.
    free = room_elsewhere(session.run.root, session.ranks.here_count)
    return case._replace(elsewhere=Elsewhere(*map(max, free, case.held_elsewhere())))


def log_memory_plan(spec: TrainingSpec, session: Session) -> MemoryPlan | None:
    """The plan of a rank of a training job, told as the event `memory_plan`; None for models that none is made for."""
    try:
        case = case_of(spec, session)
        plan = case.plan()
    except SpecError as error:
        session.journal.log("info", error.code, error.message)
        return None
    message = f"up to {plan.total / 2**30:.2f} GiB are planned"
    # Told beforehand: a process that the kernel kills for want of memory says nothing.
    lighter = told(ways_out(case, enough_less(case)))
    session.journal.log("info", "memory_plan", message, **plan.components(), lighter=lighter)
    return plan
