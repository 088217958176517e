"""The gate: what evaluations must show before an alias is promoted."""

from typing import Any, NamedTuple

from api.aliases.schemas import Comparison
from api.errors import ApiError, Fault, conflict
from api.models.schemas import reference
from db import lineage, registry
from db.models import Artifact, Job
from db.session import Session

_PREFERRED = (
    "eval_exact_match", "eval_acc/harness", "eval_acc/original", "eval_acc/helm", "eval_loss",
)  # fmt: skip
_LOWER_IS_BETTER = ("loss", "perplexity", "bits_per_byte")
_DIFFERENCE = "difference/"
_BOUNDS = ("_low", "_high")


class Rival(NamedTuple):
    """An artifact that the candidate must not be worse than."""

    against: str
    reference: str


def rivals_of(session: Session, candidate: Artifact, current: Artifact | None) -> list[Rival]:
    """Return the base that the candidate was tuned from and the alias's current version, as far as they exist.

    Raises:
        ApiError: 409 when the base was deleted, so that nothing can be evaluated against it.
    """
    base = next((each for each in lineage.ancestors(session, candidate) if each.layout == "model"), None)
    if base is not None and base.project_id == candidate.project_id and base.deleted_at is not None:
        message = f"{reference(base)}, the base that {reference(candidate)} was tuned from, was deleted"
        mend = "nothing can be evaluated against it, so only an admin's key can promote this version, with `force`"
        raise conflict("base_deleted", f"{message}; {mend}")
    found: dict[str, Rival] = {}
    for against, artifact in (("base", base), ("current", current)):
        # An evaluation cannot compare with another project's model, which this one may only use.
        ours = artifact is not None and artifact.project_id == candidate.project_id
        if artifact is not None and ours and artifact.deleted_at is None and artifact.id != candidate.id:
            found.setdefault(artifact.id, Rival(against, reference(artifact)))
    return list(found.values())


def compare(session: Session, candidate: Artifact, rivals: list[Rival], metric: str | None) -> list[Comparison]:
    """Return what the newest evaluations of the candidate against each rival show.

    Raises:
        ApiError: 409 when there is no evaluation against a rival, it lacks the metric, or it shows nothing.
    """
    jobs = registry.comparisons(session, candidate, [rival.reference for rival in rivals])
    return [_compared(candidate, rival, jobs.get(rival.reference), metric) for rival in rivals]


def require(candidate: Artifact, comparisons: list[Comparison]) -> None:
    """Raise ApiError 409, with the metrics, if the candidate may be worse than a rival."""
    worse = [each for each in comparisons if not each.passed]
    if worse:
        faults = [
            Fault(code="not_better", path=each.against, message=sentence(each), value=each.job_id, hint=None)
            for each in worse
        ]
        refusal = conflict("gate_refused", f"{reference(candidate)} is not promoted: {'; '.join(map(sentence, worse))}")
        refusal.body.errors = faults
        raise refusal


def sentence(each: Comparison) -> str:
    """Return a comparison as a sentence."""
    side = "at least" if each.greater_is_better else "at most"
    return (
        f"{each.metric} against {each.rival} ({each.against}) differs by {each.difference:+.4g}, "
        f"95% interval {each.low:+.4g} to {each.high:+.4g}, in {each.job_id}; all of it must be {side} 0"
    )


def _compared(candidate: Artifact, rival: Rival, job: Job | None, metric: str | None) -> Comparison:
    if job is None:
        spec = f'{{"kind": "eval", "model": "{reference(candidate)}", "compare_to": "{rival.reference}", "eval_file": ...}}'
        message = f"{reference(candidate)} has not been evaluated against {rival.reference}, {_RIVALS[rival.against]}"
        raise conflict("evaluation_missing", f"{message}; run {spec} first")
    figures: dict[str, Any] = (job.result or {}).get("metrics", {})
    name = _metric(figures, metric, job.id)
    greater = not any(part in name for part in _LOWER_IS_BETTER)
    difference = float(figures[f"{_DIFFERENCE}{name}"])
    low, high = _bounds(figures, name, job.id)
    if greater and figures.get(name) == difference == 0:
        message = f"{reference(candidate)} and {rival.reference} both have {name} 0 in {job.id}, which shows nothing"
        mend = "evaluate on rows that one of them answers right, or name another `metric`"
        raise conflict("evidence_missing", f"{message}; {mend}")
    return Comparison.model_validate(
        {
            "against": rival.against,
            "rival": rival.reference,
            "job_id": job.id,
            "metric": name,
            "greater_is_better": greater,
            "candidate": figures.get(name),
            "difference": difference,
            "low": low,
            "high": high,
            "passed": low >= 0 if greater else high <= 0,
        }
    )


_RIVALS = {"base": "the base that it was tuned from", "current": "the current version of the alias"}


def _metric(figures: dict[str, Any], wanted: str | None, job_id: str) -> str:
    """Return the metric that decides.

    Raises:
        ApiError: 409 when the evaluation has none, or not the one that was asked for.
    """
    known = [
        name.removeprefix(_DIFFERENCE)
        for name in figures
        if name.startswith(_DIFFERENCE) and not name.endswith(_BOUNDS) and figures[name] is not None
    ]
    chosen = [name for name in ((wanted,) if wanted else _PREFERRED) if name in known]
    if not chosen:
        what = f"no metric {wanted!r}" if wanted else "no metric to compare by"
        listed = f"; it has {', '.join(sorted(known))}" if known else ""
        raise ApiError(409, "figure_missing", f"the evaluation {job_id} has {what}{listed}", param="metric",
                       headers={"x-should-retry": "false"})  # fmt: skip
    return chosen[0]


def _bounds(figures: dict[str, Any], name: str, job_id: str) -> tuple[float, float]:
    """Return the interval of the difference in a metric.

    Raises:
        ApiError: 409 when the evaluation has none, or one of a single row, which older releases recorded.
    """
    low, high = (figures.get(f"{_DIFFERENCE}{name}{bound}") for bound in _BOUNDS)
    if low is None or high is None or figures.get("eval_rows") == 1:
        message = f"the evaluation {job_id} has no 95% interval of the difference in {name}"
        raise conflict("evidence_missing", f"{message}, which takes at least two rows; evaluate on more rows")
    return float(low), float(high)
