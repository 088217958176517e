"""Measured memory of jobs against their plans, for 20 specs, each in its own process.

A plan knows only the spec and the model's config.json. Two figures are measured on a step of full rows that is not the
first:

- tensors: the peak of bytes in torch's CPU allocator, every allocation counted, as a GPU's allocator counts them:
  weights, gradients, optimizer state, activations and temporaries. This figure is compared with the goal.
- the process: the peak of resident memory, with the interpreter, the libraries and freed blocks that the C library
  keeps, against the plan's total, whose `runtime` is a constant. It is reported only.

Rows fill max_length, and nearly all of their tokens are answers, because that is what a plan assumes. Last, one of the
specs runs with 8k and with 128k tokens of vocabulary: without weights and optimizer state, both should take the same.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.harness.report import emit

GOAL = 0.10
_STEPS = 1


def spec(kind: str, method: str, **hyperparameters: Any) -> dict[str, Any]:
    return {"kind": kind, "tuning": {"method": method}, "hyperparameters": hyperparameters}


def job(rows: int, length: int, precision: str, checkpointing: str = "none", optim: str = "adamw") -> dict[str, Any]:
    return {
        "per_device_train_batch_size": rows,
        "max_length": length,
        "precision": precision,
        "activation_checkpointing": checkpointing,
        "optim": optim,
    }


SPECS = [
    spec("pretrain", "full", **job(8, 256, "bf16")),
    spec("pretrain", "full", **job(8, 256, "fp32")),
    spec("pretrain", "full", **job(2, 1024, "bf16")),
    spec("pretrain", "full", **job(4, 512, "bf16", "selective")),
    spec("pretrain", "full", **job(8, 512, "bf16", "full")),
    spec("pretrain", "full", **job(8, 256, "bf16", "full", "adamw_8bit")),
    spec("pretrain", "full", **job(32, 64, "fp32", "selective")),
    spec("pretrain", "full", **job(8, 256, "bf16"), gradient_accumulation_steps=2),
    spec("sft", "full", **job(8, 256, "bf16")),
    spec("sft", "full", **job(8, 256, "fp32", "full")),
    spec("sft", "full", **job(4, 256, "bf16", optim="adamw_8bit")),
    spec("sft", "lora", **job(8, 256, "bf16")),
    spec("sft", "lora", **job(8, 256, "fp32")),
    spec("sft", "lora", **job(8, 512, "bf16", "full")),
    spec("sft", "lora", **job(8, 256, "bf16", "selective")),
    spec("sft", "qlora", **job(8, 256, "bf16")),
    spec("sft", "qlora", **job(16, 256, "bf16", "full")),
    spec("dpo", "full", **job(4, 256, "bf16")),
    spec("dpo", "lora", **job(4, 256, "bf16")),
    spec("dpo", "qlora", **job(4, 256, "fp32")),
]
VOCABULARIES = (8_192, 131_072)
_FROZEN_HEAD = 11
"""The spec that runs with both vocabularies: LoRA, so that the head has weights but no gradients or optimizer state."""
SHAPE: dict[str, Any] = {
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
}


def write_run(root: Path, given: dict[str, Any], vocabulary: int) -> None:
    """Write a run directory with a random model and rows that fill max_length."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from engine.data.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(["the quick brown fox jumps over the lazy dog"], 300)
    config = LlamaConfig(vocab_size=vocabulary, **SHAPE, tie_word_embeddings=True)
    LlamaForCausalLM(config).save_pretrained(root / "model")
    tokenizer.save_pretrained(root / "model")
    whole = {"model": "tiny/1", "training_file": "file-1", "validation_file": None, **given}
    if given["kind"] == "pretrain":
        del whole["tuning"]
    whole["hyperparameters"] = {**given["hyperparameters"], "max_steps": _STEPS}
    (root / "job.json").write_text(json.dumps({"job_id": "job-1", "attempt": 1, "spec": whole}))
    long = "quick brown fox " * given["hyperparameters"]["max_length"]
    row = {
        "pretrain": {"text": long},
        "sft": {"prompt": "jumps", "completion": long},
        "dpo": {"prompt": "jumps", "chosen": long, "rejected": "lazy " + long},
    }[given["kind"]]
    # Texts are cut into rows, and so many of them leave none short; a row that is tuned on is a row.
    count = 400 if given["kind"] == "pretrain" else 4 * given["hyperparameters"]["per_device_train_batch_size"]
    (root / "data").mkdir()
    (root / "data" / "train.jsonl").write_text((json.dumps(row) + "\n") * count)


