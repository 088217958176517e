"""Following a job: a live curve on a terminal, plain lines off it; Ctrl-C detaches and the job goes on."""

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import httpx

from cli.client import Client
from cli.errors import CommandError, Exit
from cli.jobs.curve import labelled_plot
from cli.jobs.progress import Progress
from cli.output import duration, legible, say, suggest
from cli.stream import Patience, asked, follow_stream

ENDS = {"succeeded": Exit.OK, "failed": Exit.JOB_FAILED, "cancelled": Exit.JOB_CANCELLED}
_FIRST_POLL_S = 0.5
_LONGEST_POLL_S = 2.0
_POLL_GROWTH = 1.2
_PLAIN_EVERY_S = 5.0
_PLAIN_EVERY_SHARE = 0.1
_FRAMES_PER_S = 4


class View(Protocol):
    """A display of a job's progress."""

    def message(self, text: str) -> None: ...

    def refresh(self, progress: Progress) -> None: ...


class PlainView:
    """Plain lines: one every tenth of the run, and at least one every 5 s."""

    def __init__(self) -> None:
        self.next_at = 0.0
        self.next_step = 0.0
        self.shown_step = 0

    def message(self, text: str) -> None:
        say(f"  {text}")

    def refresh(self, progress: Progress) -> None:
        if not progress.train or progress.step == self.shown_step:
            return
        now = time.monotonic()
        last = progress.step == progress.total_steps
        if now < self.next_at and progress.step < self.next_step and not last:
            return
        self.next_at = now + _PLAIN_EVERY_S
        self.next_step = progress.step + progress.total_steps * _PLAIN_EVERY_SHARE
        self.shown_step = progress.step
        say(f"  {progress.line()}")


class LiveView:
    """The progress line and the loss curve, redrawn in place by rich."""

    def __init__(self, live: Any) -> None:
        self.live = live
        self.next_at = 0.0

    def message(self, text: str) -> None:
        self.live.console.print(f"  {legible(text)}", markup=False, highlight=False)

    def refresh(self, progress: Progress) -> None:
        from rich.text import Text

        now = time.monotonic()
        if now < self.next_at and progress.step != progress.total_steps:
            return
        self.next_at = now + 1 / _FRAMES_PER_S
        losses = [progress.losses[step] for step in sorted(progress.losses)]
        width = max(10, min(72, self.live.console.width - 14))
        frame = Text("\n".join(labelled_plot(losses, width)), style="cyan")
        if losses:
            frame.append("\n")
        frame.append(f"  {progress.bar()}  " if progress.total_steps else "  ", style="green")
        frame.append(progress.line(), style="default")
        self.live.update(frame)


@contextmanager
def _view() -> Iterator[View]:
    """Yield the live view on a terminal, plain lines elsewhere; both on stderr."""
    if not sys.stderr.isatty():
        yield PlainView()
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), refresh_per_second=_FRAMES_PER_S) as live:
        yield LiveView(live)


def follow(client: Client, job_id: str) -> dict[str, Any]:
    """Show a job until it ends, and return the final job.

    Raises:
        CommandError: detached by Ctrl-C (the job goes on), or the service went away.
    """
    progress = Progress()
    with detachable(job_id), _view() as view:
        for record in follow_stream(client, job_id):
            message = progress.take(record)
            if message:
                view.message(message)
            view.refresh(progress)
    return await_end(client, job_id)


@contextmanager
def detachable(job_id: str) -> Iterator[None]:
    """Detach from a job at Ctrl-C: the job goes on."""
    try:
        yield
    except KeyboardInterrupt:
        raise CommandError(
            f"Detached; {job_id} goes on.",
            Exit.INTERRUPTED,
            f"attach again: trainyard jobs logs -f {job_id}    stop it: trainyard jobs cancel {job_id}",
        ) from None


def await_end(client: Client, job_id: str, timeout_s: float = math.inf) -> dict[str, Any]:
    """Wait until a job has ended and return it; outages of the service of less than a minute are tolerated.

    Raises:
        CommandError: detached by Ctrl-C, timed out, or the service went away or refused.
    """
    deadline = time.monotonic() + timeout_s
    patience = Patience(client)
    status, poll_s = "out of reach", _FIRST_POLL_S
    with detachable(job_id):
        while True:
            try:
                job = asked(client, f"jobs/{job_id}")
            except httpx.HTTPError as error:
                pause_s = patience.pause_s(error)
            else:
                patience.restore()
                if job["status"] in ENDS:
                    return job
                status = job["status"]
                pause_s = poll_s = min(_LONGEST_POLL_S, poll_s * _POLL_GROWTH)
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise CommandError(f"{job_id} is still {status} after {timeout_s:g} s.", Exit.TIMED_OUT)
            time.sleep(min(pause_s, left_s))


def report_status(job: dict[str, Any]) -> None:
    """Print the status of a new job, and what it waits for."""
    say(f"{job['id']} {job['status']}" + (f": {job['waiting_reason']}" if job["waiting_reason"] else ""))


_ADAPTER = "the adapter as a tar"
_FILE_OF = {"eval": "one line per row"}
"""The content of a job's result file by kind; an adapter for all others."""


def report_end(job: dict[str, Any], *, further: bool = True) -> Exit:
    """Print how a job ended and, unless `further` is false, what to type next; return its exit code."""
    took = duration(job["finished_at"] - job["started_at"]) if job["started_at"] and job["finished_at"] else ""
    say(f"{job['id']} {job['status']}" + (f" in {took}" if took else ""))
    error = job.get("error")
    if job["status"] == "failed" and error:
        say(f"  {error['class']}, {error['code']}: {error['message']}")
        say(f"  {error['mend']}")
        suggest(f"trainyard jobs logs {job['id']}", f"try again: trainyard jobs retry {job['id']}")
    if further:
        for made in job.get("artifacts") or []:
            if made["kind"] in {"model", "adapter"}:
                suggest(f"trainyard {made['kind']}s pull {made['name']}/{made['version']} -o ./{made['name']}")
        if job["kind"] == "eval" and job["status"] == "succeeded":
            suggest(f"trainyard evals show {job['id']}")
        for file_id in job.get("result_files") or []:
            suggest(f"trainyard files download {file_id}", _FILE_OF.get(job["kind"], _ADAPTER))
        if job["status"] == "cancelled":
            suggest(f"trainyard jobs clone {job['id']}")
    return ENDS[job["status"]]
