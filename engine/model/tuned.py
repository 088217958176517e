"""The model that a tuning job trains: all weights, or an adapter over a frozen base, in full or in 4 bits."""

from pathlib import Path
from typing import Any, NamedTuple

from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from engine.data.chat import ensure_chat_template
from engine.journal import Journal
from engine.model.adapters import load_adapter, new_adapter, shape_of
from engine.model.config import config_of
from engine.model.experts import refuse_adapter
from engine.model.layer_offload import offload_layers
from engine.model.load import Subject, check_fit, load_model, load_tokenizer
from engine.model.merged import merged_model
from engine.model.quantize import linear_layers, was_quantized
from engine.offload import LiesIn, place_of
from engine.parts import AdapterTuning, FullTuning, Hyperparameters, QloraTuning
from engine.precision import Machine
from engine.rundir import RunDirectory

_MOST_LAYERS_LISTED = 20


class Start(NamedTuple):
    """The start of a tuning job: the model that it tunes, and how."""

    run: RunDirectory
    journal: Journal
    tuning: FullTuning | AdapterTuning
    base_name: str
    hyper: Hyperparameters
    chat: bool = True
    """Whether the rows need a chat template."""

    def layers_in(self, machine: Machine) -> LiesIn:
        """Return where the layers' weights are kept."""
        return place_of(self.hyper.offload_param, self.run.root, machine.device)

    def load(self, folder: Path | None, machine: Machine) -> Subject:
        """Load the starting weights, or those of `folder`, a checkpoint or an export of this job."""
        run, tuning = self.run, self.tuning
        tokenizer = self.tokenizer(folder)
        if not isinstance(tuning, AdapterTuning):
            return Subject(self._whole(folder, machine, tokenizer), tokenizer, "model")
        refuse_adapter(config_of(run.base_model()))
        # A frozen base needs no master weights: it is loaded in the compute type, or in 4 bits.
        model = load_model(
            run.base_model(),
            device=machine.device,
            dtype=machine.compute_dtype,
            in_4bit=isinstance(tuning, QloraTuning),
            layers_in=self.layers_in(machine),
        )
        if folder is not None:
            return Subject(load_adapter(model, folder, tuning=tuning), tokenizer, "adapter")
        self._check(model, tokenizer)
        if isinstance(tuning, QloraTuning):
            self._warn_of_whole_layers(model)
        if run.adapter is None:
            return Subject(new_adapter(model, tuning, self.base_name), tokenizer, "adapter")
        wrapped = load_adapter(model, run.adapter, tuning=tuning)
        self._log_adapter(wrapped)
        return Subject(wrapped, tokenizer, "adapter")

    def tokenizer(self, folder: Path | None = None) -> PreTrainedTokenizerFast:
        """Return the tokenizer of the weights, with a chat template if the rows need one."""
        tokenizer = load_tokenizer(self._tokenizer_folder(folder))
        if self.chat and ensure_chat_template(tokenizer):
            self.journal.log("warn", "chat_template_added", "the model has no chat template; a plain one was added")
        return tokenizer

    def config(self) -> dict[str, Any]:
        """Return the base's config.json."""
        config = config_of(self.run.base_model())
        if isinstance(self.tuning, AdapterTuning):
            refuse_adapter(config)
        return config.to_dict()

    def _whole(self, folder: Path | None, machine: Machine, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
        """Load the model for full tuning; an adapter that the job starts from is merged into its base."""
        adapter = self.run.adapter
        if folder is not None:
            return load_model(folder, device=machine.device, layers_in=self.layers_in(machine))
        base = self.run.base_model()
        if adapter is None:
            model = load_model(base, device=machine.device, layers_in=self.layers_in(machine))
        else:
            model = merged_model(base, adapter, machine, dequantized=was_quantized(adapter))
            offload_layers(model, self.layers_in(machine), machine.device)
        self._check(model, tokenizer)
        model.requires_grad_(True)
        return model

    def _warn_of_whole_layers(self, model: PreTrainedModel) -> None:
        layers = linear_layers(model)
        whole = [name for name, in_4bit in layers.items() if not in_4bit]
        if whole:
            message = (
                f"{len(whole)} of {len(layers)} linear layers are not in 4 bits: their inputs are not a multiple of 64"
            )
            listed = whole[:_MOST_LAYERS_LISTED]
            self.journal.log("warn", "not_in_4_bits", message, count=len(whole), layers=listed)

    def _log_adapter(self, wrapped: PeftModel) -> None:
        shape = shape_of(wrapped)
        numbers = ", ".join(f"{name} {value}" for name, value in shape.items() if isinstance(value, int | float))
        self.journal.log("info", "adapter_taken", f"the job continues an adapter, with its shape: {numbers}", **shape)
        in_4bit = isinstance(self.tuning, QloraTuning)
        if was_quantized(self.run.adapter) == in_4bit:
            return
        was, now = ("16 bits or more", "4 bits") if in_4bit else ("4 bits", "16 bits or more")
        self.journal.log(
            "warn", "base_differs", f"the adapter was trained over a base in {was}, and continues over one in {now}"
        )

    def _tokenizer_folder(self, folder: Path | None) -> Path:
        adapter = self.run.adapter
        if folder is not None:
            return folder
        if adapter is not None and (adapter / "tokenizer.json").exists():
            return adapter
        return self.run.base_model()

    def _check(self, model: nn.Module, tokenizer: PreTrainedTokenizerFast) -> None:
        warning = check_fit(model, tokenizer, self.hyper.max_length)
        if warning:
            self.journal.log("warn", "beyond_positions", warning)
