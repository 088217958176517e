"""Asynchronous saving: one checkpoint at a time is written while the next steps are computed.

Each rank that shares the first rank's disk writes its part of the optimizer's state; the first writes everything else.
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

_ASK_EVERY_S = 0.5
"""How often ranks agree on whether all of them are done with a save: a disk may take longer than they wait at once."""


class Saver:
    """Saves checkpoints in a thread, without copying tensors that are in this machine's memory.

    The loop calls `until_read` before it changes them, which is after the passes of the next step. By then they are
    usually read, and what is left to write takes the disk's time, not the run's.
    """

    def __init__(self, session: Session, limit: int, row_log: RowLog | None) -> None:
        self._session, self._limit, self._row_log = session, limit, row_log
        self._aside = ThreadPoolExecutor(max_workers=1, thread_name_prefix="saving")
        self._saving: Future[None] | None = None
        self._read = Event()
        self._all_read = True
        """Whether this is known of every rank."""

    def begin(self, snapshot: Snapshot, *, best: bool, scored: dict[str, float]) -> None:
        """Start to write a checkpoint; the one before is finished (`finish_together`). Each rank must call this."""
        self._read.clear()
        self._all_read = False
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
        else:
            self._read.set()

    def until_read(self) -> None:
        """Wait until the run may change the tensors that are being saved, on all ranks; each must call this.

        Raises:
            OSError: the checkpoint cannot be saved.
            TouchLost: another rank's part of it is missing.
        """
        while not self._all_read:
            self._all_read = not self._session.ranks.any(not self._read.wait(_ASK_EVERY_S))
        if self._saving is not None and self._saving.done():
            self.finish()

    def finish_together(self) -> None:
        """Finish the save on all ranks, however long their disks take; each must call this.

        Raises: as `until_read` does.
        """
        while self._session.ranks.any(self._saving is not None and bool(wait([self._saving], _ASK_EVERY_S).not_done)):
            pass
        self.finish()

    def finish(self) -> None:
        """Wait until the checkpoint (or this rank's part of it) is durable and its event is written.

        Raises: as `until_read` does.
        """
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    def let_end(self) -> None:
        """Wait for a save to end without raising its failure, since another is being raised."""
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
