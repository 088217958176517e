"""The command `trainyard jobs tokens`: the loss of each token of rows of a step, by an evaluation job."""

import json
from typing import Any

import click

from cli.client import Client
from cli.completion import FILE, JOB
from cli.errors import CommandError, Exit
from cli.jobs.follow import await_end, report_end, report_status
from cli.output import Column, print_rows, rows_options, say, suggest

_AS_TRAINED = ("max_length", "long_rows", "precision")
_OF_TOKENS = ("ids", "pieces", "trained", "losses")
_COLUMNS: list[Column] = [
    ("line", lambda token: token["line"]),
    ("id", lambda token: token["ids"]),
    ("piece", lambda token: json.dumps(token["pieces"], ensure_ascii=False)),
    ("loss", lambda token: token["losses"] if token["trained"] else "not trained"),
]


@click.command(short_help="Show the loss of each token of rows.")
@click.argument("job_id", shell_complete=JOB)
@click.argument("step", type=click.IntRange(min=1))
@click.argument("lines", nargs=-1, type=click.IntRange(min=1))
@click.option("--file", "file_id", help="The file that the lines belong to, if there are several.", shell_complete=FILE)
@rows_options
def tokens(job_id: str, step: int, lines: tuple[int, ...], file_id: str | None, as_json: bool) -> int:
    """Show the loss of every token of rows of a step; without LINES, of the row with the largest loss.

    An evaluation job reads the rows as the training did, with the newest checkpoint from before the step. The losses are
    those of the training if that checkpoint is from the step just before and, for a .txt, nothing of the file was held
    out.
    """
    client = Client()
    job = client.get(f"jobs/{client.whole_id('job', job_id)}")
    rows = client.get(f"jobs/{job['id']}/steps/{step}/rows")["data"]
    asked = _asked(rows, lines, None if file_id is None else client.whole_id("file", file_id))
    spec = job["spec"]
    evaluation = {name: spec["hyperparameters"][name] for name in _AS_TRAINED}
    made = client.post(
        "jobs",
        {
            "kind": "eval",
            "model": _weights_before(client, job, step),
            "eval_file": asked[0]["file"],
            "evaluation": {"task": "tokens", "rows": [row["line"] for row in asked], **evaluation},
        },
    )
    report_status(made)
    done = await_end(client, made["id"])
    if done["status"] != "succeeded":
        return report_end(done)
    content = client.request("GET", f"files/{done['result_files'][0]}/content").text
    items = [json.loads(line) for line in content.splitlines()]
    each = [
        {"line": item["line"]} | {name: item[name][at] for name in _OF_TOKENS}
        for item in items
        for at in range(len(item["ids"]))
    ]
    print_rows(items if as_json else each, _COLUMNS, as_json=as_json, quiet=False)
    suggest(f"trainyard jobs rows {job['id']} {step}")
    return Exit.OK


def _asked(rows: list[dict[str, Any]], lines: tuple[int, ...], file_id: str | None) -> list[dict[str, Any]]:
    """Return the rows of the step on these lines, each once; the first row if no line is given."""
    there = [row for row in rows if file_id in {None, row["file"]}]
    known = {row["line"]: row for row in reversed(there)}
    missing = [line for line in lines if line not in known]
    if missing or not known:
        source = f"line {missing[0]}" if missing else file_id
        raise CommandError(
            f"no row of this step is from {source}.", Exit.NOT_FOUND, "`trainyard jobs rows` lists them."
        )
    if not lines:
        return there[:1]
    files = sorted({row["file"] for row in there if row["line"] in lines})
    if len(files) > 1:
        raise CommandError(f"these lines are rows of {' and '.join(files)}.", Exit.INVALID, "Choose one with --file.")
    return [known[line] for line in dict.fromkeys(lines)]


def _weights_before(client: Client, job: dict[str, Any], step: int) -> str:
    """Return the newest checkpoint before the step, or what the job started from if there is none."""
    saved = [saved for saved in client.pages(f"jobs/{job['id']}/checkpoints") if saved["step"] < step]
    newest = max(saved, key=lambda checkpoint: checkpoint["step"], default=None)
    at = 0 if newest is None else newest["step"]
    if newest is None and not isinstance(job["spec"]["model"], str):
        raise CommandError(
            f"no checkpoint from before step {step} is kept.",
            Exit.NOT_FOUND,
            "Choose a later step, or keep more checkpoints.",
        )
    if at < step - 1:
        say(f"  with the weights of step {at}, the newest kept from before step {step}")
    return job["spec"]["model"] if newest is None else newest["id"]
