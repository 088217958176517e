"""Which strategy a run has, and why, as an event that a person can read."""

import torch

from engine import checkpoint
from engine.dist.experts import divide_experts
from engine.dist.parts import Parts
from engine.dist.pipeline import Dealt, Pipe, Stages
from engine.dist.ranks import Teams
from engine.dist.strategy import Replicas, Strategy
from engine.dist.tensor import divide_linears
from engine.effort import setting_of
from engine.errors import SpecError
from engine.footprint import case_of, resident
from engine.forecast.room import room_bytes
from engine.model.context import Context
from engine.model.forward import decoder_of
from engine.model.layer_offload import Away, away_of
from engine.offload import HOME, AdamWOnDisk, LiesIn, place_of
from engine.parts import TrainingSpec
from engine.parts.sharing import STAGES
from engine.plan import Shape
from engine.plan.ranks import undividable, unsharable
from engine.session import Session

_DIVIDED = (
    "each hold all of the model",
    "divide the optimizer's state",
    "divide the optimizer's state and the gradients",
    "divide the optimizer's state, the gradients and the weights",
)
_SHARED = {
    "tp_size": "hold the linear layers together, each a part of every one",
    "cp_size": "take the tokens of each row in parts, and in attention the heads",
    "ep_size": "hold the experts together, each some of them",
    "pp_size": "have some of the layers each, one behind the other",
}


def strategy_of(session: Session, spec: TrainingSpec) -> Strategy:
    """Raises SpecError where what is asked for does not go together."""
    strategy = _chosen(session, spec)
    away = away_of(decoder_of(session.subject.model))
    if away is not None:
        away.leave()  # DoRA has taken the norms of all of them, and ranks have made them the same
    _tell_offload(session, spec, strategy, away)
    return strategy


def _tell_offload(session: Session, spec: TrainingSpec, strategy: Strategy, away: Away | None) -> None:
    hyper = spec.hyperparameters
    if "cpu" in {hyper.offload_optimizer, hyper.offload_param} and session.machine.device == HOME:
        told = "the run is on the CPU, where what is to be offloaded to it lies anyway"
        session.journal.log("info", "offload_idle", told)
    optimizer = strategy.optimizer
    sizes = {
        "the layers' weights": away.on_disk_bytes if away is not None else 0,
        "the optimizer's state": optimizer.on_disk_bytes if isinstance(optimizer, AdamWOnDisk) else 0,
    }
    if size := sum(sizes.values()):
        told = " and ".join(what for what, bytes_ in sizes.items() if bytes_)
        message = f"{told} lie in files of the run directory, {size / 2**30:.2f} GiB"
        session.journal.log("info", "offload_on_disk", message, on_disk_bytes=size)


def _chosen(session: Session, spec: TrainingSpec) -> Strategy:
    hyper, ranks, model = spec.hyperparameters, session.ranks, session.subject.model
    teams = _teams(session, spec)
    if teams is not None and spec.resources.parallel.pp_size > 1:
        return _stages(session, spec, teams)
    if teams is not None and session.team.count > 1:
        divide = divide_linears if spec.resources.parallel.tp_size > 1 else divide_experts
        return Parts(model, hyper, ranks, teams, divide, state_in=_state_in(session, spec))
    trainable, stage = session.subject.trainable(), _stage(session, spec)
    if ranks.count == 1 or stage == 0:
        return Replicas(model, trainable, hyper, ranks, state_in=_state_in(session, spec))
    if refusal := undividable(setting_of(spec, session.machine), stage):
        raise refusal
    from engine.dist.zero import Zero  # DeepSpeed: seconds

    zero = Zero(model, session.plain_score, trainable, hyper, ranks, stage=stage)
    session.score, session.zero_stage = zero.score, stage
    session.team = ranks if stage == max(STAGES) else session.team
    return zero


def _teams(session: Session, spec: TrainingSpec) -> Teams | None:
    """Of ranks that work on the same rows, if any do."""
    parallel, decoder = spec.resources.parallel, decoder_of(session.subject.model)
    if parallel.way is None:
        return None
    if refusal := unsharable(Shape.of(decoder.config.to_dict()), setting_of(spec, session.machine)):
        raise refusal
    teams = session.ranks.teams(parallel.team, spec.resources.ddp_timeout)
    session.replicas, count = teams.replicas, teams.replicas.count
    dealt = "one team takes all rows" if count == 1 else f"{count} teams deal the rows out"
    how = _SHARED[parallel.way[0]]
    if parallel.cp_size > 1:
        Context(teams.team).enter(session.subject.model, decoder)
    else:
        session.team = teams.team
    told = f"{parallel.team} processes {how}; {dealt}"
    session.journal.log("info", "team_chosen", told, teams=count, **parallel.sizes)
    return teams


def _stages(session: Session, spec: TrainingSpec, teams: Teams) -> Stages:
    ranks, model, hyper = session.ranks, session.subject.model, spec.hyperparameters
    back = ranks.teams(spec.resources.parallel.pp_size, spec.resources.ddp_timeout).team
    pipe, state_in = Pipe(teams.team, back), _state_in(session, spec)
    made = Stages(model, session.plain_score, session.machine, hyper, ranks, teams, pipe, state_in=state_in)
    dealt = teams.replicas
    session.score, session.replicas = made.score, Dealt(dealt.rank, dealt.count, dealt.group, teams.team)
    return made


def _state_in(session: Session, spec: TrainingSpec) -> LiesIn:
    """Where the optimizer's state is to lie."""
    return place_of(spec.hyperparameters.offload_optimizer, session.run.root, session.machine.device)


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
