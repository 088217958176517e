"""Tiny models and run directories for the engine's tests."""

import json
import multiprocessing
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from engine import measure, process
from engine.__main__ import _to_the_end
from engine.data.chat import ChatRecipe
from engine.data.corpus import Corpus
from engine.data.cut import Cut
from engine.data.source import SourceRow
from engine.data.supply import seen_in
from engine.data.text import TextRecipe
from engine.data.tokenizer import train_tokenizer
from engine.journal import Journal
from engine.model.experts import EXPERTS
from engine.rundir import RunDirectory
from engine.session import Session
from engine.stop import StopFlag

ROOT = Path(__file__).parent.parent
measure._SECONDS = 0.01  # how fast the machine is, which nobody asks of these runs: there are hundreds
_SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
FAMILIES = ("llama", "qwen2", "mistral", "gpt2")
"""Those that adapters can be put on too."""
ALL_FAMILIES = (*FAMILIES, "mixtral")
WORDS = (
    "the",
    "a",
    "cat",
    "dog",
    "house",
    "tree",
    "sees",
    "likes",
    "finds",
    "red",
    "blue",
    "and",
    "or",
    "then",
    "here",
)


def sentence(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(words)) + "."


def text(lines: int, seed: int = 0) -> str:
    rng = random.Random(seed)
    return "".join(sentence(rng, rng.randint(4, 30)) + "\n" for _ in range(lines))


def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer([text(200), "what is plus? the answer is 0 1 2 3 4 5 6 7 8 9"], 400)


def chat_corpus(rows: list[SourceRow], fast: PreTrainedTokenizerFast, *, max_length: int, long_rows: str) -> Cut:
    return seen_in(rows, ChatRecipe(fast, max_length=max_length, long_rows=long_rows)).cut


def text_corpus(rows: list[SourceRow], fast: PreTrainedTokenizerFast, max_length: int) -> Corpus:
    return seen_in(rows, TextRecipe(fast, max_length)).cut.corpus


def model(family: str = "llama", vocab_size: int = 400, seed: int = 0, width: int = 32, layers: int = 2) -> Any:
    """A random model, weights large enough that what a token sees shows in its logits."""
    torch.manual_seed(seed)
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    if family == "gpt2":
        made: Any = GPT2LMHeadModel(
            GPT2Config(vocab_size=vocab_size, n_positions=256, n_embd=width, n_layer=layers, n_head=4, **special)
        )
    else:
        config, kind = {
            "llama": (LlamaConfig, LlamaForCausalLM),
            "qwen2": (Qwen2Config, Qwen2ForCausalLM),
            "qwen3": (Qwen3Config, Qwen3ForCausalLM),
            "mistral": (MistralConfig, MistralForCausalLM),
            "mixtral": (MixtralConfig, MixtralForCausalLM),
        }[family]
        more = {"mistral": {"sliding_window": 7}, "mixtral": {"num_local_experts": 4}}.get(family, {})
        made = kind(
            config(
                vocab_size=vocab_size, **_SHAPE | {"hidden_size": width, "num_hidden_layers": layers}, **special, **more
            )
        )
    if family == "mixtral":
        made.set_experts_implementation(EXPERTS)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(5.0)
    return made


