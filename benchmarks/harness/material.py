"""The material of the training benchmarks: a Llama of 28M random weights with an 8k tokenizer, and real rows."""

import gzip
import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

from benchmarks.harness.service import REPOSITORY
from engine.data.tokenizer import train_tokenizer

disable_progress_bar()

ANSWERS = REPOSITORY / "examples" / "gsm8k_train.jsonl"
TEXT = REPOSITORY / "examples" / "shakespeare.txt"
_SHARED = REPOSITORY.parent / "shared" / "data"
_SEED_TASKS = _SHARED / "instruct" / "seed_tasks.jsonl.gz"
PAIRS = _SHARED / "hh_rlhf" / "harmless_base_test_first1500.jsonl.gz"
POSITIONS = 512
LORA: dict[str, Any] = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}

_VOCABULARY = 8192
SHAPE: dict[str, Any] = {
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "tie_word_embeddings": True,
    "max_position_embeddings": POSITIONS,
}
_PAIR_CHARACTERS = 2000
"""Longer pairs are left out: they may exceed the model's positions, and both sides would then cut them."""
_TASK_CHARACTERS = 4000
"""The limit for instructions: the longest one kept has 995 tokens."""


def save_base(folder: Path, shape: dict[str, Any] = SHAPE) -> Path:
    """Save a random Llama (27.8M parameters by default) and a tokenizer trained on the rows, in the Hugging Face layout."""
    texts = (part for row in _lines(ANSWERS) for part in (row["prompt"], row["completion"]))
    tokenizer = train_tokenizer([*texts, TEXT.read_text(encoding="utf-8")], _VOCABULARY)
    torch.manual_seed(0)
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape, **special)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_adapter(folder: Path, base: Path) -> Path:
    """Save a fresh LoRA adapter: drawn once, so that both sides start from the same one."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base)
    get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **LORA)).save_pretrained(str(folder))
    return folder


def conversations(rows: int) -> list[dict[str, Any]]:
    """Return questions and answers of GSM8K as chats."""
    return [_chat(row["prompt"], row["completion"]) for row in islice(_lines(ANSWERS), rows)]


def instructions(rows: int) -> list[dict[str, Any]]:
    """Return human-written instructions of many kinds and their answers as chats (Wang et al. 2022, arXiv:2212.10560).

    Raises:
        SystemExit: the data is not there; it is not part of the repository.
    """
    return _first_of(_SEED_TASKS, _instruction, rows)


def pairs(rows: int) -> list[dict[str, Any]]:
    """Return real preference pairs (Bai et al. 2022, arXiv:2204.05862): conversation, better and worse answer.

    Raises:
        SystemExit: the data is not there; it is not part of the repository.
    """
    return _first_of(PAIRS, _pair, rows)


def _first_of(path: Path, read: Callable[[dict[str, Any]], dict[str, Any] | None], rows: int) -> list[dict[str, Any]]:
    """Return that many rows of the file, skipping those that are left out."""
    if not path.exists():
        raise SystemExit(f"skipped: there is no {path}; sft, lora and qlora need none with ROWS=gsm8k")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        found = list(islice(filter(None, map(read, map(json.loads, file))), rows))
    assert len(found) == rows, f"only {len(found)} rows in {path}"
    return found


def _instruction(task: dict[str, Any]) -> dict[str, Any] | None:
    """Return the chat of a task, if it is short enough."""
    given = task["instances"][0]
    asked = f"{task['instruction']}\n\n{given['input']}".strip()
    return _chat(asked, given["output"]) if len(asked) + len(given["output"]) <= _TASK_CHARACTERS else None


def _pair(talk: dict[str, str]) -> dict[str, Any] | None:
    """Return the pair of a row, if both answers belong to the same conversation and fit."""
    (prompt, chosen), (other, rejected) = (talk[side].rsplit("\n\nAssistant:", 1) for side in ("chosen", "rejected"))
    sides = chosen.strip(), rejected.strip()
    if prompt != other or not all(sides) or len(prompt) + max(map(len, sides)) > _PAIR_CHARACTERS:
        return None
    turns = _turns(prompt)
    return {"prompt": turns, "chosen": sides[0], "rejected": sides[1]} if turns else None


def _turns(prompt: str) -> list[dict[str, str]]:
    """`\\n\\nHuman: ...\\n\\nAssistant: ...` parsed into messages that end with the user's; empty where one is missing."""
    turns: list[dict[str, str]] = []
    for part in prompt.split("\n\nHuman:")[1:]:
        asked, *answered = part.split("\n\nAssistant:")
        turns.append(_message("user", asked.strip()))
        turns += [_message("assistant", answer.strip()) for answer in answered]
    whole = all(turn["content"] for turn in turns) and bool(turns) and turns[-1]["role"] == "user"
    return turns if whole else []


def _chat(asked: str, said: str) -> dict[str, Any]:
    return {"messages": [_message("user", asked), _message("assistant", said)]}


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)
