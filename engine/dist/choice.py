"""The choice of how ranks divide a run, logged with its reason as an event."""

import os

import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from engine import checkpoint
from engine.dist.experts import divide_experts
from engine.dist.parts import Parts
from engine.dist.pipeline import Pipe, PipelineReplicas, Stages
from engine.dist.ranks import Teams
from engine.dist.strategy import Replicas, Strategy
from engine.dist.tensor import divide_linears
from engine.effort import setting_of
from engine.errors import SpecError
from engine.footprint import case_of, resident
from engine.forecast.room import room_bytes
from engine.model.context import Context
from engine.model.forward import decoder_of, head_of
from engine.model.layer_offload import OffloadedLayers, offloaded_layers_of
from engine.offload import HOME, AdamWOnDisk, LiesIn, place_of
from engine.parts import TrainingSpec
from engine.parts.sharing import STAGES, undivided_head
from engine.plan import Shape
from engine.plan.ranks import undividable, unsharable
from engine.session import Session

_WHAT_IS_DIVIDED = (
    "each hold all of the model",
    "divide the optimizer's state",
    "divide the optimizer's state and the gradients",
    "divide the optimizer's state, the gradients and the weights",
)
_HOW_TEAMS_WORK = {
    "tp_size": "each hold a part of every linear layer",
    "cp_size": "each take a part of every row's tokens, and in attention a part of the heads",
    "ep_size": "each hold a part of the experts",
    "pp_size": "each hold some of the layers, one behind the other",
}


def divide_model(session: Session, spec: TrainingSpec) -> Strategy:
    """Divide the model among the ranks as the spec asks, and return the strategy by which they train it.

    The session's `division` says from then on which ranks work on the same rows.

    Raises:
        SpecError: what the spec asks for does not go together.
    """
    strategy = _chosen(session, spec)
    offloaded = offloaded_layers_of(decoder_of(session.subject.model))
    if offloaded is not None:
        offloaded.leave()  # DoRA has read the norms of all layers, and ranks have synchronized the weights
    _log_offload(session, spec, strategy, offloaded)
    return strategy


def _log_offload(session: Session, spec: TrainingSpec, strategy: Strategy, offloaded: OffloadedLayers | None) -> None:
    hyper = spec.hyperparameters
    if "cpu" in {hyper.offload_optimizer, hyper.offload_param} and session.machine.device == HOME:
        message = "the run is on the CPU: offloading to its memory changes nothing"
        session.journal.log("info", "offload_idle", message)
    optimizer = strategy.optimizer
    sizes = {
        "the layers' weights": offloaded.on_disk_bytes if offloaded is not None else 0,
        "the optimizer's state": optimizer.on_disk_bytes if isinstance(optimizer, AdamWOnDisk) else 0,
    }
    if size := sum(sizes.values()):
        names = " and ".join(name for name, bytes_ in sizes.items() if bytes_)
        message = f"{names} are in files of the run directory, {size / 2**30:.2f} GiB"
        session.journal.log("info", "offload_on_disk", message, on_disk_bytes=size)


def _chosen(session: Session, spec: TrainingSpec) -> Strategy:
    hyper, ranks, model = spec.hyperparameters, session.ranks, session.subject.model
    teams = _teams(session, spec)
    if teams is not None and spec.resources.parallel.pp_size > 1:
        return _stages(session, spec, teams)
    if teams is not None and session.division.team.count > 1:
        divide = divide_linears if spec.resources.parallel.tp_size > 1 else divide_experts
        return Parts(model, hyper, ranks, teams, divide, state_in=_state_in(session, spec))
    trainable, stage = session.subject.trainable(), _stage(session, spec)
    if ranks.count == 1 or stage == 0:
        return Replicas(model, trainable, hyper, ranks, state_in=_state_in(session, spec))
    if refusal := undividable(setting_of(spec, session.machine), stage):
        raise refusal
    if stage == max(STAGES) and isinstance(head_of(model), BaseTunerLayer):  # a loaded adapter may name it by a pattern
        raise SpecError(*undivided_head())
    os.environ["DS_ACCELERATOR"] = session.machine.device.type  # else DeepSpeed takes a GPU wherever it finds one
    from engine.dist.zero import Zero  # DeepSpeed: seconds

    zero = Zero(model, session.plain_score, trainable, hyper, ranks, stage=stage)
    session.divide(score=zero.score, zero_stage=stage)
    if stage == max(STAGES):
        session.divide(team=ranks)
    return zero


