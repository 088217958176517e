"""One run in this process, from the run directory to an exit code; every ending is an event in `events.jsonl`."""

import sys
import traceback
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

import engine.bnb_import  # noqa: F401 - before what imports peft
from engine.dist.ranks import Ranks
from engine.errors import EXIT_BUG, EXIT_OK, EXIT_STOPPED, OutOfMemory
from engine.export import export
from engine.failure import classified
from engine.journal import Journal
from engine.loop import Training
from engine.oom_advice import explained
from engine.parts import TrainingSpec
from engine.rundir import RunDirectory
from engine.score import score
from engine.session import Session
from engine.stop import StopFlag, StopRequested

disable_progress_bar()


def carry_out(root: Path, stop: StopFlag) -> int:
    """Carry out the run, to its end or until something stops it, and return the exit code.

    KeyboardInterrupt passes through.
    """
    if not root.is_dir():
        sys.stderr.write(f"{root} is not a directory\n")
        return EXIT_BUG
    ranks = Ranks.here()
    journal = Journal(RunDirectory(root).events_of(ranks.rank))
    step, session = 0, None
    try:
        session = Session.open(RunDirectory(root), journal, stop)
        if isinstance(session.spec, TrainingSpec):
            training = Training(session, session.spec)
            try:
                training.carry_out()
            finally:
                step = training.progress.step
            selection = training.selection
            del training  # frees the model and the optimizer's state: the export is loaded in their place
            export(session, session.spec, selection)
        else:
            score(session)
    except StopRequested:
        journal.write("stopped", step=step)
        return EXIT_STOPPED
    except Exception as error:  # noqa: BLE001 - every ending has a class; the traceback is in the log
        traceback.print_exc()
        failure = classified(error)
        if isinstance(failure, OutOfMemory) and session is not None:
            failure = explained(failure, session)
        journal.write("failed", **failure.fields())
        return failure.exit_code
    finally:
        journal.close()
    return EXIT_OK
