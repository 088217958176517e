"""Pre-training: the loss of the next token in every text."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from engine.data.rows import Rows
from engine.data.text import TextRecipe
from engine.data.tokenizer import new_tokenizer
from engine.data.training import TrainingFiles
from engine.journal import Journal
from engine.kinds.pretrain.spec import Architecture, PretrainSpec
from engine.model.attention import PACKED
from engine.model.experts import EXPERTS
from engine.model.layer_offload import offload_layers
from engine.model.load import Subject, prepare
from engine.model.tuned import Start
from engine.next_token import NextToken
from engine.precision import Machine
from engine.rundir import RunDirectory

_SPECIAL_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


class PretrainObjective(NextToken):
    """Trains a new model with a tokenizer of its own, or continues an existing model."""

    def __init__(self, run: RunDirectory, spec: PretrainSpec, journal: Journal) -> None:
        self.run, self.spec, self.journal = run, spec, journal
        self.files = TrainingFiles.find(run, spec, spec.validation_file, journal)
        self.start = Start(run, journal, spec.tuning, str(spec.model), spec.hyperparameters, chat=False)

    def load(self, folder: Path | None, machine: Machine) -> Subject:
        spec = self.spec
        if folder is None and not isinstance(spec.model, str):
            tokenizer = self.tokenizer()
            self.journal.log("info", "tokenizer_trained", f"trained a tokenizer of {len(tokenizer)} tokens")
            model = new_model(spec.model, tokenizer, max_length=spec.hyperparameters.max_length, device=machine.device)
            offload_layers(model, self.start.layers_in(machine), machine.device)
            return Subject(model, tokenizer, "model")
        return self.start.load(folder, machine)

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Return an existing model's tokenizer; a new model's is trained on the training texts."""
        if isinstance(self.spec.model, str):
            return self.start.tokenizer()
        texts = (str(row.row) for row in self.files.sample())
        return new_tokenizer(self.spec.tokenizer.type, texts, self.spec.tokenizer.vocab_size)

    def config(self, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
        spec = self.spec
        if isinstance(spec.model, str):
            return self.start.config()
        return new_config(spec.model, tokenizer, max_length=spec.hyperparameters.max_length).to_dict()

    def documents(self, tokenizer: PreTrainedTokenizerFast) -> Rows:
        return self.files.rows(TextRecipe(tokenizer, self.spec.hyperparameters.max_length), self.journal)


def new_model(
    architecture: Architecture, tokenizer: PreTrainedTokenizerFast, *, max_length: int, device: torch.device
) -> PreTrainedModel:
    """Make a Llama or a Mixtral with random weights from torch's seeded generator."""
    config = new_config(architecture, tokenizer, max_length=max_length)
    config._attn_implementation = PACKED  # noqa: SLF001 - transformers' own name for it; there is no public setter
    if isinstance(config, LlamaConfig):
        return prepare(LlamaForCausalLM(config), device)
    config._experts_implementation = EXPERTS  # noqa: SLF001 - as above
    return prepare(MixtralForCausalLM(config), device)


def new_config(
    architecture: Architecture, tokenizer: PreTrainedTokenizerFast, *, max_length: int
) -> LlamaConfig | MixtralConfig:
    special: dict[str, Any] = {name: getattr(tokenizer, name) for name in _SPECIAL_IDS}
    sizes: dict[str, Any] = {"vocab_size": len(tokenizer), "max_position_embeddings": max_length}
    config = LlamaConfig if architecture.experts == 1 else MixtralConfig
    return config(**architecture.config(), **sizes, **special)
