"""What a command prints: data on stdout (table, TSV, JSON or ids), narration on stderr."""

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
"""A heading and how its cell is read from an API object."""
_UNUSUAL = re.compile(r"[^\n\t -~]")
_OBEYED = frozenset({"Cc", "Cs", "Co", "Cn"})
"""Categories of what a terminal takes for an order, or has no picture of."""
_TURNING = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
"""Bidirectional classes of what turns the text behind it around, so that it reads as what it is not."""
_EXACT = 1e15
"""From about here on a float has fewer digits than its whole number would be told with."""


def say(message: str, *, bold: bool = False) -> None:
    """Narrate on stderr; what others wrote may be in it. A command goes on though nobody listens."""
    with reader_may_go(sys.stderr):
        told = legible(message)
        click.echo(click.style(told, bold=True) if bold else told, err=True)


@contextmanager
def reader_may_go(stream: TextIO) -> Iterator[None]:
    """Whether anybody still reads a stream decides neither what a command does nor how it ends."""
    try:
        yield
    except BrokenPipeError:
        lead_nowhere(stream)


def lead_nowhere(stream: TextIO) -> None:
    """Put /dev/null in a stream's place: what it still holds would fail once more, at the latest as Python exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def suggest(command: str, then: str | None = None) -> None:
    """Narrate what to type next."""
    say(f"  next: {command}" + (f"    # {then}" if then else ""))


def format_options(command: Command) -> Command:
    """Add --json and -q to a command."""
    command = click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")(command)
    return click.option("-q", "--quiet", is_flag=True, help="Print ids only.")(command)


def rows_options(command: Command) -> Command:
    """Add --json to a command whose rows have no ids."""
    return click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")(command)


def print_rows(rows: Iterable[Row], columns: Sequence[Column], *, as_json: bool, quiet: bool) -> None:
    """A list of objects: a table on a terminal, TSV off it, one JSON array, or ids only."""
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
    """One object: aligned `name  value` lines on a terminal, TSV off it; fields without a value are left out.

    Commands that end as the object has ended print it so: a reader that has gone ends none of them.
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
    """What an order did to each of so many objects, told as it is done; a reader that has gone stops no order.

    JSON comes at the end, also at that of a failure: of one object as itself, of several as a list, however many
    of them were done.
    """
    rows: list[Row] = []
    try:
        for told, row in done:
            rows.append(row)
            if not as_json:
                with reader_may_go(sys.stdout):
                    click.echo(told)
    finally:
        if as_json and (rows or asked > 1):
            with reader_may_go(sys.stdout):
                print_json(rows if asked > 1 else rows[0])


def print_jsonl(rows: Iterable[Row]) -> None:
    """One compact JSON object a line, flushed as it comes."""
    for row in rows:
        click.echo(_harmless(json.dumps(row, ensure_ascii=False)))


def _print_table(cells: list[list[str]], headings: list[str]) -> None:
    # rich takes 60 ms to import, which a pipe does not need.
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
    """A fault in one line: where in the row or spec, what, and how to mend it; nothing said twice."""
    begin = f"{path}: " if path and not message.startswith(path) else ""
    end = f"; {hint}" if hint and hint not in message else ""
    return f"{begin}{message}{end}"


def styled() -> bool:
    """Whether stdout shows bold, dim and underlined text."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def plain(value: Any) -> str:
    """A cell: figures short, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if 1000 <= abs(value) < _EXACT else f"{value:.4g}"
    return str(value)


def legible(text: str) -> str:
    """Text of others for a terminal: its control characters are shown, not obeyed."""
    return _UNUSUAL.sub(lambda found: "\ufffd" if _is_obeyed(found[0]) else found[0], text)


def _harmless(document: str) -> str:
    """The same JSON, with what a terminal would obey escaped: json itself escapes no control character over 31."""
    return _UNUSUAL.sub(lambda found: json.dumps(found[0])[1:-1] if _is_obeyed(found[0]) else found[0], document)


def _is_obeyed(character: str) -> bool:
    return unicodedata.category(character) in _OBEYED or unicodedata.bidirectional(character) in _TURNING


def counted(count: int, noun: str) -> str:
    """1 row, 2 rows."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def size(size_bytes: int) -> str:
    """1.1 MB rather than 1115394."""
    amount = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def duration(seconds: float | None) -> str:
    """1h05m, 2m03s or 41s."""
    if seconds is None:
        return ""
    whole = max(0, round(seconds))
    if whole >= 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 60}m{whole % 60:02d}s" if whole >= 60 else f"{whole}s"


def moment(unix_s: float | None) -> str:
    """Local date and time."""
    return "" if unix_s is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix_s))
