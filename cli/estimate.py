"""`trainyard estimate`: what a run of a known model on many GPUs would need."""

from typing import Any

import click

from cli.client import Client
from cli.jobs.plan import memory_of
from cli.output import Column, print_fields, size, suggest


def _span(span: dict[str, float]) -> str:
    return f"{span['low']:,.4g} to {span['high']:,.4g}"


_FIELDS: list[Column] = [
    ("model", lambda told: f"{told['model']}, {told['parameters'] / 1e9:,.1f}B weights"),
    ("trained", lambda told: f"{told['trainable_parameters']:,} weights ({told['tuning']})"),
    ("operations", lambda told: f"{told['flops']:.3g} (six for each weight and token: {told['six_nd']:.3g})"),
    ("GPU-hours", lambda told: _span(told["gpu_hours"])),
    ("days", lambda told: f"{_span(told['days'])} on {told['gpus']:,} x {told['gpu']}"),
    ("cost", lambda told: told["cost"] and _span(told["cost"])),
    ("memory of a GPU", memory_of),
    ("ZeRO stage", lambda told: told["zero_stage"]),
    ("fits", lambda told: "yes" if told["fits"] else f"no, {size(told['room_bytes'])} are free"),
    ("fits from", lambda told: f"{told['least_gpus']:,} GPUs on" if told["least_gpus"] else "no number of them"),
]


@click.command()
@click.argument("model")
@click.option("--tokens", type=float, required=True, help="That the run trains on, such as 15.6e12.")
@click.option("--tuning", default="full", help="full, lora or qlora.", show_default=True)
@click.option("--gpu", default="h100", help="a100-40gb, a100-80gb, h100 or h200.", show_default=True)
@click.option("--gpus", type=int, default=8, show_default=True)
@click.option("--max-length", type=int, default=8192, help="Tokens of a row.", show_default=True)
@click.option("--mfu", type=(float, float), default=None, help="Lowest and highest share of the GPUs' matmul rate.")
@click.option("--price", type=float, default=None, help="Of a GPU's hour.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def estimate(model: str, mfu: tuple[float, float] | None, price: float | None, as_json: bool, **asked: Any) -> None:
    """Tell what training MODEL would need: memory, operations, GPU-hours.

    MODEL is llama-2-7b, -13b or -70b, or llama-3.1-8b, -70b or -405b.
    """
    given = {"model": model, "price_per_gpu_hour": price, **asked}
    if mfu is not None:
        given |= {"mfu_low": mfu[0], "mfu_high": mfu[1]}
    wanted = {name: value for name, value in given.items() if value is not None}
    told = Client().ask("GET", "plans/estimate", params=wanted)
    print_fields(told, _FIELDS, as_json=as_json, quiet=False)
    suggest("trainyard jobs init sft > job.yaml")
