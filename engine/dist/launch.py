"""The launcher of the processes that share a run: when one fails, all end within seconds, and the cause is reported.

The processes get torchrun's environment variables, so torchrun can start them as well. It is not used here because it
exits with code 1 for every failure and waits half a minute for ranks that hang in a collective.
"""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from engine.dist import forking
from engine.dist.crew import Crew
from engine.dist.forking import Process
from engine.errors import EXIT_BUG, EXIT_CANCELLED, EXIT_OK, EXIT_STOPPED, RankLost, TouchLost
from engine.jobs import spec_of
from engine.journal import Journal
from engine.rundir import RunDirectory
from engine.stop import StopFlag

_GRACE_S = 3.0
"""How long the other processes have to notice a failure and to report it."""
_SAVING_S = 60.0
"""How long the first process has if it is writing a checkpoint."""


def launch(
    run: RunDirectory,
    crew: Crew,
    stop: StopFlag,
    main: Callable[[list[str]], NoReturn],
    *,
    alone: AbstractContextManager[None],
) -> int:
    """Carry out this machine's part of the run in its processes and return the exit code (engine.errors).

    `main` is what a rank runs; `alone`, a context in which this process has no other thread.
    """
    forks = forking.can_fork()
    if forks:
        forking.prepare(zero=spec_of(run).resources.parallel.zero_stage not in {0, "auto"})
    shutil.rmtree(run.ranks, ignore_errors=True)
    run.ranks.mkdir()
    for leftover in run.half_written():
        shutil.rmtree(leftover)
    processes: list[Process] = []
    # Ranks inherit the mask: signals wait until a rank handles them, and here until all ranks can be sent them.
    signal.pthread_sigmask(signal.SIG_BLOCK, forking.HELD_BACK)
    if stop.requested:
        return EXIT_STOPPED
    _pass_on_signals(processes)
    _end_by_alarm(processes, run)
    begin = partial(forking.fork, main=main) if forks else forking.spawn
    try:
        with alone:
            for rank in crew.ranks:
                processes.append(begin(_environment(rank, crew), [str(run.root)]))  # noqa: PERF401 - the handlers read the list
    except OSError as error:  # out of memory or of processes
        return _give_up(run, processes, RankLost(f"only {len(processes)} of {crew.here} processes started: {error}"))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, forking.HELD_BACK)
    failed = {crew.ranks[number]: code for number, code in _failures(processes).items()}
    if failed:
        return _report(run, failed, crew.total)
    return EXIT_STOPPED if any(process.returncode == EXIT_STOPPED for process in processes) else EXIT_OK


def _environment(rank: int, crew: Crew) -> dict[str, str]:
    given = {name: value for name, value in os.environ.items() if name not in {"MASTER_ADDR", "MASTER_PORT"}}
    cores = len(os.sched_getaffinity(0))
    return {
        "OMP_NUM_THREADS": str(max(1, cores // crew.here)),
        **crew.meeting,
        **given,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank - crew.first),
        "WORLD_SIZE": str(crew.total),
        "LOCAL_WORLD_SIZE": str(crew.here),
        "TRAINYARD_PARENT_PID": str(os.getpid()),
    }


def _give_up(run: RunDirectory, started: list[Process], failure: RankLost) -> int:
    for process in started:
        os.kill(process.pid, signal.SIGKILL)
        os.waitpid(process.pid, 0)
    _write(run, failure.fields())
    return EXIT_BUG


def _pass_on_signals(processes: list[Process]) -> None:
    def pass_on(number: int, frame: FrameType | None) -> None:
        del frame
        for process in processes:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)


def _end_by_alarm(processes: list[Process], run: RunDirectory) -> None:
    """Have SIGALRM kill all processes, but the first only once it has written its checkpoint and the event of it."""
    was_saving, first_at = False, 0.0

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal was_saving, first_at
        del number, frame
        first_at = first_at or time.monotonic()
        before, was_saving = was_saving, bool(run.half_written())
        if processes[0].returncode is None and (before or was_saving) and time.monotonic() < first_at + _SAVING_S:
            signal.setitimer(signal.ITIMER_REAL, _GRACE_S)
            return
        for process in processes:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)

    signal.signal(signal.SIGALRM, end)


def _failures(processes: list[Process]) -> dict[int, int]:
    """Return the exit codes of processes that failed by themselves, by their numbers, in the order of the failures."""
    failed: dict[int, int] = {}
    running = {process.pid: number for number, process in enumerate(processes)}
    killing = False
    while running:
        pid, status = os.wait()
        number = running.pop(pid)
        code = processes[number].returncode = os.waitstatus_to_exitcode(status)
        killing = killing or (bool(failed) and signal.getitimer(signal.ITIMER_REAL)[0] == 0)
        if code in {EXIT_OK, EXIT_STOPPED} or (killing and code == -signal.SIGKILL):
            continue
        if not failed:
            signal.setitimer(signal.ITIMER_REAL, _GRACE_S)
        failed[number] = code
    signal.setitimer(signal.ITIMER_REAL, 0)
    return failed


def _report(run: RunDirectory, failed: dict[int, int], count: int) -> int:
    """Write the failure that caused the others as the run's own, unless it is already, and return its exit code."""
    if EXIT_CANCELLED in failed.values():
        return EXIT_CANCELLED
    events = {rank: _last_failure(run.events_of(rank)) for rank in failed}
    causes = [rank for rank in failed if (events[rank] or {}).get("code") != TouchLost.CODE]
    rank = causes[0] if causes else next(iter(failed))
    event, code = events[rank], failed[rank]
    if rank == 0 and event is not None:
        return code
    if event is None:
        event = RankLost(f"rank {rank} of {count} {_ending(code)}; the others were ended").fields()
        code = EXIT_BUG
    else:
        event["message"] = f"rank {rank} of {count}: {event['message']}"
    _write(run, event)
    return code


def _write(run: RunDirectory, event: dict[str, Any]) -> None:
    journal = Journal(run.events)
    journal.write("failed", **{name: event[name] for name in ("failure", "code", "message", "mend")})
    journal.close()


def _ending(code: int) -> str:
    return f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"


def _last_failure(events: Path) -> dict[str, Any] | None:
    """Return the last event of a process if it is the failure."""
    if not events.exists():
        return None
    lines = events.read_bytes().splitlines()
    last: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return last if last.get("type") == "failed" else None
