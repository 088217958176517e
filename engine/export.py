"""The result of a run: written, then loaded again from disk and scored before it is announced."""

import shutil
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch import Tensor

from engine.checkpoint import STATE, folder_of, publish
from engine.errors import EngineError
from engine.generation.writer import save_ends
from engine.journal import finite
from engine.merge import export_merged
from engine.model.adapters import save_adapter
from engine.model.load import Subject
from engine.model.quantize import is_quantized, say_quantized
from engine.parts import TrainingSpec
from engine.proof import prove_in_peft
from engine.selection import Selection
from engine.session import Session

_TOLERANCE = 1e-4
_ROUNDED = 2e-3
"""For scores in 16 bits that several ranks computed together: they round in other places than one rank does."""
_ELSEWHERE = 2e-2
"""For a score from an earlier attempt, which may have run on another device or in another precision."""
_PROBE_DOCUMENTS = 64
"""The training documents that an export is checked on if nothing was held out."""


def save_subject(subject: Subject, folder: Path, weights: dict[str, Tensor]) -> None:
    """Save the weights in the Hugging Face or PEFT layout, with tokenizer and chat template."""
    model: Any = subject.model
    if isinstance(model, PeftModel):
        save_adapter(model, folder, weights)
        if is_quantized(model.get_base_model()):
            say_quantized(folder)
    else:
        save_ends(model, subject.tokenizer)
        model.save_pretrained(folder, state_dict=weights)
    subject.tokenizer.save_pretrained(folder)


def export(session: Session, spec: TrainingSpec, selection: Selection) -> None:
    """Write output/ and, once it scores from disk as the weights did, the events `exported` and `finished`.

    The result is the last step, or the best of the saved steps if that is better. It is on the first machine, whose
    ranks score it.
    """
    run, journal, held_out, progress = session.run, session.journal, session.rows.validation, selection.progress
    best = session.ranks.gather(selection.better_checkpoint(run.checkpoints, journal))[0]
    probe = held_out
    if probe is None:
        probe = session.rows.probe(_PROBE_DOCUMENTS)
    expected = (session.evaluate(probe) if best is None else progress.best_metrics)["eval_loss"]
    step = progress.step if best is None else progress.best_step
    patient = session.ranks.patient()  # large weights may take longer to write than other ranks wait
    if session.ranks.leads:
        _write(run.output, best or folder_of(run.checkpoints, progress.step))
    patient.wait()
    tolerance = _tolerance(session, best)
    # The export is loaded in the place of the trained model: memory may not hold both.
    layout = session.subject.layout
    session.drop_subject()
    if not session.goes_on():
        return
    session.subject = session.objective.load(run.output, session.machine)
    scores = session.evaluate(probe)
    _check_same(expected, scores["eval_loss"], tolerance)
    if layout == "adapter":
        prove_in_peft(session, run.output)
    metrics: dict[str, float | None] = {} if held_out is None else dict(scores)
    journal.write("exported", step=step, path="output", layout=layout, metrics=finite(metrics))
    metrics |= {
        "train_loss": progress.train_loss,
        "tokens": float(progress.tokens),
        "trained_tokens": float(progress.trained_tokens),
        "exported_step": None if step is None else float(step),
    }
    tuning = spec.adapter()
    if tuning is not None and tuning.merge != "none":
        metrics |= export_merged(session, tuning, step=step, applied=scores["eval_loss"], probe=probe)
    journal.finish(progress.step, metrics)


def _tolerance(session: Session, best: Path | None) -> float:
    """Return how far the scores may differ. A checkpoint up to `start` was scored by an earlier attempt; names sort by step."""
    if best is not None and session.start is not None and best.name <= session.start.name:
        return _ELSEWHERE
    return _ROUNDED if session.in_parts and session.machine.precision != "fp32" else _TOLERANCE


def _write(output: Path, saved: Path) -> None:
    """Copy a checkpoint without its state; there is one, since the last step is always saved."""
    writing = output.with_name(".writing-output")
    if writing.exists():
        shutil.rmtree(writing)
    shutil.copytree(saved, writing, ignore=shutil.ignore_patterns(STATE))
    publish(writing, output)


def _check_same(expected: float, reloaded: float, tolerance: float) -> None:
    if not abs(expected - reloaded) <= tolerance * max(1.0, abs(expected)):
        raise EngineError(
            "export_differs",
            f"the export scores {reloaded:.6f}, the weights it was made from {expected:.6f}",
            "Run the job again; tell the maintainers if it happens twice.",
        )
