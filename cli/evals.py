"""The group `trainyard evals`: score models on rows; each figure with its interval and its difference from a baseline."""

from pathlib import Path
from typing import Any

import click

from cli.check import require_valid
from cli.client import Client
from cli.completion import JOB, WEIGHTS
from cli.errors import CommandError, Exit
from cli.jobs.create import follow_option, jsonl_option, require_shown_one_way, set_option, submit
from cli.jobs.listing import STATES
from cli.jobs.spec import override, upload_paths
from cli.output import Column, format_options, moment, plain, print_json, print_rows, suggest
from cli.upload import upload_file

_MAIN = ("eval_exact_match", "eval_acc/harness", "eval_loss", "eval_tokens")
"""The figures that a listing may show, in order of preference."""
_BASELINE, _DIFFERENCE = "compare_to/", "difference/"
_TASKS = ("auto", "loss", "multiple_choice", "generate", "tokens")


def _figures(job: dict[str, Any]) -> dict[str, float | None]:
    return (job["result"] or {}).get("metrics") or {}


def _main(job: dict[str, Any]) -> str:
    figures = _figures(job)
    name = next((name for name in _MAIN if name in figures), None)
    return "" if name is None else f"{name.removeprefix('eval_')} {plain(figures[name])}"


def _difference(job: dict[str, Any]) -> float | None:
    figures = _figures(job)
    return next((figures[_DIFFERENCE + name] for name in _MAIN if _DIFFERENCE + name in figures), None)


_COLUMNS: list[Column] = [
    ("id", lambda row: row["id"]),
    ("status", lambda row: row["status"]),
    ("model", lambda row: row["spec"]["model"]),
    ("task", lambda row: row["spec"]["evaluation"]["task"]),
    ("rows", lambda row: _figures(row).get("eval_rows")),
    ("score", _main),
    ("against", lambda row: row["spec"].get("compare_to")),
    ("difference", _difference),
    ("created", lambda row: moment(row["created_at"])),
]
_FIGURE_COLUMNS: list[Column] = [
    ("subject", lambda row: row["subject"]),
    ("figure", lambda row: row["figure"]),
    ("value", lambda row: row["value"]),
    ("95% from", lambda row: row["low"]),
    ("to", lambda row: row["high"]),
    ("baseline", lambda row: row["baseline"]),
    ("difference", lambda row: row["difference"]),
    ("95% from", lambda row: row["difference_low"]),
    ("to", lambda row: row["difference_high"]),
]


@click.group(short_help="Score models and compare them.")
def evals() -> None:
    """Evaluations: models, adapters and checkpoints scored on rows."""


@evals.command(short_help="Score a model on the rows of a file.")
@click.argument("model", shell_complete=WEIGHTS)
@click.argument("file", type=click.Path())
@click.option("--task", type=click.Choice(_TASKS), help="How to score the rows; default: from the file's format.")
@click.option("--compare-to", metavar="MODEL", help="Second model, scored on the same rows.", shell_complete=WEIGHTS)
@set_option
@follow_option
@jsonl_option
@format_options
def run(
    model: str,
    file: str,
    task: str | None,
    compare_to: str | None,
    assignments: tuple[str, ...],
    attach: bool,
    jsonl: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Score MODEL on the rows of FILE, a path (which is checked and uploaded) or the id of a file."""
    require_shown_one_way(attach=attach, jsonl=jsonl, as_json=as_json, quiet=quiet)
    client = Client()
    spec: dict[str, Any] = {"kind": "eval", "model": client.whole(model), "eval_file": _file_id(client, file)}
    if compare_to is not None:
        spec["compare_to"] = client.whole(compare_to)
    if task is not None:
        spec["evaluation"] = {"task": task}
    override(spec, assignments)
    upload_paths(client, spec, Path.cwd())
    return submit(client, spec, attach=attach, jsonl=jsonl, as_json=as_json, quiet=quiet)


def _file_id(client: Client, file: str) -> str:
    path = Path(file)
    if not path.is_file():
        return client.whole_id("file", file)
    require_valid(path, "evals")
    return upload_file(client, path, "evals")["id"]


@evals.command("ls", short_help="List evaluations, newest first.")
@click.option("--status", type=click.Choice(STATES), help="Only evaluations in this state.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Most rows to list.")
@format_options
def list_evals(status: str | None, limit: int, as_json: bool, quiet: bool) -> None:
    """List evaluations, newest first."""
    rows = list(Client().pages("jobs", limit, kind="eval", status=status))
    print_rows(rows, _COLUMNS, as_json=as_json, quiet=quiet)
    suggest(f"trainyard evals show {rows[0]['id']}" if rows else "trainyard evals run MODEL FILE --follow")


@evals.command(short_help="Show every figure of an evaluation.")
@click.argument("job_id", shell_complete=JOB)
@format_options
def show(job_id: str, as_json: bool, quiet: bool) -> int:
    """Show every figure of an evaluation, also by subject, and its difference from the baseline."""
    client = Client()
    job = client.get(f"jobs/{client.whole_id('job', job_id)}")
    if job["kind"] != "eval":
        raise CommandError(f"{job['id']} is of kind {job['kind']}.", Exit.INVALID, f"`trainyard jobs show {job['id']}`")
    if quiet:
        click.echo(job["id"])
    elif as_json:
        print_json(job)
    elif job["result"] is None:
        raise CommandError(
            f"{job['id']} is {job['status']}: there are no figures.", Exit.INVALID, f"`trainyard jobs show {job['id']}`"
        )
    else:
        print_rows(figure_rows(job["result"]), _FIGURE_COLUMNS, as_json=False, quiet=False)
    for file_id in job["result_files"]:
        suggest(f"trainyard files download {file_id}", "one line per row")
    return Exit.OK


def figure_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each figure: over all rows of the data first, then by subject."""
    rows = [_figure_row(name, result["metrics"]) for name in _own(result["metrics"])]
    for subject, figures in result["groups"].items():
        rows += [_figure_row(name, figures) | {"subject": subject} for name in _own(figures)]
    return rows


def _own(figures: dict[str, Any]) -> list[str]:
    """Return the names of the model's own figures, without interval bounds and baseline figures."""
    bounds = {name + end for name in figures for end in ("_low", "_high")}
    return [name for name in figures if name not in bounds and not name.startswith((_BASELINE, _DIFFERENCE))]


def _figure_row(name: str, figures: dict[str, Any]) -> dict[str, Any]:
    difference = _DIFFERENCE + name
    return {
        "subject": "",
        "figure": name.removeprefix("eval_"),
        "value": figures[name],
        "low": figures.get(f"{name}_low"),
        "high": figures.get(f"{name}_high"),
        "baseline": figures.get(_BASELINE + name),
        "difference": figures.get(difference),
        "difference_low": figures.get(f"{difference}_low"),
        "difference_high": figures.get(f"{difference}_high"),
    }