def save_base(folder: Path, family: str = "llama", width: int = 32, layers: int = 2) -> Path:
    fast = tokenizer()
    model(family, vocab_size=len(fast), width=width, layers=layers).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def answers(rows: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [
        {"prompt": sentence(rng, rng.randint(2, 20)), "completion": sentence(rng, rng.randint(1, 8))}
        for _ in range(rows)
    ]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_job(root: Path, spec: dict[str, Any]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "job.json").write_text(json.dumps({"job_id": "job-1", "attempt": 1, "spec": spec}))
    return root


def sft_spec(**hyperparameters: Any) -> dict[str, Any]:
    given = {
        "max_length": 64,
        "per_device_train_batch_size": 2,
        "learning_rate": 0.01,
        "max_steps": 6,
        **hyperparameters,
    }
    return {
        "kind": "sft",
        "model": "tiny/1",
        "training_file": "file-1",
        "hyperparameters": given,
        "checkpoints": {"save_steps": 2, "save_total_limit": 2},
        "tuning": {"method": "lora", "r": 4},
    }


def sft_run(root: Path, rows: int = 60, spec: dict[str, Any] | None = None) -> Path:
    write_job(root, spec or sft_spec())
    write_rows(root / "data" / "train.jsonl", answers(rows))
    save_base(root / "model")
    return root


def pairs(rows: int, seed: int = 0) -> list[dict[str, Any]]:
    """Pairs whose better answer begins with another word, so that there is something to learn."""
    rng = random.Random(seed)
    return [
        {
            "prompt": sentence(rng, rng.randint(2, 12)),
            "chosen": "the " + sentence(rng, rng.randint(1, 8)),
            "rejected": "or " + sentence(rng, rng.randint(1, 8)),
        }
        for _ in range(rows)
    ]


def dpo_spec(**hyperparameters: Any) -> dict[str, Any]:
    return sft_spec(**hyperparameters) | {"kind": "dpo"}


def dpo_run(root: Path, rows: int = 60, spec: dict[str, Any] | None = None) -> Path:
    write_job(root, spec or dpo_spec())
    write_rows(root / "data" / "train.jsonl", pairs(rows))
    save_base(root / "model")
    return root


def quantized_run(root: Path, spec: dict[str, Any] | None = None) -> Path:
    """A run that tunes over a base in 4 bits, which must be 64 wide."""
    given = spec or sft_spec()
    sft_run(root, spec=given | {"tuning": {"r": 4, **given["tuning"], "method": "qlora"}})
    save_base(root / "model", width=64)
    return root


def pretrain_run(root: Path, **hyperparameters: Any) -> Path:
    given = {"max_length": 32, "per_device_train_batch_size": 4, "max_steps": 6, **hyperparameters}
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    spec = {
        "kind": "pretrain",
        "model": shape,
        "tokenizer": {"vocab_size": 320},
        "training_file": "file-1",
        "hyperparameters": given,
        "checkpoints": {"save_steps": 2, "save_total_limit": 2},
    }
    write_job(root, spec)
    (root / "data").mkdir()
    (root / "data" / "train.txt").write_text(text(200))
    return root


@contextmanager
def opened(root: Path) -> Iterator[Session]:
    """A session of a run directory in this process."""
    with closing(Journal(root / "events.jsonl")) as journal:
        yield Session.open(RunDirectory(root), journal, StopFlag())


def carry_out(root: Path) -> int:
    """Do the whole run in this process; returns the exit code."""
    return process.carry_out(root, StopFlag())


def events(root: Path, type_: str | None = None) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (root / "events.jsonl").read_text().splitlines()]
    return [event for event in found if type_ in {None, event["type"]}]


def losses(root: Path) -> dict[int, float]:
    """Loss by step; of a step that was done twice, the later one."""
    return {e["step"]: e["values"]["loss"] for e in events(root, "metrics") if e["split"] == "train"}


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """A real engine process."""
    return subprocess.Popen(
        [sys.executable, "-m", "engine", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def fork(root: Path, carry_out: Callable[[list[str]], Any] = _to_the_end) -> BaseProcess:
    """`python -m engine` on a run, forked off a process that has only loaded the libraries, which is most of what it costs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "engine.process"])
    process = context.Process(target=carry_out, args=([str(root)],), daemon=True)
    process.start()
    return process


def start_ranks(count: int, *roots: Path) -> list[subprocess.Popen[str]]:
    """Ranks that carry out several runs one after the other: importing torch is most of what a small one costs."""
    program = "import sys; from tests import runs; sys.exit(runs.carry_out_all(sys.argv[1:]))"
    shared = {"WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "DS_ACCELERATOR": "cpu"}
    return [
        subprocess.Popen(
            [sys.executable, "-c", program, *map(str, roots)],
            cwd=ROOT,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(count)
    ]


def carry_out_all(roots: list[str]) -> int:
    """The first exit code that is not 0."""
    return next(filter(None, (carry_out(Path(root)) for root in roots)), 0)