def measure(given: dict[str, Any], vocabulary: int) -> dict[str, float]:
    """Run one spec in this process and return planned and measured bytes."""
    import torch

    from engine.footprint import state_bytes
    from engine.journal import Journal
    from engine.rundir import RunDirectory
    from engine.session import Session
    from engine.stop import StopFlag

    with tempfile.TemporaryDirectory(prefix="trainyard-memory-") as folder:
        root = Path(folder)
        write_run(root, given, vocabulary)
        with closing(Journal(root / "events.jsonl")) as journal:
            session = Session.open(RunDirectory(root), journal, StopFlag())

            def there(training: Any) -> int:
                weights = sum(p.nbytes for p in session.subject.model.parameters())
                return weights + state_bytes(training.strategy.optimizer, torch.device("cpu"))

            plan, held, tensors = in_a_full_step(session, there)
        events = [json.loads(line) for line in (root / "events.jsonl").read_text().splitlines()]
    told = next(event for event in events if event.get("code") == "memory_measured")
    resident = told["data"]["total"]
    return {"planned": plan.tensors, "tensors": tensors, "total": plan.total, "resident": resident, "held": held}


def in_a_full_step(session: Any, there: Callable[[Any], int]) -> tuple[Any, int, int]:
    """Return a job's plan, the bytes held before a full step that is not its first, and the peak within it."""
    from benchmarks.harness.allocations import peak_of
    from engine.footprint import log_memory_plan
    from engine.loop import Training

    training = Training(session, session.spec)
    training.carry_out()
    plan = log_memory_plan(session.spec, session)
    assert plan is not None, "a Llama has a plan"
    to_a_full_step(training.stream, session.spec.hyperparameters)
    held = there(training)
    return plan, held, held + peak_of(training._step)  # noqa: SLF001 - one step of the real loop


def to_a_full_step(stream: Any, hyper: Any) -> None:
    """Advance to a full step: an epoch's rows are spread over its steps, so some hold one row less than a plan assumes."""
    whole = 0.98 * hyper.per_device_train_batch_size * hyper.max_length
    while True:
        here = stream.cursor
        if all(batch.tokens >= whole for batch in stream.next_step()):
            stream.cursor = here
            return


def in_its_own_process(number: int, vocabulary: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--spec", str(number), "--vocabulary", str(vocabulary)]
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(f"spec {number} failed: {ran.stderr[-2000:]}")
    return json.loads(ran.stdout.splitlines()[-1])


def named(given: dict[str, Any]) -> str:
    hyper = given["hyperparameters"]
    words = [given["kind"], given["tuning"]["method"], hyper["precision"], hyper["activation_checkpointing"]]
    return " ".join([*words, hyper["optim"], f"{hyper['per_device_train_batch_size']}x{hyper['max_length']}"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--spec", type=int, help="measure this one in this process")
    parser.add_argument("--vocabulary", type=int, default=4096)
    options = parser.parse_args()
    if options.spec is not None:
        print(json.dumps(measure(SPECS[options.spec], options.vocabulary)))
        return
    worst = worst_resident = 0.0
    for number, given in enumerate(SPECS):
        found = in_its_own_process(number, options.vocabulary)
        error = found["tensors"] / found["planned"] - 1
        of_process = found["resident"] / found["total"] - 1
        worst, worst_resident = max(worst, abs(error)), max(worst_resident, abs(of_process))
        mib = {name: round(value / 2**20) for name, value in found.items()}
        print(
            f"{named(given):<48} tensors {mib['tensors']:>5} of {mib['planned']:>5} MiB ({error:+.1%}), "
            f"process {mib['resident']:>5} of {mib['total']:>5} MiB ({of_process:+.1%})",
            flush=True,
        )
    passes = []
    for vocabulary in VOCABULARIES:
        found = in_its_own_process(_FROZEN_HEAD, vocabulary)
        passes.append(found["tensors"] - found["held"])
        print(f"vocabulary {vocabulary:>7}: {passes[-1] / 2**20:.0f} MiB beside weights and optimizer", flush=True)
    emit(
        {
            "name": "memory",
            "ours": {
                "worst_error_of_tensors": round(worst, 4),
                "worst_error_of_process": round(worst_resident, 4),
                "passes_at_128k_over_8k": round(passes[1] / passes[0], 4),
            },
            "peer": None,
            "ratio": worst,
            "goal": f"tensors within {GOAL:.0%} of the plan for {len(SPECS)} specs; passes at 128k within 10% of 8k",
            "holds": worst <= GOAL and passes[1] <= (1 + GOAL) * passes[0],
        }
    )


if __name__ == "__main__":
    main()
