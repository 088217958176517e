"""Local check of a data file before it is sent, with the same checker that the service runs."""

import json
import os
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

from cli.errors import CommandError, Exit
from cli.output import counted, legible, say, sentence
from engine.rows import MAX_LINE_BYTES, Report, RowChecker, RowFault

_CHUNK_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"
_FEWEST_LINE_BYTES = 64
"""The smallest value that the service accepts."""
_LISTED_FAULTS = 1000
_EVERY_FAULT = 1 << 62


def purpose_of(path: Path) -> str:
    """Guess the purpose of a file by its first row.

    pretrain for text and {"text": ...} rows, evals for choices and items of graders, fine-tune otherwise.
    """
    if path.suffix == ".txt":
        return "pretrain"
    try:
        row = json.loads(_first_line(path))
    except (ValueError, RecursionError):
        return "fine-tune"  # the check will name the fault
    keys = row.keys() if isinstance(row, dict) else set()
    if "choices" in keys:
        return "evals"
    if keys & {"messages", "prompt", "instruction", "chosen", "preferred_output"}:
        return "fine-tune"
    if "text" in keys:
        return "pretrain"
    return "evals" if "item" in keys else "fine-tune"


def _first_line(path: Path) -> bytes:
    """Return the first line that is not blank, cut just above the longest row allowed."""
    longest = _max_line_bytes() + 1
    with path.open("rb") as source:
        source.seek(len(_BOM) if source.read(len(_BOM)) == _BOM else 0)
        return next((line for line in iter(lambda: source.readline(longest), b"") if line.strip()), b"")


def _max_line_bytes() -> int:
    """Return TRAINYARD_MAX_LINE_BYTES, parsed as the service parses it, or the default.

    Raises:
        CommandError: the value is not a number of bytes or is too small; the service would refuse it too.
    """
    given = os.environ.get("TRAINYARD_MAX_LINE_BYTES")
    if not given:
        return MAX_LINE_BYTES
    # Imported only where the variable is set: pydantic takes 90 ms.
    from pydantic import Field, TypeAdapter, ValidationError

    try:
        return TypeAdapter(Annotated[int, Field(ge=_FEWEST_LINE_BYTES)]).validate_python(given)
    except ValidationError:
        message = f"TRAINYARD_MAX_LINE_BYTES is {given!r}; it must be a number of bytes, at least {_FEWEST_LINE_BYTES}."
        raise CommandError(message, Exit.USAGE) from None


def check(path: Path, purpose: str, max_faults: int = _LISTED_FAULTS) -> Report:
    """Check the whole file, in constant memory."""
    checker = RowChecker(purpose=purpose, filename=path.name, max_line_bytes=_max_line_bytes(), max_faults=max_faults)
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            checker.feed(chunk)
    return checker.finish()


def fault_line(name: str, fault: RowFault) -> str:
    """Format a fault as `file:line:col: path: message; hint`, which editors and CI recognise."""
    place = f"{name}:{fault.line}" + (f":{fault.column}" if fault.column is not None else "")
    return legible(f"{place}: {sentence(fault.path, fault.message, fault.hint)}")


def require_valid(path: Path, purpose: str) -> Report:
    """Return the report of a file that has no faults.

    Raises:
        CommandError: the file has faults; they (at most the first 1,000) have been printed.
    """
    report = check(path, purpose)
    if not report.fault_count:
        return report
    for fault in report.faults:
        say(fault_line(path.name, fault))
    raise CommandError(f"{tally(report)} Nothing uploaded.", Exit.INVALID, _skip_offer(path, purpose, report))


def tally(report: Report) -> str:
    """Summarise a report: the number of faults, of faulty lines and of good rows."""
    where = counted(len({fault.line for fault in report.faults}), "line")
    listed = "" if len(report.faults) == report.fault_count else f" The first {len(report.faults)} are listed."
    good = f"{counted(report.row_count, 'row')} {'is' if report.row_count == 1 else 'are'} good."
    return f"{counted(report.fault_count, 'fault')} in {where}; {good}{listed}"


def _skip_offer(path: Path, purpose: str, report: Report) -> str | None:
    if not report.row_count:
        return None
    command = f"trainyard files upload {shlex.quote(str(path))} --purpose {purpose} --skip-invalid"
    return f"`{command}` uploads the {counted(report.row_count, 'good row')}."


@contextmanager
def without_faults(path: Path, purpose: str) -> Iterator[tuple[Path, Report]]:
    """Yield a temporary copy of the file without the faulty lines, under the same name, and its report."""
    faults = check(path, purpose, _EVERY_FAULT)
    bad = frozenset(fault.line for fault in faults.faults)
    with tempfile.TemporaryDirectory(prefix="trainyard-") as folder:
        kept = Path(folder) / path.name
        with path.open("rb") as source, kept.open("wb") as target:
            _copy_lines(source, target, bad)
        say(f"{counted(len(bad), 'faulty line')} left out.")
        yield kept, require_valid(kept, purpose)


def _copy_lines(source: BinaryIO, target: BinaryIO, bad: frozenset[int]) -> None:
    """Copy every line whose 1-based number is not in `bad`, in constant memory for lines of any length."""
    number = 1
    while piece := source.readline(_CHUNK_BYTES):
        if number not in bad:
            target.write(piece)
        number += piece.endswith(b"\n")
