"""Models and tokenizers from folders in the Hugging Face layout: local files only, no code from them, no pickles."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer, processors
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from engine.data.corpus import Batch
from engine.errors import SpecError
from engine.model.attention import PACKED
from engine.model.experts import EXPERTS
from engine.model.forward import backbone_of, head_of, relative_gap
from engine.model.layer_offload import offload_layers
from engine.model.quantize import keep_exact, nf4, size_of
from engine.offload import LiesIn

_SELF_CHECK_TOLERANCE = 2e-3
"""Relative to the largest logit, in fp32."""


@dataclass
class Subject:
    """A model to train or score: a decoder, in PEFT's wrapper if it has an adapter, and its tokenizer."""

    model: nn.Module
    tokenizer: PreTrainedTokenizerFast
    layout: str
    """`model` or `adapter`: what is saved of it."""

    def parameters(self) -> int:
        return sum(size_of(p) for p in self.model.parameters())

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Load the tokenizer of a model's folder; its offsets cover every token, white space included.

    Raises:
        SpecError: the tokenizer does not load, or has no tokenizer.json.
    """
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if tokenizer.is_fast:
            tokenizer = _as_saved(tokenizer, folder)
    except Exception as error:  # it may have been uploaded, and tokenizers, in Rust, raises Exception itself
        raise SpecError(
            "tokenizer_not_loaded",
            f"the tokenizer in {folder.name}/ does not load: {error}",
            "Check the model's files.",
        ) from error
    if not tokenizer.is_fast:
        raise SpecError(
            "slow_tokenizer",
            f"{type(tokenizer).__name__} has no tokenizer.json",
            "Save the tokenizer in the fast format (tokenizer.json) with the model.",
        )
    _keep_offsets_of_spaces(tokenizer.backend_tokenizer.post_processor)
    return tokenizer


def _as_saved(tokenizer: Any, folder: Path) -> Any:
    """Return the tokenizer of tokenizer.json if transformers loaded another one.

    Some of its classes (Qwen2Tokenizer, which it takes for every model of Qwen, LlamaTokenizer, GPT2Tokenizer) use only
    the vocabulary and merges of tokenizer.json, and split texts by their family's own pattern. Special tokens that the
    class has by default are kept if the vocabulary has them.
    """
    path = folder / "tokenizer.json"
    if type(tokenizer) is PreTrainedTokenizerFast or not path.exists():
        return tokenizer
    if _rules(Tokenizer.from_file(str(path))) == _rules(tokenizer.backend_tokenizer):
        return tokenizer
    saved: Any = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    known = saved.get_vocab()
    for name, token in tokenizer.special_tokens_map.items():
        if isinstance(token, str) and token in known and getattr(saved, name) is None:
            setattr(saved, name, token)
    return saved


def _rules(tokenizer: Any) -> list[bytes | None]:
    """Return the serialized parts by which a tokenizer turns texts into tokens and back."""
    parts = (tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.model, tokenizer.decoder)
    return [None if part is None else part.__getstate__() for part in parts]


def _keep_offsets_of_spaces(processor: Any) -> None:
    """Turn trim_offsets off, in place: with it, tokens of spaces have empty offsets, by which answers are found.

    It is the default of tokenizers' ByteLevel post-processor (GPT-NeoX has it), and has no effect on token ids.
    """
    if isinstance(processor, processors.Sequence):
        for each in cast("list[Any]", processor):
            _keep_offsets_of_spaces(each)
    elif getattr(processor, "trim_offsets", False):
        processor.trim_offsets = False


def tokenizer_of(base: Path, adapter: Path | None) -> PreTrainedTokenizerFast:
    """Load the adapter's own tokenizer if it has one, else that of the base."""
    own = adapter is not None and (adapter / "tokenizer.json").exists()
    return load_tokenizer(adapter if own and adapter is not None else base)


def load_model(
    folder: Path,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    in_4bit: bool = False,
    layers_in: LiesIn = None,
) -> PreTrainedModel:
    """Load the decoder in `folder` with packed attention and its own dropout off; `in_4bit`: linear layers in NF4.

    `layers_in` is where the weights of its layers are kept while they are not used.

    Weights are copied out of the file mapping: it is not aligned like torch's own memory, and matmuls over
    it may round differently from those of the run that saved it.
    """
    options: dict[str, Any] = {"quantization_config": nf4(folder, dtype), "device_map": {"": device}} if in_4bit else {}
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            attn_implementation=PACKED,
            experts_implementation=EXPERTS,
            **options,
        )
    except (OSError, ValueError, KeyError) as error:
        raise SpecError(
            "model_not_loaded", f"the model in {folder.name}/ does not load: {error}", "Check the model's files."
        ) from error
    moved = {id(weight) for weight in offload_layers(model, layers_in, device)}
    for tensor in (*model.parameters(), *model.buffers()):
        if id(tensor) not in moved:
            tensor.data = tensor.data.clone()
    if in_4bit:
        keep_exact(model)
    return prepare(model, device)


def prepare(model: Any, device: torch.device) -> Any:
    """Turn off a model's own dropout, so that packed rows score like single rows, and move it to the device."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model.to(device)


def check_fit(model: Any, tokenizer: PreTrainedTokenizerFast, max_length: int) -> str | None:
    """Check model, tokenizer and max_length; returns a warning if rows are longer than the model was trained for.

    Raises:
        SpecError: the tokenizer has more tokens than the model, the model cannot take rows this long, or it
            scores packed rows differently from single rows.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    highest = max(tokenizer.get_vocab().values()) + 1
    if highest > rows:
        raise SpecError(
            "vocabulary_mismatch",
            f"the tokenizer has {highest} tokens, the model's embedding {rows} rows",
            "Use the tokenizer that belongs to the model.",
        )
    limit = getattr(model.config, "max_position_embeddings", None)
    rotary = getattr(model.config, "rope_parameters", None) is not None
    if limit is not None and max_length > limit and not rotary:
        raise SpecError(
            "max_length_too_long",
            f"max_length is {max_length}, the model has {limit} learned positions",
            f"Set max_length to {limit} or less.",
        )
    _self_check(model)
    if limit is not None and max_length > limit:
        return f"max_length {max_length} is beyond the {limit} positions that the model was made for"
    return None


@torch.no_grad()
def _self_check(model: Any) -> None:
    """Check that two packed documents score as they do singly through transformers' own attention and head."""
    device = next(model.parameters()).device
    size = model.get_input_embeddings().weight.shape[0]
    documents = [torch.arange(3, 3 + length, device=device) * 7 % size for length in (5, 9)]
    training = model.training
    model.eval()
    positions = torch.cat([torch.arange(len(d), device=device) for d in documents])
    batch = Batch(torch.cat(documents), positions, positions, positions, tuple(len(d) for d in documents), ())
    ours = head_of(model)(backbone_of(model, batch)).float()
    model.set_attn_implementation("eager")
    theirs = torch.cat([model(input_ids=d[None], use_cache=False).logits[0].float() for d in documents])
    model.set_attn_implementation(PACKED)
    model.train(training)
    if not bool(theirs.isfinite().all()):
        raise SpecError("weights_not_finite", "the model's scores are not finite numbers", "Check the model's weights.")
    gap = relative_gap(ours, theirs)
    exact = next(model.parameters()).dtype == torch.float32
    if not gap < (_SELF_CHECK_TOLERANCE if exact else 0.1):
        raise SpecError(
            "architecture_unsupported",
            f"{type(model).__name__} scores packed rows differently from rows by themselves (relative gap {gap:.2g})",
            "Use a decoder of the Llama, Mistral, Qwen or GPT-2 family.",
        )