def _teams(session: Session, spec: TrainingSpec) -> Teams | None:
    """Divide the ranks into teams that work on the same rows, where the spec asks for teams."""
    parallel, decoder = spec.resources.parallel, decoder_of(session.subject.model)
    if parallel.way is None:
        return None
    if refusal := unsharable(Shape.of(decoder.config.to_dict()), setting_of(spec, session.machine)):
        raise refusal
    teams = session.ranks.teams(parallel.team, spec.resources.ddp_timeout)
    session.divide(replicas=teams.replicas)
    count = teams.replicas.count
    dealt = "one team takes all rows" if count == 1 else f"rows are dealt out among {count} teams"
    how = _HOW_TEAMS_WORK[parallel.way[0]]
    if parallel.cp_size > 1:
        Context(teams.team).enter(session.subject.model, decoder)
    else:
        session.divide(team=teams.team)
    message = f"{parallel.team} processes {how}; {dealt}"
    session.journal.log("info", "team_chosen", message, teams=count, **parallel.sizes)
    return teams


def _stages(session: Session, spec: TrainingSpec, teams: Teams) -> Stages:
    ranks, model, hyper = session.ranks, session.subject.model, spec.hyperparameters
    back = ranks.teams(spec.resources.parallel.pp_size, spec.resources.ddp_timeout).team
    pipe, state_in = Pipe(teams.team, back), _state_in(session, spec)
    stages = Stages(model, session.plain_score, session.machine, hyper, ranks, teams, pipe, state_in=state_in)
    replicas = teams.replicas
    session.divide(
        score=stages.score, replicas=PipelineReplicas(replicas.rank, replicas.count, replicas.group, teams.team)
    )
    return stages


def _state_in(session: Session, spec: TrainingSpec) -> LiesIn:
    """Return where the optimizer's state is kept."""
    return place_of(spec.hyperparameters.offload_optimizer, session.run.root, session.machine.device)


def _stage(session: Session, spec: TrainingSpec) -> int:
    asked, ranks = spec.resources.parallel.zero_stage, session.ranks
    if asked != "auto" or ranks.count == 1:
        return 0 if asked == "auto" else asked
    kept = _kept_stage(session)
    if kept is not None:
        what = _WHAT_IS_DIVIDED[kept]
        message = f"{ranks.count} processes {what} (zero_stage {kept}), as they did when the run was saved"
        session.journal.log("info", "parallel_kept", message, zero_stage=kept, processes=ranks.count)
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
    message = f"{ranks.count} processes {_WHAT_IS_DIVIDED[stage]} (zero_stage {stage}): {why}"
    session.journal.log("info", "parallel_chosen", message, zero_stage=stage, processes=ranks.count, room_bytes=room)
    return stage


def _kept_stage(session: Session) -> int | None:
    """Return the stage of the run so far if as many processes resume it: other stages round in other places."""
    if session.start is None:
        return None
    progress = checkpoint.read_progress(session.start)
    return progress.zero_stage if progress.processes == session.ranks.count else None


def _room_bytes(session: Session) -> int:
    """Return what a rank may hold: what it has, and all that is free on its GPU, or its share of the machine's."""
    machine = session.machine
    if machine.device.type == "cuda":
        return torch.cuda.memory_allocated() + room_bytes(machine)
    return resident("VmRSS") + room_bytes(machine, session.ranks.here_count)
