"""The worker's command, `python -m workers`. At SIGTERM and Ctrl-C running jobs save a checkpoint first."""

import fcntl
import os
import time
from typing import IO

from db import logs
from engine import gc_pause
from workers.settings import WorkerSettings

_NAME_WAIT_S = 10.0


def main() -> None:
    # With this variable set, Celery would cut running jobs off at SIGTERM.
    os.environ.pop("REMAP_SIGTERM", None)
    with gc_pause.paused():
        import workers.tasks  # noqa: F401 - the task is registered by being imported, after the line above
        from workers.queue import QUEUE, app

    logs.begin()
    settings = WorkerSettings()
    with hold_name(settings):
        app.worker_main(
            [
                "--quiet",  # no banner: its log is lines of JSON
                "worker",
                "--pool=prefork",
                f"--concurrency={settings.worker_concurrency}",
                f"--queues={QUEUE}",
                f"--hostname=trainyard@{settings.worker_name}",
                "--loglevel=INFO",
                "--without-gossip",
                "--without-mingle",
                "--without-heartbeat",
            ]
        )


def hold_name(settings: WorkerSettings) -> IO[bytes]:
    """Lock this worker's name until the file is closed and every process of the worker has ended.

    Raises:
        SystemExit: another worker with this home has the name.
    """
    settings.runs_dir.mkdir(parents=True, exist_ok=True)
    lock = (settings.runs_dir / f"worker-{settings.worker_name}.lock").open("wb")
    give_up_at = time.monotonic() + _NAME_WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up_at:
                lock.close()
                raise SystemExit(
                    f"another worker is running as {settings.worker_name}; set TRAINYARD_WORKER_NAME to another name"
                ) from None
            time.sleep(0.2)
        else:
            return lock


if __name__ == "__main__":
    os.umask(0o077)
    main()
