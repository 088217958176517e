"""The adapter merged into its base: a second result of a run, loaded from disk and scored before it is announced."""

import shutil
import traceback
from pathlib import Path
from typing import Any, NamedTuple

from engine.checkpoint import publish
from engine.data.corpus import Corpus
from engine.failure import classified
from engine.generation.writer import save_ends
from engine.journal import finite
from engine.model.config import stored_dtype
from engine.model.load import Subject, load_model
from engine.model.merged import merged_model
from engine.parts import AdapterTuning, QloraTuning
from engine.session import Session
from engine.stop import StopRequested

_HIGHEST_GAP = 1e-3
"""The largest loss above that of the applied adapter at which `auto` keeps a merge."""

_INTO = {"original": "the original base", "dequantized": "the base as it reads from 4 bits"}


class Merge(NamedTuple):
    """A merged model on disk, and its scores."""

    base: str
    folder: Path
    scores: dict[str, float]

    @property
    def loss(self) -> float:
        return self.scores["eval_loss"]


def export_merged(
    session: Session, tuning: AdapterTuning, *, step: int | None, applied: float, probe: Corpus
) -> dict[str, float]:
    """Write output-merged/ and the event `exported`, or log why it is not kept; return the loss of each merge tried.

    `applied` is the loss of the adapter in output/ on the probe, over the base that it was trained on. A merge takes
    more memory than training; if it fails, the adapter is still a result.
    """
    try:
        return _export_best(session, tuning, step, applied, probe)
    except StopRequested:
        raise
    except Exception as error:
        if session.ranks.count > 1:
            raise  # the others wait for this one
        _warn_of_failure(session, "no merged model is made, the adapter is the only result", error)
        return {}


def _warn_of_failure(session: Session, what: str, error: Exception, leftovers: str = ".writing-merged-*") -> None:
    traceback.print_exc()
    failure = classified(error)
    message = f"{what}: {failure.message}"
    session.journal.log("warn", "merge_failed", message, failure=failure.failure, reason=failure.code)
    for leftover in session.run.root.glob(leftovers):
        shutil.rmtree(leftover, ignore_errors=True)  # on a full disk this may fail too


def _export_best(
    session: Session, tuning: AdapterTuning, step: int | None, applied: float, probe: Corpus
) -> dict[str, float]:
    tried = _all_tried(session, _bases(tuning), applied, probe)
    best = min(tried, key=lambda merge: merge.loss)
    kept = tuning.merge != "auto" or best.loss <= applied + _HIGHEST_GAP
    session.ranks.wait()
    if kept:
        if session.ranks.leads:
            publish(best.folder, session.run.merged)
        metrics = {} if session.rows.validation is None else finite(best.scores)
        path, source = session.run.merged.name, session.run.output.name
        session.journal.write("exported", step=step, path=path, layout="model", metrics=metrics, merged_from=source)
    else:
        session.journal.log(
            "warn",
            "merge_refused",
            f"no merged model is kept: at best its loss is {best.loss:.4f}, that of the applied adapter {applied:.4f}; "
            f"tuning.merge {best.base!r} would keep it nevertheless",
        )
    for merge in tried if session.ranks.leads else ():
        if merge is not best or not kept:
            shutil.rmtree(merge.folder)
    return {f"merged_{merge.base}_loss": merge.loss for merge in tried}


def _bases(tuning: AdapterTuning) -> tuple[str, ...]:
    if tuning.merge != "auto":
        return (tuning.merge,)
    return ("dequantized", "original") if isinstance(tuning, QloraTuning) else ("original",)


def _all_tried(session: Session, bases: tuple[str, ...], applied: float, probe: Corpus) -> list[Merge]:
    """Return the merges that can be made; if there are none, the last failure is raised."""
    made: list[Merge] = []
    for base in bases:
        try:
            made.append(_tried(session, base, applied, probe))
        except StopRequested:
            raise
        except Exception as error:
            alone = base == bases[-1] and not made
            if alone or session.ranks.count > 1:
                raise  # the others wait for this one
            _warn_of_failure(session, f"no model is made by merging into {_INTO[base]}", error, _folder_name(base))
    return made


def _folder_name(base: str) -> str:
    return f".writing-merged-{base}"


def _tried(session: Session, base: str, applied: float, probe: Corpus) -> Merge:
    folder = session.run.root / _folder_name(base)
    session.drop_subject()
    patient = session.ranks.patient()
    if session.ranks.leads:
        shutil.rmtree(folder, ignore_errors=True)
        _write(session, base, folder)
    patient.wait()
    model = load_model(folder, device=session.machine.device, dtype=session.machine.compute_dtype)
    session.subject = Subject(model, session.subject.tokenizer, "model")
    merge = Merge(base, folder, session.evaluate(probe))
    message = f"merged into {_INTO[base]} the loss is {merge.loss:.4f}, that of the applied adapter {applied:.4f}"
    session.journal.log("info", "merge_scored", message, base=base, eval_loss=merge.loss, gap=merge.loss - applied)
    return merge


def _write(session: Session, base: str, folder: Path) -> None:
    """Merge in fp32 and save, rounded once to the type that the base is stored in."""
    run = session.run
    whole: Any = merged_model(run.base_model(), run.output, session.machine, dequantized=base == "dequantized")
    save_ends(whole, session.subject.tokenizer)
    whole.to(stored_dtype(run.base_model())).save_pretrained(folder)
    session.subject.tokenizer.save_pretrained(folder)
