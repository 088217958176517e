"""Decoders of the Llama family by hand on the CPU: the mathematics of transformers' modules in far fewer passes.

A layer is one autograd function: its linear layers in the compute type, everything between them in one pass each
(`kernels`), the residual stream in fp32. Behind its attention, the last layer computes labelled tokens only.
Shapes: T tokens, N of them labelled, D hidden.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM

from engine import shape_rounding
from engine.data.corpus import Batch
from engine.model.attention import Row, attend, attend_back
from engine.model.context import context_of
from engine.model.documents import documents_of
from engine.model.fused_linear import FusedLinear, Linear
from engine.model.kernels import Kernels, compute_in, kernels, missing
from engine.model.layer_offload import offloaded_layers_of
from engine.model.links import Link

_FAMILY = (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM)


class _Layer(NamedTuple):
    """The parts of a decoder layer; `tokens` are those that are computed behind its attention, None for all."""

    kernels: Kernels
    norms: tuple[Any, Any]
    qkv: FusedLinear
    out: FusedLinear
    gate_up: FusedLinear
    down: FusedLinear
    heads: tuple[int, int, int]
    row: Row
    turn: tuple[Tensor, Tensor]
    dtype: torch.dtype
    tokens: Tensor | None

    def tensors(self) -> list[Tensor]:
        """Return the tensors that may learn, in the order in which `_Apply` returns their gradients."""
        linears = (self.qkv, self.out, self.gate_up, self.down)
        return [*(norm.weight for norm in self.norms), *(tensor for linear in linears for tensor in linear.tensors())]


def knows(decoder: Any) -> bool:
    """Return whether this module covers the decoder's architecture and device."""
    return type(decoder) in _FAMILY and decoder.config.hidden_act == "silu" and decoder.device.type == "cpu"


def takes(decoder: nn.Module) -> bool:
    """Return whether the whole decoder, in its present state, is computed by hand."""
    model: Any = decoder
    if not knows(model) or missing() or not compute_in(compute_dtype(model)) or not context_of(model).alone:
        return False
    if model.model.gradient_checkpointing and torch.is_grad_enabled():
        return False
    return all(layer.by_hand if isinstance(layer, Link) else by_hand(layer) for layer in model.model.layers)


def by_hand(layer: Any) -> bool:
    """Return whether all linear layers of a decoder layer can be computed by hand."""
    return all(Linear.of(module) for module in _linear_modules(layer))


def compute_dtype(decoder: Any) -> torch.dtype:
    """Return the type that the decoder's linear layers multiply in."""
    weight = decoder.get_input_embeddings().weight
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def _linear_modules(layer: Any) -> list[nn.Module]:
    attention, mlp = layer.self_attn, layer.mlp
    return [
        *(attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj),
        *(mlp.gate_proj, mlp.up_proj, mlp.down_proj),
    ]


def labelled_states(decoder: Any, batch: Batch) -> Tensor:
    """Return the hidden states [N, D] of the labelled tokens after the last norm."""
    model = decoder.model
    dtype = compute_dtype(decoder)
    x = model.embed_tokens(batch.ids_T).float()
    cosine, sine = model.rotary_emb(x, position_ids=batch.positions_T[None])
    turn = (cosine[0].contiguous(), sine[0].contiguous())
    whole = documents_of(batch.segments, batch.prefixes)
    asked, labelled = whole, None
    if not batch.all_labelled:
        asked, labelled = documents_of(batch.segments, batch.prefixes, batch.first_labelled), batch.labelled_N
        # Padded with a token that is computed anyway: rows that are not requested are not even zero.
        wanted = shape_rounding.rows(len(labelled), shape_rounding.step_of("cpu", dtype.itemsize))
        labelled = torch.cat([labelled, labelled[-1:].expand(wanted - len(labelled))])
    last, offloaded = len(model.layers) - 1, offloaded_layers_of(decoder)
    with torch.autocast("cpu", enabled=False):
        for index, module in enumerate(model.layers):
            if isinstance(module, Link):
                x = module(x)
                continue
            x = x if offloaded is None else offloaded.enter(index, x)
            documents, tokens = (asked, labelled) if index == last else (whole, None)
            layer = _layer(module, documents, turn, tokens, dtype, keeps=offloaded is None)
            x = _Apply.apply(x, layer, *layer.tensors())
        return model.norm(x[: batch.count])


