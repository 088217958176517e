"""The models that answer: base models kept in memory, and adapters that share the weights of their base."""

import copy
import gc
from collections import OrderedDict
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from engine.chat.room import NotNow, no_room_for, unused_bytes
from engine.generation.generate import OWN_ATTENTION
from engine.model.adapters import load_adapter
from engine.model.config import stored_dtype
from engine.model.forward import decoder_of
from engine.model.load import Subject, load_model, tokenizer_of
from engine.model.quantize import was_quantized
from engine.precision import Machine
from engine.rundir import RunDirectory

MOST_BASES = 2
_MOST_SUBJECTS = 16


class Weights:
    """A cache of models by last use; when a base leaves memory, its adapters do too."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._bases: OrderedDict[str, Any] = OrderedDict()
        self._subjects: OrderedDict[tuple[str, str], Subject] = OrderedDict()
        """By base and adapter; the base by itself is there too, as its tokenizer takes long to load."""

    def base_of(self, run: RunDirectory, digests: dict[str, str]) -> str:
        """Return the key of the base model in a run directory, as it is kept in memory (in 4 bits or not)."""
        return f"{digests['model']} {was_quantized(run.adapter)}"

    def of(self, run: RunDirectory, digests: dict[str, str], in_use: Collection[str] = ()) -> Subject:
        """Return the model in a run directory, with its adapter if there is one, loaded unless it is in memory.

        Bases that are `in_use` are not removed to make room.

        Raises:
            SpecError: it does not load.
            NotNow: there is no memory for its weights beside the bases that are `in_use`.
            OutOfMemory: there is no memory for its weights, and no base is in use.
        """
        key = self.base_of(run, digests)
        base = self._base(key, run, in_use)
        place = key, "" if run.adapter is None else digests["adapter"]
        if place not in self._subjects:
            self._subjects[place] = _subject(base, run)
        self._subjects.move_to_end(place)
        while len(self._subjects) > _MOST_SUBJECTS:
            self._subjects.popitem(last=False)
        return self._subjects[place]

    def keep(self, bases: Collection[str]) -> None:
        """Drop all other bases from memory."""
        for gone in [base for base in self._bases if base not in bases]:
            self._drop(gone)

    def _drop(self, base: str) -> None:
        del self._bases[base]
        for place in [place for place in self._subjects if place[0] == base]:
            del self._subjects[place]
        gc.collect()  # weights in 4 bits and their layers hold each other

    def _base(self, key: str, run: RunDirectory, in_use: Collection[str]) -> Any:
        if key not in self._bases:
            idle = [base for base in self._bases if base not in in_use]
            for gone in idle[: len(self._bases) + 1 - MOST_BASES]:
                self._drop(gone)
            in_4bit = was_quantized(run.adapter)
            self._require_memory(run, in_use, in_4bit=in_4bit)
            device, dtype = self.machine.device, self.machine.compute_dtype
            model = load_model(run.base_model(), device=device, dtype=dtype, in_4bit=in_4bit)
            decoder_of(model).set_attn_implementation(OWN_ATTENTION)
            self._bases[key] = model.requires_grad_(False).eval()
        self._bases.move_to_end(key)
        return self._bases[key]

    def _require_memory(self, run: RunDirectory, in_use: Collection[str], *, in_4bit: bool) -> None:
        """Check that there is memory for the weights of a base; drop the bases that are not `in_use` if it takes that.

        Raises:
            NotNow, OutOfMemory: there is not.
        """
        needed = _loaded_bytes(run.base_model(), self.machine.compute_dtype, in_4bit=in_4bit)
        if needed > unused_bytes(self.machine):
            self.keep(in_use)
        free = unused_bytes(self.machine)
        if needed > free:
            raise NotNow if in_use else no_room_for(needed, free)


def _loaded_bytes(folder: Path, dtype: torch.dtype, *, in_4bit: bool) -> int:
    """Return what the weights in a folder take at least when they are loaded."""
    stored = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    weights = stored // stored_dtype(folder).itemsize
    return weights // 2 if in_4bit else weights * dtype.itemsize


def _subject(base: Any, run: RunDirectory) -> Subject:
    """Return the base with its tokenizer, or a copy of its modules with the adapter of the run directory."""
    tokenizer = tokenizer_of(run.base_model(), run.adapter)
    if run.adapter is None:
        return Subject(base, tokenizer, "model")
    # The modules are copied, since the adapter is put into them; their weights are the same tensors.
    shared = {id(tensor): tensor for tensor in (*base.parameters(), *base.buffers())}
    model = load_adapter(copy.deepcopy(base, shared), run.adapter)
    return Subject(model.eval(), tokenizer, "adapter")
