"""The models that answer: base models kept in memory, and adapters that share the weights of their base."""

import copy
from collections import OrderedDict
from collections.abc import Collection
from typing import Any

from engine.generation.generate import OWN_ATTENTION
from engine.model.adapters import load_adapter
from engine.model.forward import decoder_of
from engine.model.load import Subject, load_model, tokenizer_of
from engine.model.quantize import was_quantized
from engine.precision import Machine
from engine.rundir import RunDirectory

MOST_BASES = 2
_MOST_ADAPTERS = 16


class Weights:
    """A cache of models by last use; when a base leaves memory, its adapters do too."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._bases: OrderedDict[str, Any] = OrderedDict()
        self._adapters: OrderedDict[tuple[str, str], Subject] = OrderedDict()

    def base_of(self, run: RunDirectory, digests: dict[str, str]) -> str:
        """Return the key of the base model in a run directory, as it is kept in memory (in 4 bits or not)."""
        return f"{digests['model']} {was_quantized(run.adapter)}"

    def of(self, run: RunDirectory, digests: dict[str, str], in_use: Collection[str] = ()) -> Subject:
        """Return the model in a run directory, with its adapter if there is one, loaded unless it is in memory.

        Bases that are `in_use` are not removed to make room.

        Raises:
            SpecError: it does not load.
        """
        key = self.base_of(run, digests)
        base = self._base(key, run, in_use)
        if run.adapter is None:
            return Subject(base, tokenizer_of(run.base_model(), run.adapter), "model")
        pair = key, digests["adapter"]
        if pair not in self._adapters:
            # The modules are copied, since the adapter is put into them; their weights are the same tensors.
            shared = {id(tensor): tensor for tensor in (*base.parameters(), *base.buffers())}
            model = load_adapter(copy.deepcopy(base, shared), run.adapter)
            self._adapters[pair] = Subject(model.eval(), tokenizer_of(run.base_model(), run.adapter), "adapter")
        self._adapters.move_to_end(pair)
        while len(self._adapters) > _MOST_ADAPTERS:
            self._adapters.popitem(last=False)
        return self._adapters[pair]

    def keep(self, bases: Collection[str]) -> None:
        """Drop all other bases from memory."""
        for gone in [base for base in self._bases if base not in bases]:
            self._drop(gone)

    def _drop(self, base: str) -> None:
        del self._bases[base]
        for pair in [pair for pair in self._adapters if pair[0] == base]:
            del self._adapters[pair]

    def _base(self, key: str, run: RunDirectory, in_use: Collection[str]) -> Any:
        if key not in self._bases:
            idle = [base for base in self._bases if base not in in_use]
            for gone in idle[: len(self._bases) + 1 - MOST_BASES]:
                self._drop(gone)
            in_4bit = was_quantized(run.adapter)
            device, dtype = self.machine.device, self.machine.compute_dtype
            model = load_model(run.base_model(), device=device, dtype=dtype, in_4bit=in_4bit)
            decoder_of(model).set_attn_implementation(OWN_ATTENTION)
            self._bases[key] = model.requires_grad_(False).eval()
        self._bases.move_to_end(key)
        return self._bases[key]
