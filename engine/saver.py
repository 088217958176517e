"""Saving beside the training: one checkpoint at a time is written while the next steps are computed.

Each rank that shares the first one's disk writes its part of the optimizer's state, the first one all else.
"""

from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from threading import Event

from torch import Tensor

from engine import checkpoint, rowlog
from engine.checkpoint import Snapshot
from engine.dist.writers import Writers
from engine.export import save_subject
from engine.journal import finite
from engine.rowlog import RowLog
from engine.session import Session


class Saver:
    """Nothing is copied that lies in this machine's memory already: `until_read` comes before it may change.

    The passes of the next step change none of it, and by their end it is read; what is left then takes the disk's
    time and not the run's.
    """

    def __init__(self, session: Session, limit: int, row_log: RowLog | None) -> None:
        self._session, self._limit, self._row_log = session, limit, row_log
        self._aside = ThreadPoolExecutor(max_workers=1, thread_name_prefix="saving")
        self._saving: Future[None] | None = None
        self._read = Event()

    def begin(self, snapshot: Snapshot, *, best: bool, scored: dict[str, float]) -> None:
        """Start to write; the one before is finished first. Each rank must call this."""
        self.finish()
        self._read.clear()
        session, root = self._session, self._session.run.checkpoints
        ranks, writers = session.ranks, None
        if ranks.count > 1:
            if ranks.leads:
                checkpoint.begin(root, snapshot.progress.step)
            writers = Writers.met(ranks, session.spec.resources.ddp_timeout)
        if ranks.leads:
            self._saving = self._aside.submit(self._save, snapshot, writers, best=best, scored=scored)
        elif writers is not None:
            self._saving = self._aside.submit(self._save_part, snapshot, writers)

    def until_read(self) -> None:
        """Wait until the run may change what is being saved.

        Raises:
            OSError: it cannot be saved.
            TouchLost: another rank's part of it does not come.
        """
        if self._saving is not None:
            self._read.wait()
            if self._saving.done():
                self.finish()

    def finish(self) -> None:
        """Wait until what is being saved is a checkpoint that outlives this process, and told; or this rank's part of it.

        Raises: as `until_read` does.
        """
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    def let_end(self) -> None:
        """Wait for it where another failure is already to be told."""
        if self._saving is not None:
            wait([self._saving])

    def _save_part(self, snapshot: Snapshot, writers: Writers) -> None:
        try:
            checkpoint.save_part(self._session.run.checkpoints, snapshot, self._read.set, writers)
        finally:
            self._read.set()

    def _save(self, snapshot: Snapshot, writers: Writers | None, *, best: bool, scored: dict[str, float]) -> None:
        session, progress = self._session, snapshot.progress
        run, export = session.run, partial(self._export, snapshot.weights)
        try:
            target = checkpoint.save(run.checkpoints, snapshot, export, self._read.set, writers)
        finally:
            self._read.set()
        checkpoint.prune(run.checkpoints, self._limit, progress.best_step)
        session.journal.write(
            "checkpoint",
            step=progress.step,
            path=str(target.relative_to(run.root)),
            layout=session.subject.layout,
            best=best,
            metrics=finite({"loss": progress.train_loss, **scored}),
        )

    def _export(self, weights: dict[str, Tensor], folder: Path) -> None:
        save_subject(self._session.subject, folder, weights)
        if self._row_log is not None:
            self._row_log.copy_to(folder / checkpoint.STATE / rowlog.NAME)
