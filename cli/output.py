"""Output of the commands: data on stdout (table, TSV, JSON or ids), messages on stderr."""

import json
import os
import re
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
Row = dict[str, Any]
Column = tuple[str, Callable[[Row], Any]]
"""A heading, and the function that reads its cell from an API object."""
_UNUSUAL = re.compile(r"[^\n\t -~]")
_OBEYED = frozenset({"Cc", "Cs", "Co", "Cn"})
"""Unicode categories of characters that a terminal would obey or cannot display."""
_TURNING = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
"""Bidirectional classes of characters that reorder the text after them and so can disguise it."""
_EXACT = 1e15
"""From about here on, a float has fewer exact digits than its integer form would show."""


def say(message: str, *, bold: bool = False) -> None:
    """Print a message on stderr, made safe for a terminal. A closed stderr does not stop the command."""
    with reader_may_go(sys.stderr):
        text = legible(message)
        click.echo(click.style(text, bold=True) if bold else text, err=True)


@contextmanager
def reader_may_go(stream: TextIO) -> Iterator[None]:
    """Ignore a broken pipe: a reader that has gone changes neither what a command does nor how it exits."""
    try:
        yield
    except BrokenPipeError:
        discard(stream)


def discard(stream: TextIO) -> None:
    """Redirect a stream to /dev/null, so that flushing its buffer does not fail again when Python exits."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, stream.fileno())
    os.close(devnull)


def suggest(command: str, then: str | None = None) -> None:
    """Print the command to type next, on stderr."""
    say(f"  next: {command}" + (f"    # {then}" if then else ""))


def format_options(command: Command) -> Command:
    """Add --json and -q to a command."""
    command = click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")(command)
    return click.option("-q", "--quiet", is_flag=True, help="Print ids only.")(command)


def rows_options(command: Command) -> Command:
    """Add --json to a command whose rows have no ids."""
    return click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")(command)


def print_rows(rows: Iterable[Row], columns: Sequence[Column], *, as_json: bool, quiet: bool) -> None:
    """Print a list of objects: a table on a terminal, TSV off it, one JSON array, or ids only."""
    if quiet:
        for row in rows:
            click.echo(row["id"])
    elif as_json:
        print_json(list(rows))
    elif sys.stdout.isatty():
        _print_table([[plain(read(row)) for _, read in columns] for row in rows], [name for name, _ in columns])
    else:
        click.echo("\t".join(name for name, _ in columns))
        for row in rows:
            click.echo("\t".join(_one_line(plain(read(row))) for _, read in columns))


def print_fields(row: Row, fields: Sequence[Column], *, as_json: bool, quiet: bool) -> None:
    """Print one object: aligned `name  value` lines on a terminal, TSV off it; empty fields are left out.

    A closed stdout is ignored, because commands print an object this way before they exit with the job's code.
    """
    with reader_may_go(sys.stdout):
        _print_fields(row, fields, as_json=as_json, quiet=quiet)


def _print_fields(row: Row, fields: Sequence[Column], *, as_json: bool, quiet: bool) -> None:
    if quiet:
        click.echo(row["id"])
        return
    if as_json:
        print_json(row)
        return
    shown = [(name, plain(value)) for name, read in fields if (value := read(row)) not in (None, "", {}, [])]
    width = max(len(name) for name, _ in shown) + 2 if sys.stdout.isatty() else 0
    for name, value in shown:
        click.echo(f"{name:<{width}}{legible(value)}" if width else f"{name}\t{_one_line(value)}")


def print_json(value: Any) -> None:
    click.echo(_harmless(json.dumps(value, indent=2, ensure_ascii=False)))


def print_done(done: Iterable[tuple[str, Row]], *, asked: int, as_json: bool) -> None:
    """Print the outcome of an operation on several objects as each is done; a closed stdout does not stop it.

    JSON is printed at the end, even after a failure: one object by itself if `asked` is 1, otherwise the list of
    the objects that were done.
    """
    rows: list[Row] = []
    try:
        for line, row in done:
            rows.append(row)
            if not as_json:
                with reader_may_go(sys.stdout):
                    click.echo(line)
    finally:
        if as_json and (rows or asked > 1):
            with reader_may_go(sys.stdout):
                print_json(rows if asked > 1 else rows[0])


def print_jsonl(rows: Iterable[Row]) -> None:
    """Print one compact JSON object per line, flushed at once."""
    for row in rows:
        click.echo(_harmless(json.dumps(row, ensure_ascii=False)))


def _print_table(cells: list[list[str]], headings: list[str]) -> None:
    # Imported late: rich takes 60 ms, and a pipe does not need it.
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in cells:
        table.add_row(*[Text(legible(cell)) for cell in row])
    Console().print(table)


def _one_line(text: str) -> str:
    return text.replace("\t", " ").replace("\n", " ")


def sentence(path: str | None, message: str, hint: str | None) -> str:
    """Format a fault in one line: its place in the row or spec, what is wrong, and the hint; nothing is repeated."""
    prefix = f"{path}: " if path and not message.startswith(path) else ""
    suffix = f"; {hint}" if hint and hint not in message else ""
    return f"{prefix}{message}{suffix}"


def styled() -> bool:
    """Whether stdout shows bold, dim and underlined text."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def plain(value: Any) -> str:
    """Format a cell: short figures, an empty string for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if 1000 <= abs(value) < _EXACT else f"{value:.4g}"
    return str(value)


def legible(text: str) -> str:
    """Make foreign text safe for a terminal: control characters are replaced, not obeyed."""
    return _UNUSUAL.sub(lambda found: "\ufffd" if _is_obeyed(found[0]) else found[0], text)


def _harmless(document: str) -> str:
    """Escape what a terminal would obey in JSON: json itself escapes only control characters up to 31."""
    return _UNUSUAL.sub(lambda found: json.dumps(found[0])[1:-1] if _is_obeyed(found[0]) else found[0], document)


def _is_obeyed(character: str) -> bool:
    return unicodedata.category(character) in _OBEYED or unicodedata.bidirectional(character) in _TURNING


def counted(count: int, noun: str) -> str:
    """Format a count: 1 row, 2 rows."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def size(size_bytes: int) -> str:
    """Format bytes: 1.1 MB rather than 1115394."""
    amount = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def duration(seconds: float | None) -> str:
    """Format seconds: 1h05m, 2m03s or 41s."""
    if seconds is None:
        return ""
    whole = max(0, round(seconds))
    if whole >= 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 60}m{whole % 60:02d}s" if whole >= 60 else f"{whole}s"


def moment(unix_s: float | None) -> str:
    """Format a Unix time as local date and time."""
    return "" if unix_s is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix_s))