def _layer(
    module: Any, documents: Any, turn: tuple[Tensor, Tensor], tokens: Tensor | None, dtype: torch.dtype, *, keeps: bool
) -> _Layer:
    q, k, v, out, gate, up, down = (Linear.of(linear) for linear in _linear_modules(module))
    attention = module.self_attn
    width = attention.head_dim
    window = getattr(attention, "sliding_window", getattr(attention.config, "sliding_window", None))
    groups = [[linear for linear in group if linear] for group in ((q, k, v), (out,), (gate, up), (down,))]
    fused = [FusedLinear(group, dtype, keeps=keeps) for group in groups]
    return _Layer(
        kernels(),
        (module.input_layernorm, module.post_attention_layernorm),
        *fused,
        heads=(attention.q_proj.out_features // width, attention.k_proj.out_features // width, width),
        row=Row(documents, attention.scaling, window),
        turn=turn,
        dtype=dtype,
        tokens=tokens,
    )


class _Apply(torch.autograd.Function):
    """A decoder layer: x [T, D] to its output, [T, D] or [N, D]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: _Layer, *_: Tensor) -> Tensor:
        run, (before, after), tokens = layer.kernels, layer.norms, layer.tokens
        normed, scale = run.norm(x, None, before.weight.float(), before.variance_epsilon, layer.dtype)[1:]
        qkv, low_qkv = layer.qkv.forward(normed)
        q, k, v = run.rotary(qkv, layer.heads, layer.turn)
        seen, kept = attend(q, k, v, layer.row, keeps=any(ctx.needs_input_grad))
        mixed, residual = seen.transpose(0, 1).flatten(1), x
        if tokens is not None:
            mixed, residual = mixed.index_select(0, tokens), x.index_select(0, tokens)
        out, low_out = layer.out.forward(mixed)
        middle, middle_normed, middle_scale = run.norm(
            residual, out, after.weight.float(), after.variance_epsilon, layer.dtype
        )
        gate_up, low_gate_up = layer.gate_up.forward(middle_normed)
        down, low_down = layer.down.forward(run.swiglu(gate_up))
        ctx.layer = layer
        ctx.save_for_backward(
            *(x, normed, scale, low_qkv, q, k, v, mixed, low_out),
            *(middle, middle_normed, middle_scale, gate_up, low_gate_up, low_down, *kept),
        )
        return middle + down

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        layer: _Layer = ctx.layer
        run, (before, after), tokens = layer.kernels, layer.norms, layer.tokens
        x, normed, scale, low_qkv, q, k, v, mixed, low_out, *rest = ctx.saved_tensors
        middle, middle_normed, middle_scale, gate_up, low_gate_up, low_down, *kept = rest
        residual = grads[0].contiguous()
        d = residual.to(layer.dtype)
        d_low = layer.down.back_low(d)
        d_gate_up, inner = run.swiglu_back(gate_up, layer.down.back(d, d_low))
        of_down = layer.down.learn(d, inner, low_down, d_low)
        d_low = layer.gate_up.back_low(d_gate_up)
        of_gate_up = layer.gate_up.learn(d_gate_up, middle_normed, low_gate_up, d_low)
        d_normed = layer.gate_up.back(d_gate_up, d_low)
        wants_input, _, learns_before, learns_after = ctx.needs_input_grad[:4]
        residual, d, of_after = run.norm_back(
            middle, after.weight.float(), middle_scale, d_normed, residual, learns=learns_after
        )
        d_low = layer.out.back_low(d)
        of_out = layer.out.learn(d, mixed, low_out, d_low)
        d_mixed = layer.out.back(d, d_low)
        if tokens is not None:
            d_mixed = d_mixed.new_zeros(len(x), d_mixed.shape[1]).index_add_(0, tokens, d_mixed)
            residual = torch.zeros_like(x).index_add_(0, tokens, residual)
        d_seen = d_mixed.view(len(x), -1, layer.heads[2]).transpose(0, 1)
        d_qkv = run.rotary_back(*attend_back(d_seen, (q, k, v), kept, layer.row), layer.turn)
        d_low = layer.qkv.back_low(d_qkv)
        of_qkv = layer.qkv.learn(d_qkv, normed, low_qkv, d_low)
        dx = of_before = None
        if wants_input or learns_before:
            d_normed = layer.qkv.back(d_qkv, d_low)
            dx, _, of_before = run.norm_back(x, before.weight.float(), scale, d_normed, residual, learns=learns_before)
        return dx, None, of_before, of_after, *of_qkv, *of_out, *of_gate_up, *of_down
