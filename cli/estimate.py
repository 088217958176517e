"""The command `trainyard estimate`: what training a known model on many GPUs would need."""

from typing import Any

import click

from cli.client import Client
from cli.jobs.plan import memory_of
from cli.output import Column, print_fields, size, suggest

TUNINGS = ("full", "lora", "qlora")
GPUS = ("a100-40gb", "a100-80gb", "h100", "h200")


def _span(span: dict[str, float]) -> str:
    return f"{span['low']:,.4g} to {span['high']:,.4g}"


_FIELDS: list[Column] = [
    ("model", lambda row: f"{row['model']}, {row['parameters'] / 1e9:,.1f}B weights"),
    ("trained", lambda row: f"{row['trainable_parameters']:,} weights ({row['tuning']})"),
    ("operations", lambda row: f"{row['flops']:.3g} (six for each weight and token: {row['six_nd']:.3g})"),
    ("GPU-hours", lambda row: _span(row["gpu_hours"])),
    ("days", lambda row: f"{_span(row['days'])} on {row['gpus']:,} x {row['gpu']}"),
    ("cost", lambda row: row["cost"] and _span(row["cost"])),
    ("memory of a GPU", memory_of),
    ("ZeRO stage", lambda row: row["zero_stage"]),
    ("fits", lambda row: "yes" if row["fits"] else f"no, {size(row['room_bytes'])} are free"),
    ("fits from", lambda row: f"{row['least_gpus']:,} GPUs" if row["least_gpus"] else "no number of GPUs"),
]


@click.command(short_help="Memory and GPU-hours of a known model.")
@click.argument("model")
@click.option("--tokens", type=float, required=True, help="Training tokens, such as 15.6e12.")
@click.option("--tuning", type=click.Choice(TUNINGS), default="full", show_default=True, help="Tuning method.")
@click.option("--gpu", type=click.Choice(GPUS), default="h100", show_default=True, help="Kind of GPU.")
@click.option("--gpus", type=int, default=8, show_default=True, help="Number of GPUs.")
@click.option("--max-length", type=int, default=8192, show_default=True, help="Tokens in a row.")
@click.option(
    "--mfu", type=(float, float), default=None, help="Lowest and highest share of the GPUs' matmul rate to assume."
)
@click.option("--price", type=float, default=None, help="Price of one GPU-hour.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def estimate(model: str, mfu: tuple[float, float] | None, price: float | None, as_json: bool, **asked: Any) -> None:
    """Estimate what training MODEL would need: memory, operations, GPU-hours.

    MODEL is llama-2-7b, -13b or -70b, or llama-3.1-8b, -70b or -405b.
    """
    given = {"model": model, "price_per_gpu_hour": price, **asked}
    if mfu is not None:
        given |= {"mfu_low": mfu[0], "mfu_high": mfu[1]}
    wanted = {name: value for name, value in given.items() if value is not None}
    row = Client().ask("GET", "plans/estimate", params=wanted)
    print_fields(row, _FIELDS, as_json=as_json, quiet=False)
    suggest("trainyard jobs init sft > job.yaml")
