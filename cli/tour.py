"""The steps of the demo once the service runs, all over HTTP, and its final table."""

import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import click

from cli.artifacts import pull_artifact
from cli.check import check as check_rows
from cli.check import fault_line
from cli.client import Client
from cli.errors import CommandError, Exit
from cli.files import upload_file
from cli.jobs.follow import follow, report_end
from cli.jobs.spec import load_spec, override, upload_paths
from cli.output import duration, print_rows, say
from cli.picture import Panel, Points, draw

_SHOWN_FAULTS = 6


class Step(NamedTuple):
    """A job of the demo: its final object and its losses by step."""

    title: str
    job: dict[str, Any]
    train: Points
    held_out: Points

    @property
    def result(self) -> dict[str, Any]:
        return (self.job.get("result") or {}).get("metrics") or {}

    @property
    def took_s(self) -> float:
        return self.job["finished_at"] - self.job["started_at"]


def tour(client: Client, examples: Path, output: Path, started: float) -> None:
    """Upload a broken file, pretrain, tune, evaluate, pull, and print a summary; `started` is the monotonic time.

    Raises:
        CommandError: a job did not succeed.
    """
    _heading("1", "A broken file is refused, with line and column")
    _show_refusal(client, examples / "broken.jsonl")
    _heading("2", "A small language model from scratch, on Shakespeare")
    base = _run(client, "pretrain", examples / "pretrain.yaml")
    _heading("3", "A LoRA adapter on it, from GSM8K questions and answers")
    tuned = _run(client, "sft, LoRA", examples / "sft.yaml")
    _heading("4", "Base and adapter on 200 questions that neither has seen")
    base_eval = _run(client, "eval, base", examples / "eval.yaml", f"model={_made(base)}")
    tuned_eval = _run(client, "eval, adapter", examples / "eval.yaml", f"model={_made(tuned)}")
    _heading("5", f"Pulling the adapter to {output} and the base to {output / 'base'}")
    _pull(client, base, tuned, output)
    curve = output / "curve.svg"
    curve.write_text(draw([Panel(step.title, step.train, step.held_out) for step in (base, tuned)]), encoding="utf-8")
    say(f"both curves are drawn in {curve}")
    _heading("", f"Done in {duration(time.monotonic() - started)}")
    _summary([base, tuned, base_eval, tuned_eval])
    _comparison(base_eval, tuned_eval)
    say(f"\n  next: {_python()} {_shown(examples / 'load_adapter.py')} {output}    # plain transformers + PEFT")
    say("        trainyard up                                 # then your own data:")
    say("        trainyard files upload my.jsonl && trainyard jobs init sft > job.yaml")


def _heading(number: str, text: str) -> None:
    say("")
    say(f"{number}  {text}" if number else text, bold=True)


def _show_refusal(client: Client, path: Path) -> None:
    """Show the verdict of the local check, and that of the service, which is the same."""
    report = check_rows(path, "fine-tune")
    for fault in report.faults[:_SHOWN_FAULTS]:
        say(f"  {fault_line(path.name, fault)}")
    say(f"  ... {report.fault_count} faults in all; {report.row_count} rows are good")
    try:
        upload_file(client, path, "fine-tune")
    except CommandError as refusal:
        if refusal.code is not Exit.INVALID:
            raise
        say(f"  the service answers: {refusal.message.splitlines()[0]}")
        return
    raise CommandError(f"The service accepted {path}.")


def _run(client: Client, title: str, path: Path, *assignments: str) -> Step:
    """Submit the job of a spec file and follow it to its end."""
    spec, folder = load_spec(str(path))
    override(spec, assignments)
    upload_paths(client, spec, folder)
    job = client.post("jobs", spec)
    say(f"{job['id']}  {title}")
    try:
        job = follow(client, job["id"])
    except CommandError as error:
        if error.code is Exit.INTERRUPTED:
            raise click.Abort from None  # the service ends with the demo, so there will be nothing to attach to
        raise
    code = report_end(job, further=False)
    if code is not Exit.OK:
        raise CommandError(f"{title} {job['status']}.", code)
    return Step(
        title, job, _series(client, job["id"], "train", "loss"), _series(client, job["id"], "eval", "eval_loss")
    )


def _series(client: Client, job_id: str, split: str, name: str) -> Points:
    rows = client.pages(f"jobs/{job_id}/metrics", split=split)
    return [(row["step"], row["values"][name]) for row in rows if row["values"].get(name) is not None]


def _made(step: Step) -> str:
    made = step.job["artifacts"][-1]
    return f"{made['name']}/{made['version']}"


def _pull(client: Client, base: Step, tuned: Step, output: Path) -> None:
    pull_artifact(client, "adapter", _made(tuned), output)
    pull_artifact(client, "model", _made(base), output / "base")


def _summary(steps: list[Step]) -> None:
    print_rows(
        [{"id": step.job["id"], "step": step} for step in steps],
        [
            ("what", lambda row: row["step"].title),
            ("steps", lambda row: row["step"].job["total_steps"] or ""),
            ("first loss", lambda row: _loss(row["step"].train[0][1]) if row["step"].train else ""),
            ("last loss", lambda row: _loss(row["step"].train[-1][1]) if row["step"].train else ""),
            ("held out", lambda row: _loss(row["step"].result.get("eval_loss"))),
            ("made", lambda row: _made(row["step"]) if row["step"].job["artifacts"] else ""),
            ("time", lambda row: duration(row["step"].took_s)),
        ],
        as_json=False,
        quiet=False,
    )


def _loss(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _comparison(base_eval: Step, tuned_eval: Step) -> None:
    before, after = base_eval.result["eval_loss"], tuned_eval.result["eval_loss"]
    say(f"Held-out loss {before:.3f} -> {after:.3f}: the adapter's is {1 - after / before:.0%} lower than its base's.")


def _python() -> str:
    """Return how to call this Python from the current directory."""
    return _shown(Path(sys.executable))


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
