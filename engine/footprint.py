"""The memory that a run holds, component by component, beside the plan for it."""

import re
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from engine.effort import passes_of_rank, setting_of
from engine.errors import SpecError
from engine.forecast.case import TrainingCase
from engine.forecast.room import Elsewhere, as_text, enough_less, room_elsewhere, ways_out
from engine.journal import Journal
from engine.model.forward import decoder_of
from engine.model.layer_offload import held_bytes, offloaded_layers_of
from engine.model.load import Subject
from engine.model.loss import part_here
from engine.offload import HOME, AdamWOnDisk
from engine.parts import TrainingSpec
from engine.plan import MemoryPlan, Shape, Workload
from engine.plan.workload import rows_at_once
from engine.precision import Machine
from engine.session import Session

_STATUS = Path("/proc/self/status")
_FORGET_PEAK = Path("/proc/self/clear_refs")


class Footprint:
    """Measures memory from when the weights are loaded, before the optimizer's state, which comes with the first step."""

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
            # Where this is not permitted, the peak of loading counts as well.
            with suppress(OSError):
                _FORGET_PEAK.write_text("5")

    def total(self) -> int:
        """Return the peak since the weights were loaded, in bytes."""
        return most_held(self._machine)

    def report(self, journal: Journal, optimizer: torch.optim.Optimizer) -> dict[str, int]:
        """Log and return the measured memory (`memory_measured`)."""
        held = self.measured(optimizer)
        journal.log("info", "memory_measured", f"the run held up to {held['total'] / 2**30:.2f} GiB", **held)
        return held

    def measured(self, optimizer: torch.optim.Optimizer) -> dict[str, int]:
        """Return bytes by component; `passes` is the peak of the passes: activations, gradients, logits and workspace."""
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
    """Return the bytes of the weights that this process holds; of offloaded layers, those resident at once."""
    held = map(part_here, (*model.parameters(), *model.buffers()))
    tensors = {tensor.data_ptr(): held_bytes(tensor) for tensor in held}
    offloaded = offloaded_layers_of(decoder_of(model))
    return sum(tensors.values()) + (offloaded.at_once_bytes if offloaded is not None else 0)


def state_bytes(optimizer: torch.optim.Optimizer, device: torch.device) -> int:
    """Return the bytes of optimizer state on the run's device; of a state on disk, those resident at once."""
    if isinstance(optimizer, AdamWOnDisk):
        return optimizer.at_once_bytes if device == HOME else 0
    states = [value for state in optimizer.state.values() for value in state.values()]
    return sum(value.nbytes for value in states if isinstance(value, torch.Tensor) and value.device == device)


def most_held(machine: Machine) -> int:
    """Return the peak of the GPU's allocator, or the peak resident memory of this process."""
    return torch.cuda.max_memory_allocated() if machine.device.type == "cuda" else resident("VmHWM")


def resident(field: str) -> int:
    """Return VmRSS or VmHWM of this process in bytes."""
    found = re.search(rf"^{field}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    assert found is not None, "Linux has it"
    return int(found[1]) * 1024


def case_of(spec: TrainingSpec, session: Session) -> TrainingCase:
    """Return a training job as the memory plan sees it.

    Every row is taken to be full and every token to be a label: the most that the data may need.

    Raises:
        SpecError: there are no plans for such a model.
    """
    hyper, replicas = spec.hyperparameters, session.replicas.count
    together = session.rows.train.together if session.rows.train is not None else 1
    passes = passes_of_rank(hyper, replicas)
    rows = rows_at_once(hyper, replicas)
    tokens = rows * hyper.max_length * together
    work = Workload(tokens, tokens, hyper.max_length, passes, paired=together > 1, rows=rows)
    shape, setting = Shape.of(decoder_of(session.subject.model).config.to_dict()), setting_of(spec, session.machine)
    case = TrainingCase(spec, shape, work, setting, None, session.ranks.count, session.division.zero_stage)
    # What the run itself holds elsewhere is not free, but it has its room.
    free = room_elsewhere(session.run.root, session.ranks.here_count)
    return case._replace(elsewhere=Elsewhere(*map(max, free, case.held_elsewhere())))


def log_memory_plan(spec: TrainingSpec, session: Session) -> MemoryPlan | None:
    """Log the memory plan of a rank of a training job (`memory_plan`); return None for models without one."""
    try:
        case = case_of(spec, session)
        plan = case.plan()
    except SpecError as error:
        session.journal.log("info", error.code, error.message)
        return None
    message = f"the plan is up to {plan.total / 2**30:.2f} GiB"
    # Logged in advance: a process that the kernel kills for lack of memory cannot.
    lighter = as_text(ways_out(case, enough_less(case)))
    session.journal.log("info", "memory_plan", message, **plan.components(), lighter=lighter)
    return plan
