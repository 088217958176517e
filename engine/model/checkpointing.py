"""Activation checkpointing: what the forward pass keeps for the backward pass, and what is recomputed."""

from functools import partial
from typing import Any, Literal

import bitsandbytes  # noqa: F401 - its operators are in the list below
import torch
from torch import nn
from torch.utils.checkpoint import create_selective_checkpoint_contexts

from engine.model.forward import decoder_of

Checkpointing = Literal["none", "selective", "full"]

_MATMULS = [torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.bitsandbytes.gemm_4bit.default]
"""The products of linear layers. Those of attention are batched (bmm, baddbmm): its scores grow with length squared."""


def checkpoint_activations(model: nn.Module, how: bool | Checkpointing) -> None:
    """Set how the decoder's layers train.

    full: each layer keeps its input and is recomputed. selective: it keeps the outputs of its linear layers as well, so
    that only attention, norms and other pointwise operations are recomputed.
    """
    assert not isinstance(how, bool), "specs say it in words"
    if how == "none":
        return
    options: dict[str, Any] = {"use_reentrant": False}
    if how == "selective":
        options["context_fn"] = partial(create_selective_checkpoint_contexts, _MATMULS)
    decoder_of(model).activation_checkpointing_enable(options)
