"""The command `trainyard files preview`: rows as a job trains on them, trained tokens underlined, others dim."""

from itertools import groupby
from pathlib import Path
from typing import Any

import click

from cli.check import purpose_of, require_valid
from cli.client import Client
from cli.completion import WEIGHTS
from cli.output import legible, print_json, say, styled, suggest
from cli.upload import upload_file

KIND_OF_FORMAT = {"preference": "dpo", "preferred_output": "dpo", "text": "pretrain", "text_jsonl": "pretrain"}
"""The kind of job by the format of a file's rows; sft for all others."""
_MARKS = "«", "»"
"""Marks around trained text where nothing can be underlined."""
_REASONS = {
    "dropped": "left out: longer than max_length",
    "no_trained_token": "left out: no trained token within max_length",
    "excluded": "left out: excluded",
    "not_a_row": "not a row",
}


@click.command(short_help="Show which tokens would be trained.")
@click.argument("file", type=click.Path())
@click.option(
    "--model",
    required=True,
    help="Model, adapter or checkpoint whose tokenizer and chat template are used.",
    shell_complete=WEIGHTS,
)
@click.option("--lines", help="Lines to show: 3 or 3,7,12.")
@click.option("--limit", default=3, show_default=True, help="Rows to show from the start, without --lines.")
@click.option("--max-length", default=2048, show_default=True, help="Tokens in a row.")
@click.option("--step", type=click.IntRange(min=1), help="Show the packed rows of this step instead.")
@click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")
def preview(
    file: str, model: str, lines: str | None, limit: int, max_length: int, step: int | None, as_json: bool
) -> None:
    """Show which tokens a job would train on in FILE, a path (which is uploaded) or the id of a file."""
    client = Client()
    row = _upload(client, Path(file)) if Path(file).is_file() else client.get(f"files/{client.whole_id('file', file)}")
    kind = KIND_OF_FORMAT.get(row["format"], "sft")
    spec = {"kind": kind, "model": model, "training_file": row["id"], "hyperparameters": {"max_length": max_length}}
    asked: dict[str, Any] = {"spec": spec, "limit": limit, "step": step, "statistics": True}
    if lines:
        asked["lines"] = _numbers(lines)
    answer = client.ask("POST", "preview", json=asked, timeout=None)
    if as_json:
        print_json(answer)
        return
    for line in _step_lines(answer["step"]) if answer["step"] else _row_lines(answer["rows"]):
        click.echo(line)
    for counted in answer["statistics"]:
        say(_summary(counted, answer["max_length"]))
    suggest(f"trainyard jobs init {kind} > job.yaml", f"training_file: {row['id']}")


def _upload(client: Client, path: Path) -> dict[str, Any]:
    purpose = purpose_of(path)
    require_valid(path, purpose)
    row = upload_file(client, path, purpose)
    say(f"uploaded {path.name} ({row['row_count']} rows) as {row['id']}")
    return row


def _numbers(lines: str) -> list[int]:
    try:
        return [int(line) for line in lines.split(",")]
    except ValueError as error:
        raise click.UsageError(f"--lines {lines}: write numbers separated by commas, such as 3,7,12.") from error


def _row_lines(rows: list[dict[str, Any]]) -> list[str]:
    lines = []
    for row in rows:
        notes = [row["split"]] if row["split"] == "validation" else []
        notes += ["cut to max_length"] if row["truncated"] else []
        notes += [_REASONS[row["reason"]]] if row["reason"] else []
        lines.append(click.style(f"line {row['line']}" + (f" ({', '.join(notes)})" if notes else ""), bold=True))
        lines += [_document_line(document) for document in row["documents"]]
        lines += [] if row["complete"] else ["... too long to be shown completely"]
    return lines


def _step_lines(step: dict[str, Any]) -> list[str]:
    lines = []
    for number, batch in enumerate(step["batches"], 1):
        for place, row in enumerate(batch["rows"], 1):
            lines.append(click.style(f"step {step['step']}, micro-batch {number}, row {place}", bold=True))
            lines += [f"line {document['line']}: {_document_line(document)}" for document in row["documents"]]
    return lines


def _document_line(document: dict[str, Any]) -> str:
    name = f"{document['answer']}: " if document["answer"] else ""
    runs = groupby(zip(document["pieces"], document["trained"], strict=True), key=lambda token: token[1])
    return name + "".join(_marked("".join(piece for piece, _ in run), trained) for trained, run in runs)


def _marked(text: str, trained: bool) -> str:
    shown = legible(text)
    if styled():
        return click.style(shown, underline=True) if trained else click.style(shown, dim=True)
    return _MARKS[0] + shown + _MARKS[1] if trained else shown


def _summary(counted: dict[str, Any], max_length: int) -> str:
    share = counted["trained_tokens"] / max(1, counted["tokens"])
    lost = [
        f"{counted[name]} {what}"
        for name, what in (
            ("truncated", f"cut to {max_length} tokens"),
            ("dropped", "too long and left out"),
            ("no_trained_token", "without a trained token and left out"),
        )
        if counted[name]
    ]
    seen = "" if counted["complete"] else " (a part of the file)"
    summary = f"{counted['rows']} training rows{seen}, {counted['tokens']} tokens, {share:.0%} of them trained"
    return "; ".join([summary, *lost])
