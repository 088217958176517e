"""The forward pass over a packed batch: the backbone on every token, the head on labelled ones."""

from typing import Any

import torch
from peft.utils.other import ModulesToSaveWrapper
from torch import Tensor, nn

from engine import shape_rounding
from engine.batch_loss import BatchLoss, RowShares
from engine.data.corpus import Batch
from engine.model import experts, llama
from engine.model.anatomy import backbone_in
from engine.model.context import context_of
from engine.model.llama import compute_dtype
from engine.model.loss import summed_cross_entropy


def decoder_of(model: nn.Module) -> Any:
    """Return the transformers model, whether or not PEFT wraps it (its adapter layers stay in place)."""
    inner: Any = model
    return inner.get_base_model() if hasattr(inner, "get_base_model") else inner


def head_of(model: nn.Module) -> nn.Module:
    """Return the head in force: the trained copy where PEFT trains it whole (modules_to_save) and the adapter is on."""
    head = decoder_of(model).get_output_embeddings()
    if not isinstance(head, ModulesToSaveWrapper):
        return head
    return head.original_module if head.disable_adapters else head.modules_to_save[head.active_adapters[0]]


def relative_gap(found_TV: Tensor, expected_TV: Tensor) -> float:
    """Return the largest difference between two sets of logits, relative to the largest logit that is expected."""
    return float((found_TV - expected_TV).abs().max() / expected_TV.abs().max().clamp_min(1e-6))


def head_width_of(model: nn.Module) -> int:
    """Return the width of an attention head."""
    config = decoder_of(model).config
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def backbone_of(model: nn.Module, batch: Batch) -> Tensor:
    """Return the hidden states [T, D] of this rank's tokens after the last norm."""
    return _backbone_output(model, batch).last_hidden_state[0]


def _backbone_output(model: nn.Module, batch: Batch, **options: Any) -> Any:
    """Return the output of transformers' own modules for a batch."""
    decoder = decoder_of(model)
    context = context_of(decoder)
    return backbone_in(decoder)(
        input_ids=context.own(batch.ids_T)[None],
        position_ids=context.own(batch.positions_T)[None],
        segments=batch.segments,
        prefixes=batch.prefixes,
        context=context,
        use_cache=False,
        **options,
    )


def labelled_states(model: nn.Module, batch: Batch) -> Tensor:
    """Return the hidden states [N, D] after the last norm of this rank's tokens that labels are predicted from."""
    decoder, filled = decoder_of(model), _filled(model, batch)
    if llama.takes(decoder):
        return llama.labelled_states(decoder, filled)
    return backbone_of(model, filled).index_select(0, context_of(decoder).places(filled))


def _filled(model: nn.Module, batch: Batch) -> Batch:
    step = shape_rounding.step_of(batch.ids_T.device.type, compute_dtype(decoder_of(model)).itemsize)
    return batch.filled(shape_rounding.rows(batch.tokens, step))


def token_score(model: nn.Module, batch: Batch) -> BatchLoss:
    """Return the summed -log p of a batch's labels, with the loss of each; in training, experts are kept in balance."""
    config = decoder_of(model).config
    if not (model.training and experts.in_config(config) > 1):
        return _scored(model, labelled_states(model, batch), batch)
    output = _backbone_output(model, _filled(model, batch), output_router_logits=True)
    scored = _scored(model, output.last_hidden_state[0].index_select(0, batch.labelled_N), batch)
    return experts.balanced(scored, output.router_logits, batch, config)


def _scored(model: nn.Module, hidden_ND: Tensor, batch: Batch) -> BatchLoss:
    """Return the loss from the hidden states of this rank's labels."""
    context = context_of(decoder_of(model))
    labels = context.labels(batch)
    losses_N = torch.empty(len(hidden_ND), device=hidden_ND.device)
    total = summed_cross_entropy(hidden_ND, head_of(model), batch.labels_N[labels], losses_N)
    losses_N = context.all_labels(losses_N, labels, batch.count)
    shares = RowShares(batch.lines, batch.label_counts, losses_N, batch.files)
    return BatchLoss(context.total(total, losses_N), batch.count, {}, shares)
