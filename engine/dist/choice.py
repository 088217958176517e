"""Which strategy a run has, and why, as an event that a person can read."""

import torch

from engine import checkpoint
from engine.dist.strategy import Replicas, Strategy
from engine.effort import setting_of
from engine.errors import SpecError
from engine.footprint import case_of, resident
from engine.forecast.room import room_bytes
from engine.model.context import Context
from engine.model.forward import decoder_of
from engine.optim import HOME
from engine.parts import TrainingSpec
from engine.plan import Shape
from engine.plan.ranks import undividable, unsharable
from engine.session import Session

_DIVIDED = (
    "each hold all of the model",
    "divide the optimizer's state",
    "divide the optimizer's state and the gradients",
    "divide the optimizer's state, the gradients and the weights",
)


def strategy_of(session: Session, spec: TrainingSpec) -> Strategy:
    """Raises SpecError where what is asked for does not go together."""
    hyper, parallel = spec.hyperparameters, spec.resources.parallel
    offload = hyper.offload_optimizer and session.machine.device != HOME
    if hyper.offload_optimizer and not offload:
        session.journal.log(
            "info", "offload_idle", "the run is on the CPU, where the optimizer's state lies anyway: nothing to offload"
        )
    if parallel.team > 1:
        _check_team(session, spec)
    if parallel.tp_size > 1:
        return _with_parts(session, spec, offload=offload)
    if parallel.cp_size > 1:
        _share_rows(session, spec)
    model, trainable, stage = session.subject.model, session.subject.trainable(), _stage(session, spec)
    if session.ranks.count == 1 or stage == 0:
        return Replicas(model, trainable, hyper, session.ranks, offload=offload)
    if refusal := undividable(setting_of(spec, session.machine), stage):
        raise refusal
    from engine.dist.zero import Zero  # DeepSpeed: seconds

    zero = Zero(model, session.plain_score, trainable, hyper, session.ranks, stage=stage)
    session.score, session.zero_stage, session.together = zero.score, stage, zero.together
    return zero


def _check_team(session: Session, spec: TrainingSpec) -> None:
    shape = Shape.of(decoder_of(session.subject.model).config.to_dict())
    if refusal := unsharable(shape, setting_of(spec, session.machine)):
        raise refusal


def _with_parts(session: Session, spec: TrainingSpec, *, offload: bool) -> Strategy:
    from engine.dist.tensor import TensorParallel  # torch's DTensor: part of a second

    size, timeout_s = spec.resources.parallel.tp_size, spec.resources.ddp_timeout
    parts = TensorParallel(session.subject.model, spec.hyperparameters, session.ranks, size, timeout_s, offload=offload)
    session.replicas, session.together = parts.replicas, True
    _tell_team(session, size, "hold the linear layers together, each a part of every one", tp_size=size)
    return parts


def _share_rows(session: Session, spec: TrainingSpec) -> None:
    size, subject = spec.resources.parallel.cp_size, session.subject
    team, session.replicas = session.ranks.teams(size, spec.resources.ddp_timeout)
    Context(team).enter(subject.model, decoder_of(subject.model))
    _tell_team(session, size, "take the tokens of each row in parts, and in attention the heads", cp_size=size)


def _tell_team(session: Session, size: int, how: str, **told: int) -> None:
    teams = session.replicas.count
    dealt = "one team takes all rows" if teams == 1 else f"{teams} teams deal the rows out"
    session.journal.log("info", "team_chosen", f"{size} processes {how}; {dealt}", teams=teams, **told)


def _stage(session: Session, spec: TrainingSpec) -> int:
    asked, ranks = spec.resources.parallel.zero_stage, session.ranks
    if asked != "auto" or ranks.count == 1:
        return 0 if asked == "auto" else asked
    kept = _kept_stage(session)
    if kept is not None:
        told = f"{ranks.count} processes {_DIVIDED[kept]} (zero_stage {kept}): so they did when the run was saved"
        session.journal.log("info", "parallel_kept", told, zero_stage=kept, processes=ranks.count)
        return kept
    room = min(ranks.gather(_room_bytes(session)))
    try:
        whole = case_of(spec, session)
        case = whole.in_room(room)
        needed, undivided = case.plan().total, whole.plan().total
    except SpecError as error:
        stage, why = 0, error.message
    else:
        stage = case.zero_stage
        why = f"{needed / 2**30:.2f} GiB are planned for each, of {room / 2**30:.2f} GiB"
        if stage:
            why += f"; {undivided / 2**30:.2f} GiB if each held all"
    told = f"{ranks.count} processes {_DIVIDED[stage]} (zero_stage {stage}): {why}"
    session.journal.log("info", "parallel_chosen", told, zero_stage=stage, processes=ranks.count, room_bytes=room)
    return stage


def _kept_stage(session: Session) -> int | None:
    """That of the run so far, where as many processes go on with it: another stage rounds in other places."""
    if session.start is None:
        return None
    before = checkpoint.read_progress(session.start)
    return before.zero_stage if before.processes == session.ranks.count else None


def _room_bytes(session: Session) -> int:
    """What a rank may hold: what it does already, and of a GPU all that is free, of the machine its part."""
    machine = session.machine
    if machine.device.type == "cuda":
        return torch.cuda.memory_allocated() + room_bytes(machine)
    return resident("VmRSS") + room_bytes(machine, session.ranks.here_count)
