"""Plans against the outcomes of their jobs: 40 small runs of different kind, size, length, batch and tuning.

Each is planned by a dry run and created from its plan, one after the other, in a separate service. Before the first,
two base models and ten more jobs run without a plan, so that the service knows as much of its machine as after an hour
of use. Goals: steps and tokens exact, peak memory within 10% in 90% of the runs, time within 20% in 80%. The machine
must be otherwise idle.
"""

import argparse
import json
import random
import tempfile
import time
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any

from benchmarks.harness.report import emit
from benchmarks.harness.service import REPOSITORY, Service, serve

SHARES = {"steps": 1.0, "tokens": 1.0, "memory": 0.9, "time": 0.8}
"""The share of runs whose plan must hold, by figure; the service defines how near is near enough (`GET /v1/plans/accuracy`)."""
PLANNED, LEARNT = 40, 10
_EXAMPLES = REPOSITORY / "examples"
_SHAPES = {"small": (128, 2), "medium": (256, 4), "large": (384, 4)}
_ENDED = {"succeeded", "failed", "cancelled"}
_SEED = 7
Spec = dict[str, Any]


def bases(files: dict[str, str]) -> list[Spec]:
    """The base models of the others: a small and a medium one."""
    return [pretrained(files, shape, 256, 8, 40) | {"suffix": f"base-{shape}"} for shape in ("small", "medium")]


def pretrained(files: dict[str, str], shape: str, length: int, rows: int, steps: int, **changes: Any) -> Spec:
    hidden, layers = _SHAPES[shape]
    return {
        "kind": "pretrain",
        "suffix": "planned",
        "model": {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": hidden // 64},
        "tokenizer": {"vocab_size": 2048},
        "training_file": files["text"],
        "hyperparameters": hyper(length, rows, steps, **changes),
    }


def tuned(
    files: dict[str, str], kind: str, shape: str, method: str, length: int, rows: int, steps: int, **changes: Any
) -> Spec:
    tuning = {"method": method} if method == "full" else {"method": method, "r": 8, "lora_alpha": 16}
    return {
        "kind": kind,
        "suffix": "planned",
        "model": f"base-{shape}",
        "training_file": files[kind],
        "tuning": tuning,
        "hyperparameters": hyper(length, rows, steps, **changes),
    }


def hyper(length: int, rows: int, steps: int, **changes: Any) -> Spec:
    return {"max_length": length, "per_device_train_batch_size": rows, "max_steps": steps, **changes}


def specs(files: dict[str, str]) -> list[Spec]:
    """Return enough runs of each kind to learn from and to plan, in a fixed order."""
    steps = cycle([20, 60, 35, 100])
    lengths = cycle([(256, 8), (128, 16), (512, 4), (64, 8)])
    extras: cycle[Spec] = cycle(
        [{}, {"gradient_accumulation_steps": 2}, {"packing": False}, {"activation_checkpointing": "full"}]
    )
    fresh = [
        pretrained(files, shape, *next(lengths), next(steps)) for shape in (*_SHAPES, *_SHAPES, *_SHAPES, *_SHAPES)
    ]
    answers = [
        tuned(files, "sft", shape, method, *next(lengths), next(steps), **next(extras))
        for _, method, shape in product(range(4), ("full", "lora", "qlora"), ("small", "medium"))
    ]
    pairs = [
        tuned(files, "dpo", shape, method, *length, next(steps))
        for length, method, shape in product([(256, 4), (128, 8)], ("full", "lora", "qlora"), ("small", "medium"))
    ]
    more = [
        tuned(files, "pretrain", "small", "lora", 256, 8, next(steps)),
        tuned(files, "pretrain", "medium", "full", 128, 8, 30),
    ]
    chosen = [*fresh, *answers, *pairs, *more]
    random.Random(_SEED).shuffle(chosen)
    assert len(chosen) >= LEARNT + PLANNED, "there are as many as are asked for"
    return list(islice(chosen, LEARNT + PLANNED))


def upload(service: Service) -> dict[str, str]:
    """Upload the files of examples/; return their ids by the kind that trains on them."""
    text = (_EXAMPLES / "shakespeare.txt").read_bytes()
    sent = {"text": service.upload("shakespeare.txt", text, "pretrain")}
    for kind, name in (("sft", "gsm8k_train.jsonl"), ("dpo", "preferences.jsonl")):
        sent[kind] = service.upload(name, (_EXAMPLES / name).read_bytes(), "fine-tune")
    return sent | {"pretrain": sent["text"]}


def run(service: Service, body: Spec) -> dict[str, Any]:
    """Create a job and return it once it has succeeded."""
    job = service.call("POST", "/v1/jobs", json.dumps(body).encode())
    while job["status"] not in _ENDED:
        time.sleep(0.5)
        job = service.call("GET", f"/v1/jobs/{job['id']}")
    if job["status"] != "succeeded":
        raise RuntimeError(f"{job['id']} {job['status']}: {job['error']}; its spec: {json.dumps(body)}")
    return job


def run_planned(service: Service, spec: Spec) -> None:
    """Plan a job, create it from its plan, and return predicted and actual figures."""
    plan = service.call("POST", "/v1/jobs?dry_run=true", json.dumps(spec).encode())
    told = run(service, {"plan_id": plan["id"]})["plan"]
    said, was = told["predicted"], told["actual"]
    method = spec.get("tuning", {}).get("method", "full")
    given = spec["hyperparameters"]
    print(
        f"{spec['kind']:<8} {method:<5} {given['max_length']:>4} x {given['per_device_train_batch_size']:<2}"
        f"  steps {said['steps']:>4} {was['steps']:>4}  tokens {said['tokens']:>8,} {was['tokens']:>8,}"
        f"  MB {said['peak_memory_bytes'] / 1e6:>6.0f} {was['peak_memory_bytes'] / 1e6:>6.0f}"
        f"  s {said['seconds']:>6.1f} {was['seconds']:>6.1f} ({was['seconds'] / said['seconds'] - 1:+.0%})",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--planned", type=int, default=PLANNED)
    parser.add_argument("--learnt", type=int, default=LEARNT)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trainyard-plan-") as folder, serve(Path(folder) / "home", {}) as service:
        files = upload(service)
        all_specs = specs(files)
        for spec in [*bases(files), *all_specs[: given.learnt]]:
            run(service, spec)
        for spec in all_specs[LEARNT : LEARNT + given.planned]:
            run_planned(service, spec)
        accuracy = service.call("GET", "/v1/plans/accuracy")
    held = {name: accuracy[name]["share"] for name in SHARES}
    emit({
        "name": "plan",
        "ours": {name: accuracy[name] for name in SHARES},
        "peer": None,
        "ratio": min(held[name] / share for name, share in SHARES.items()),
        "goal": f"the shares of plans that held are at least {SHARES} over {PLANNED} runs",
        "holds": accuracy["time"]["jobs"] >= PLANNED and all(held[name] >= share for name, share in SHARES.items()),
    })  # fmt: skip


if __name__ == "__main__":
    main()
