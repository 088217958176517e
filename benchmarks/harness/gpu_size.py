"""The sizes of the GPU benchmarks: a Llama of about 1B random weights, or with --small a toy on the CPU."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.harness import material

_ONE_BILLION: dict[str, Any] = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "tie_word_embeddings": True,
    "max_position_embeddings": 4096,
}
_TOY = _ONE_BILLION | {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
}


@dataclass(frozen=True)
class Scale:
    """The size of a benchmark; `rest` are the arguments that the race parses itself."""

    small: bool
    rest: list[str]

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        return "cpu" if self.small else "cuda"

    @property
    def shape(self) -> dict[str, Any]:
        return _TOY if self.small else _ONE_BILLION

    def save_base(self, folder: Path) -> Path:
        return material.save_base(folder, self.shape)


def read() -> Scale:
    """Read the size from the command line.

    Raises:
        SystemExit: there is no GPU and --small is not given.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true", help="toy size on the CPU: tests the script, measures nothing")
    options, rest = parser.parse_known_args()
    if not options.small and not torch.cuda.is_available():
        parser.error("there is no GPU here; --small runs the script at toy size")
    return Scale(options.small, ["--rounds", "1", "--steps", "3", *rest] if options.small else rest)
