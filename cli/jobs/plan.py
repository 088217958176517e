"""How the plan of a job is shown, most asked-for figures first."""

from typing import Any

from cli.client import Client
from cli.output import Column, duration, print_fields, size, suggest

_COUNTED_STEPS = 20_000
"""How many steps of a training job the service counts for its plan."""


def _count(number: float | None) -> str:
    return "" if number is None else f"{number:,.0f}"


def _flops(per_weight_and_token: str) -> Any:
    """Show the operations beside the usual estimate of so many operations per weight and token."""

    def read(plan: dict[str, Any]) -> str:
        flops = plan["flops"]
        return (
            f"{flops['training']:.3g} ({per_weight_and_token} for each weight and token: {flops['six_nd']:.3g})"
            if flops
            else ""
        )

    return read


def _counted(roughly: str) -> Any:
    return lambda plan: None if plan["exact"] else roughly


def _processes(plan: dict[str, Any]) -> str | None:
    """Show how several processes divide a job; nothing for one process."""
    if plan["ranks"] == 1:
        return None
    return f"{plan['ranks']}, zero_stage {plan['zero_stage'] or 0}; memory is that of each"


def memory_of(plan: dict[str, Any]) -> str:
    """Show the total, then its parts."""
    memory = plan["memory"]
    if memory is None:
        return ""
    parts = ", ".join(f"{name} {size(part)}" for name, part in memory.items() if part and name != "total")
    return f"{size(memory['total'])}: {parts}"


def _on_disk(plan: dict[str, Any]) -> str | None:
    """Show the bytes on disk; plans made by older releases have no such field."""
    return size(plan["on_disk_bytes"]) if plan.get("on_disk_bytes") else None


def _fits(plan: dict[str, Any]) -> str:
    if plan["fits"] is None:
        return ""
    room = f"{size(plan['room_bytes'])} are free"
    if plan["fits"]:
        return f"yes, {room}"
    elsewhere = [place for place in plan.get("short_of") or [] if place != "device"]
    if elsewhere:
        room += f", with too little {' and '.join(elsewhere)} for what is offloaded"
    mend = plan["mend"]
    if mend is None:
        return f"no, {room}, and no combination of three changes would be enough"
    edits = ", ".join(f"{edit['path']}={edit['value']}" for edit in mend["edits"])
    return f"no, {room}; with {edits} it needs {size(mend['total_bytes'])}"


def _time(plan: dict[str, Any]) -> str:
    eta = plan["eta"]
    if eta is None:
        return ""
    basis = (
        f"from {eta['runs']} runs that have ended here"
        if eta["runs"]
        else "from the matmul rate: no run has ended here"
    )
    return f"{duration(eta['expected_s'])} ({duration(eta['low_s'])} to {duration(eta['high_s'])}, {basis})"


def _cost(plan: dict[str, Any]) -> str:
    cost = plan["cost"]
    return f"{cost['expected']:.2f} {cost['currency']} ({cost['low']:.2f} to {cost['high']:.2f})" if cost else ""


def _lost(name: str) -> Any:
    return lambda plan: sum(file[name] for file in plan["files"]) or None


def _estimated(plan: dict[str, Any]) -> str | None:
    """Show why the figures of a training plan are not exact."""
    if plan["exact"]:
        return None
    asked = plan["spec"]
    long = plan["steps"] > _COUNTED_STEPS
    causes = [f"the first {_COUNTED_STEPS:,} steps; the rest is assumed to be like them" if long else "all steps"]
    if asked["checkpoints"]["early_stopping_patience"] is not None and plan["validation_rows"]:
        causes.append("early stopping may end it earlier")
    if asked["resources"]["max_minutes"] is not None:
        causes.append("max_minutes may end it earlier")
    return "; ".join(causes)


_BEGIN: list[Column] = [
    ("plan", lambda plan: plan["id"]),
    ("kind", lambda plan: plan["kind"]),
    ("steps", lambda plan: _count(plan["steps"])),
    ("tokens", lambda plan: _count(plan["tokens"])),
]
_ROWS: list[Column] = [
    ("packing", lambda plan: f"{plan['packing_efficiency']:.0%} of the rows' length is filled"),
    ("rows", lambda plan: _count(sum(file["rows"] for file in plan["files"]))),
]
_LEFT_OUT: list[Column] = [
    ("cut", _lost("truncated")),
    ("left out, too long", _lost("dropped")),
    ("left out, nothing to train", _lost("no_trained_token")),
    ("weights", lambda plan: _count(plan["parameters"])),
]
_NEEDS: list[Column] = [("memory", memory_of), ("on disk", _on_disk), ("fits", _fits)]
_END: list[Column] = [
    ("time", _time),
    ("cost", _cost),
    ("CO2e", lambda plan: f"{plan['co2e_g']:.0f} g" if plan["co2e_g"] is not None else ""),
    ("not planned", lambda plan: plan["unplanned"]),
]
_TRAINING: list[Column] = [
    *_BEGIN,
    ("trained tokens", lambda plan: _count(plan["trained_tokens"])),
    ("counted", _estimated),
    *_ROWS,
    ("held out", lambda plan: plan["validation_rows"]),
    *_LEFT_OUT,
    ("of them trained", lambda plan: _count(plan["trainable_parameters"])),
    ("processes", _processes),
    *_NEEDS,
    ("operations", _flops("six")),
    *_END,
]
_EVALUATION: list[Column] = [
    *_BEGIN,
    ("scored or written tokens", lambda plan: _count(plan["trained_tokens"])),
    ("counted", _counted("the prompts; answers are assumed to have the maximum length")),
    *_ROWS,
    *_LEFT_OUT,
    *_NEEDS,
    ("operations", _flops("two")),
    *_END,
]


def planned(job: dict[str, Any]) -> str:
    """Show the figures of a job's plan and, once it has ended, the actual ones."""
    plan = job.get("plan")
    if not plan:
        return ""
    predicted, actual = plan["predicted"], plan["actual"]
    most = "" if plan["exact"] or job["kind"] != "eval" else "at most "
    shown = [
        f"{predicted['steps']:,} steps, {most}{predicted['tokens']:,} tokens",
        size(predicted["peak_memory_bytes"] or 0),
        duration(predicted["seconds"]),
    ]
    if actual is None:
        return f"{', '.join(shown)} ({plan['id']})"
    measured = [
        f"{actual['steps']:,} steps, {actual['tokens']:,} tokens",
        size(actual["peak_memory_bytes"]),
        duration(actual["seconds"]),
    ]
    return f"{', '.join(shown)}; actual: {', '.join(measured)} ({plan['id']})"


def show_plan(client: Client, spec: dict[str, Any], *, as_json: bool, quiet: bool) -> None:
    """Have a job planned by the service, and show the plan."""
    plan = client.ask("POST", "jobs", params={"dry_run": "true"}, json=spec, timeout=None)
    print_fields(plan, _EVALUATION if plan["kind"] == "eval" else _TRAINING, as_json=as_json, quiet=quiet)
    suggest(f"trainyard jobs create --plan {plan['id']} --follow", "exactly this job: the same rows, tokens and steps")
