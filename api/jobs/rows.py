"""The losses of the rows of a step, read from the newest checkpoint of a job."""

import math

from api.auth import Caller
from api.deps import Service
from api.errors import ApiError
from api.jobs.schemas import RowLossObject, StepRows
from api.jobs.service import find
from db import artifacts
from engine.jobs import training_files
from engine.rowlog import NAME, last_step, rows_of_step


def rows(service: Service, caller: Caller, job_id: str, step: int) -> StepRows:
    """Return the rows of one step, those with the highest loss first.

    Raises:
        ApiError: 404 when there is no such job, or its newest checkpoint has no rows of that step.
    """
    with service.database.read() as session:
        job = find(session, caller, job_id)
        saved, _ = artifacts.page(session, job.project_id, kinds=["checkpoint"], job_id=job.id, after=None, limit=1)
        files = artifacts.files(session, saved[0].id) if saved else []
        trained = training_files(job.spec)
    log = next((file for file in files if file.path == f"state/{NAME}"), None)
    if log is None:
        raise _unknown(step, "the job has no checkpoint with a log of its rows")
    with service.blobs.open(log.sha256) as file:
        found, known = rows_of_step(file, step), last_step(file)
    if not found:
        raise _unknown(step, f"the newest checkpoint knows steps 1 to {known}")
    shown = [
        RowLossObject(file=trained[row.file].file_id, line=row.line, loss=_finite(row.loss), labels=row.labels)
        for row in found
    ]
    return StepRows(step=step, data=sorted(shown, key=_worst_first))


def _unknown(step: int, why: str) -> ApiError:
    return ApiError(404, "step_not_found", f"the rows of step {step} are not known: {why}", param="step")


def _finite(loss: float) -> float | None:
    return loss if math.isfinite(loss) else None


def _worst_first(row: RowLossObject) -> float:
    return -math.inf if row.loss is None else -row.loss
