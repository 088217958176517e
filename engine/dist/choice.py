"""Which strategy a run has, and why, as an event that a person can read."""

from engine.dist.strategy import Replicas, Strategy
from engine.errors import SpecError
from engine.model.quantize import is_quantized
from engine.model.forward import decoder_of
from engine.optim import HOME
from engine.parts import TrainingSpec
from engine.session import Session


def strategy_of(session: Session, spec: TrainingSpec) -> Strategy:
    """Raises SpecError where what is asked for does not go together."""
    hyper, stage = spec.hyperparameters, spec.resources.parallel.zero_stage
    offload = hyper.offload_optimizer and session.machine.device != HOME
    if hyper.offload_optimizer and not offload:
        session.journal.log(
            "info", "offload_idle", "the run is on the CPU, where the optimizer's state lies anyway: nothing to offload"
        )
    model, trainable = session.subject.model, session.subject.trainable()
    if session.ranks.count == 1 or stage == 0:
        return Replicas(trainable, hyper, session.ranks, offload=offload)
    _check(session, spec, stage)
    from engine.dist.zero import Zero  # DeepSpeed: seconds

    zero = Zero(model, session.plain_score, trainable, hyper, session.ranks, stage=stage)
    session.score = zero.score
    return zero


def _check(session: Session, spec: TrainingSpec, stage: int) -> None:
    asked = f"resources.parallel.zero_stage is {stage}"
    if spec.hyperparameters.optim == "adamw_8bit":
        raise SpecError(
            "zero_with_8_bits",
            f"{asked}; the optimizer's 8-bit state is kept in blocks of whole weights, which ZeRO divides",
            "Set hyperparameters.optim to 'adamw', or zero_stage to 0.",
        )
    if session.machine.precision == "fp16":
        raise SpecError("zero_with_fp16", f"{asked}; it takes bf16 and fp32", "Set hyperparameters.precision.")
    if stage == 3 and is_quantized(decoder_of(session.subject.model)):
        raise SpecError(
            "zero_3_in_4_bits", f"{asked}; weights in 4 bits cannot be divided", "Set zero_stage to 2 or less."
        )
