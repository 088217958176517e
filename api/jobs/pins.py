"""What a spec is pinned to: the artifacts that it names, found and judged, by the names that mean the same tomorrow."""

from typing import NamedTuple

from api.errors import ApiError, Fault
from db import artifacts, lineage, permissions
from db.models import Artifact
from db.session import Session
from engine.jobs import AnySpec, did_you_mean
from engine.kinds.eval.spec import EvalSpec
from engine.parts import AdapterTuning, TrainingSpec


class Pinned(NamedTuple):
    """What makes a spec mean the same tomorrow, by its fields, and the artifact it starts from."""

    fields: dict[str, str]
    base: Artifact | None


def pin(session: Session, project_id: str, spec: AnySpec) -> Pinned:
    """The artifacts that the spec names; raises ApiError 422 where it may not start from them, or compare with them."""
    if not isinstance(spec.model, str):
        return Pinned({}, None)
    base = _found(session, project_id, spec, "model")
    if isinstance(spec, TrainingSpec) and spec.optimizer_state == "kept":
        _require_state(session, project_id, base, spec.model)
    _require_no_copy(session, project_id, spec, base)
    pinned = {"model": _name(base) if base.project_id == project_id else spec.model}
    if isinstance(spec, EvalSpec) and spec.compare_to is not None:
        pinned["compare_to"] = _name(_found(session, project_id, spec, "compare_to"))
    return Pinned(pinned, base)


def _require_no_copy(session: Session, project_id: str, spec: AnySpec, base: Artifact) -> None:
    """What is made of a model that another project lets this one use holds none of its weights.

    Raises:
        ApiError: 422 when the result would.
    """
    if not isinstance(spec, TrainingSpec):
        return
    below = lineage.ancestors(session, base) if base.layout == "adapter" else []
    lent = [artifact for artifact in (base, *below) if artifact.project_id != project_id]
    if any(artifact.layout == "adapter" for artifact in lent):
        message = "the adapter is another project's, and the result would hold its weights"
        hint = (
            "have that project train it further, or share a model to train an adapter of yours on: the one that it "
            "stands on, or one that it is merged into (tuning.merge)"
        )
        raise refused(422, "model", "not_permitted", str(spec.model), message, hint)
    whole = _whole(spec.adapter())
    if lent and whole is not None:
        message = "the model is another project's, and the result would hold its weights"
        hint = "train an adapter (tuning.method 'lora' or 'qlora') with tuning.merge 'none' and no modules_to_save"
        raise refused(422, whole[0], "not_permitted", whole[1], message, hint)


def _whole(adapter: AdapterTuning | None) -> tuple[str, str] | None:
    """The field for which a result holds weights of the model, and what it says; None where it is an adapter alone."""
    if adapter is None:
        return "tuning", "full"
    if adapter.merge != "none":
        return "tuning", adapter.merge
    if adapter.modules_to_save:
        return "tuning.modules_to_save", ", ".join(adapter.modules_to_save)
    return None


def _require_state(session: Session, project_id: str, base: Artifact, reference: str) -> None:
    """Optimizer state is saved with checkpoints alone.

    Raises:
        ApiError: 422 when the base is something else.
    """
    if base.kind == "checkpoint":
        return
    saved: list[Artifact] = []
    if base.job_id is not None:
        saved, _ = artifacts.page(session, project_id, kinds=("checkpoint",), job_id=base.job_id, after=None, limit=1)
    message = f"{reference} is no checkpoint, so there is no optimizer state to keep"
    hint = f"start from {saved[0].id}, the newest of the job that made it" if saved else "take optimizer_state 'fresh'"
    raise refused(422, "optimizer_state", "no_optimizer_state", "kept", message, hint)


def _name(artifact: Artifact) -> str:
    return artifact.id if artifact.name is None else f"{artifact.name}/{artifact.version}"


def _found(session: Session, project_id: str, spec: AnySpec, field: str) -> Artifact:
    """The artifact that a field of the spec names; its kind can start from it.

    Raises:
        ApiError: 422.
    """
    reference: str = getattr(spec, field)
    find = permissions.usable if field == "model" else artifacts.resolve
    base = find(session, project_id, reference)
    if base is None:
        near = did_you_mean(reference, artifacts.names(session, project_id))
        hint = f"did you mean {near!r}?" if near else None
        message = f"there is no model, adapter or checkpoint {reference!r} in this project"
        raise refused(422, field, "model_not_found", reference, message, hint)
    if base.layout == "adapter" and not spec.starts_from_adapter():
        message = f"{reference} is an adapter; {spec.kind} of all weights starts from a model"
        hint = "take the model that the adapter was trained on, or tuning.method 'lora'"
        raise refused(422, field, "wrong_model_layout", reference, message, hint)
    if base.layout == "adapter":
        _require_model_below(session, base, field, reference)
    return base


def _require_model_below(session: Session, adapter: Artifact, field: str, reference: str) -> None:
    """An adapter means nothing without the weights that it was trained on.

    Raises:
        ApiError: 422 when they have been deleted.
    """
    model = next((below for below in lineage.ancestors(session, adapter) if below.layout == "model"), None)
    if model is None or model.deleted_at is None:
        return
    message = f"{reference} is an adapter on {_name(model)}, which has been deleted"
    hint = "take another model or adapter, or train the adapter anew on a model that is there"
    raise refused(422, field, "base_deleted", reference, message, hint)


def refused(status: int, path: str, code: str, value: str, message: str, hint: str | None) -> ApiError:
    fault = Fault(code=code, path=path, message=message, value=value, hint=hint)
    told = "; ".join(filter(None, (message, hint)))
    return ApiError(status, code, told, param=path, faults=[fault])
