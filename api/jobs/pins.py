"""Pinning: the artifacts that a spec names are found, checked, and named by references that never change meaning."""

from typing import NamedTuple

from api.errors import ApiError, Fault
from db import artifacts, lineage, permissions
from db.models import Artifact
from db.session import Session
from engine.jobs import AnySpec
from engine.kinds.eval.spec import EvalSpec
from engine.parts import AdapterTuning, TrainingSpec
from engine.rows import did_you_mean


class Pinned(NamedTuple):
    """The fields of a spec with permanent references in them, and the artifact that the job starts from."""

    fields: dict[str, str]
    base: Artifact | None


def pin(session: Session, project_id: str, spec: AnySpec) -> Pinned:
    """Find the artifacts that a spec names. Raises ApiError 422 where the job may not start from or compare with one."""
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
    """Check that the result holds no weights of a model that belongs to another project.

    Raises:
        ApiError: 422 when it would.
    """
    if not isinstance(spec, TrainingSpec):
        return
    below = lineage.ancestors(session, base) if base.layout == "adapter" else []
    lent = [artifact for artifact in (base, *below) if artifact.project_id != project_id]
    if any(artifact.layout == "adapter" for artifact in lent):
        message = "the adapter is another project's, and the result would hold its weights"
        hint = (
            "ask that project to train it further, or to share a model that you can train an adapter on: its base, or "
            "a model that it is merged into (tuning.merge)"
        )
        raise refused(422, "model", "not_permitted", str(spec.model), message, hint)
    whole = _whole_weights(spec.adapter())
    if lent and whole is not None:
        message = "the model is another project's, and the result would hold its weights"
        hint = "train an adapter (tuning.method 'lora' or 'qlora') with tuning.merge 'none' and no modules_to_save"
        raise refused(422, whole[0], "not_permitted", whole[1], message, hint)


def _whole_weights(adapter: AdapterTuning | None) -> tuple[str, str] | None:
    """Return the field, and its value, because of which a result holds weights of the model; None for a mere adapter."""
    if adapter is None:
        return "tuning", "full"
    if adapter.merge != "none":
        return "tuning", adapter.merge
    if adapter.modules_to_save:
        return "tuning.modules_to_save", ", ".join(adapter.modules_to_save)
    return None


def _require_state(session: Session, project_id: str, base: Artifact, reference: str) -> None:
    """Check that the base has optimizer state, which only checkpoints do.

    Raises:
        ApiError: 422 when the base is no checkpoint.
    """
    if base.kind == "checkpoint":
        return
    saved: list[Artifact] = []
    if base.job_id is not None:
        saved, _ = artifacts.page(session, project_id, kinds=("checkpoint",), job_id=base.job_id, after=None, limit=1)
    message = f"{reference} is not a checkpoint, so it has no optimizer state to keep"
    hint = (
        f"start from {saved[0].id}, the newest of the job that made it" if saved else "set optimizer_state to 'fresh'"
    )
    raise refused(422, "optimizer_state", "no_optimizer_state", "kept", message, hint)


def _name(artifact: Artifact) -> str:
    return artifact.id if artifact.name is None else f"{artifact.name}/{artifact.version}"


def _found(session: Session, project_id: str, spec: AnySpec, field: str) -> Artifact:
    """Return the artifact that a field of the spec names, if a job of this kind can use it.

    Raises:
        ApiError: 422 when there is none, or the kind cannot use it.
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
        hint = "start from the model that the adapter was trained on, or set tuning.method to 'lora'"
        raise refused(422, field, "wrong_model_layout", reference, message, hint)
    if base.layout == "adapter":
        _require_model_below(session, base, field, reference)
    return base


def _require_model_below(session: Session, adapter: Artifact, field: str, reference: str) -> None:
    """Check that the model that an adapter was trained on is still there.

    Raises:
        ApiError: 422 when it has been deleted.
    """
    model = next((below for below in lineage.ancestors(session, adapter) if below.layout == "model"), None)
    if model is None or model.deleted_at is None:
        return
    message = f"{reference} is an adapter on {_name(model)}, which has been deleted"
    hint = "start from another model or adapter, or train the adapter again on a model that exists"
    raise refused(422, field, "base_deleted", reference, message, hint)


def refused(status: int, path: str, code: str, value: str, message: str, hint: str | None) -> ApiError:
    """Return the error for a value in a spec that a job cannot be made with."""
    fault = Fault(code=code, path=path, message=message, value=value, hint=hint)
    return ApiError(status, code, "; ".join(filter(None, (message, hint))), param=path, faults=[fault])
