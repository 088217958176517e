"""The curve of a metric, in columns for a chart."""

from api.auth import Caller
from api.deps import Service
from api.jobs.schemas import CurveObject
from api.jobs.service import find
from db import curves, stretches


def curve(
    service: Service, caller: Caller, job_id: str, *, split: str, name: str, points: int, smoothing: float
) -> CurveObject:
    """Return the curve of a metric, without points if the job never reported it.

    Raises:
        ApiError: 404 when the project has no such job.
    """
    with service.database.read() as session:
        job = find(session, caller, job_id)
        selected = {"split": split, "name": name, "points": points, "smoothing": smoothing}
        if stretches.suffice(session, job_id, split):
            key = (job_id, job.last_seq, *selected.values())
            found = service.curve_cache.recall(key, lambda: curves.long_curve(session, job, **selected))
        else:
            with service.curve_cache.take(session, job, split) as columns:
                found = curves.curve(columns, name=name, points=points, smoothing=smoothing)
    return CurveObject(
        metric=name,
        split=split,
        total=found.total,
        last_seq=found.last_seq,
        step=[point.step for point in found.points],
        time=[point.time for point in found.points],
        tokens=[point.tokens for point in found.points],
        value=[point.value for point in found.points],
        smoothed=found.smoothed,
    )
