"""The local check of a data file, before a byte is sent: the same checker that the service runs."""

import json
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cli.errors import CommandError, Exit
from cli.output import say, sentence
from engine.rows import Report, RowChecker, RowFault

_CHUNK_BYTES = 1 << 20
_SNIFF_BYTES = 64 << 10
_LISTED_FAULTS = 1000
_EVERY_FAULT = 1 << 62


def purpose_of(path: Path) -> str:
    """What a file is for, by its look: plain text and {"text": ...} rows pretrain, choices evaluate, all else fine-tunes."""
    if path.suffix == ".txt":
        return "pretrain"
    with path.open("rb") as source:
        head = source.read(_SNIFF_BYTES)
    first = next((line for line in head.removeprefix(b"\xef\xbb\xbf").splitlines() if line.strip()), b"")
    try:
        row = json.loads(first)
    except ValueError:
        return "fine-tune"  # the check will name the fault
    if isinstance(row, dict) and "choices" in row:
        return "evals"
    texts = isinstance(row, dict) and "text" in row and not row.keys() & {"messages", "prompt", "instruction", "chosen"}
    return "pretrain" if texts else "fine-tune"


def check(path: Path, purpose: str, max_faults: int = _LISTED_FAULTS) -> Report:
    """Read the whole file through the row checker, in constant memory."""
    checker = RowChecker(purpose=purpose, filename=path.name, max_faults=max_faults)
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            checker.feed(chunk)
    return checker.finish()


def fault_line(name: str, fault: RowFault) -> str:
    """`file:line:col: path: message; hint`, the form that editors and CI know."""
    place = f"{name}:{fault.line}" + (f":{fault.column}" if fault.column is not None else "")
    return f"{place}: {sentence(fault.path, fault.message, fault.hint)}"


def require_valid(path: Path, purpose: str) -> Report:
    """The report of a file without faults.

    Raises:
        CommandError: the file has faults; all of them (the first 1,000) have been told.
    """
    report = check(path, purpose)
    if not report.fault_count:
        return report
    for fault in report.faults:
        say(fault_line(path.name, fault))
    raise CommandError(f"{_tally(report)} Nothing uploaded.", Exit.INVALID, _skip_offer(path, purpose, report))


def _tally(report: Report) -> str:
    lines = len({fault.line for fault in report.faults})
    listed = "" if len(report.faults) == report.fault_count else f" The first {len(report.faults)} are listed."
    faults = "1 fault" if report.fault_count == 1 else f"{report.fault_count} faults"
    where = "1 line" if lines == 1 else f"{lines} lines"
    return f"{faults} in {where}; {report.row_count} rows are good.{listed}"


def _skip_offer(path: Path, purpose: str, report: Report) -> str | None:
    if not report.row_count:
        return None
    command = f"trainyard files upload {shlex.quote(str(path))} --purpose {purpose} --skip-invalid"
    return f"`{command}` uploads the {report.row_count} good rows."


@contextmanager
def without_faults(path: Path, purpose: str) -> Iterator[tuple[Path, Report]]:
    """A temporary copy of the file under the same name, without the faulty lines, and its report."""
    faults = check(path, purpose, _EVERY_FAULT)
    bad = frozenset(fault.line for fault in faults.faults)
    with tempfile.TemporaryDirectory(prefix="trainyard-") as folder:
        kept = Path(folder) / path.name
        with path.open("rb") as source, kept.open("wb") as target:
            _copy_lines(source, target, bad)
        say(f"{len(bad)} faulty lines left out.")
        yield kept, require_valid(kept, purpose)


def _copy_lines(source: BinaryIO, target: BinaryIO, bad: frozenset[int]) -> None:
    """Copy every line whose 1-based number is not in `bad`; a line of any length takes constant memory."""
    number = 1
    while piece := source.readline(_CHUNK_BYTES):
        if number not in bad:
            target.write(piece)
        number += piece.endswith(b"\n")
