"""The tensors that a config requires, and their shapes."""

import re
from collections.abc import Iterator, Mapping

from engine.imports.config import Decoder, Family, Gpt2, Llama, Qwen2, Qwen3
from engine.imports.fault import ImportFault, shown
from engine.imports.header import Tensor

_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_BUFFERS = re.compile(r"(?:.*\.)?(?:attn\.(?:masked_)?bias|rotary_emb\.inv_freq)")
"""Buffers that older files hold besides the weights; transformers recomputes them."""
_PREFIX, _HEAD = "transformer.", "lm_head.weight"
_MEND = "send the config.json and the weights of one model"


def check_shapes(config: Family, found: Mapping[str, tuple[str, Tensor]]) -> None:
    """Raise ImportFault unless the tensors, each with the file that it is in, are those of the config."""
    held = _named(config, found)
    wanted = dict(gpt2(config) if isinstance(config, Gpt2) else decoder(config))
    for name, shape in wanted.items():
        if name == _HEAD and config.tie_word_embeddings and name not in held:
            continue
        if name not in held:
            fault = f"is missing; the config requires {len(wanted):,} tensors"
            raise ImportFault("tensor_missing", shown(name), fault, _MEND)
        file, tensor = held.pop(name)
        place = f"{file}: {shown(name)}"
        if tensor.shape != shape:
            fault = f"has the shape {shown(list(tensor.shape))}; the config requires {list(shape)}"
            raise ImportFault("wrong_shape", place, fault, _MEND)
        if tensor.dtype not in _FLOATS:
            fault = f"is of {tensor.dtype}; weights are of {', '.join(sorted(_FLOATS))}"
            raise ImportFault("bad_dtype", place, fault, "save the weights in 16 or 32 bits")
    for name, (file, _) in held.items():
        if not _BUFFERS.fullmatch(name):
            fault = "is not a tensor of such a config"
            raise ImportFault("tensor_unknown", f"{file}: {shown(name)}", fault, _MEND)


def _named(config: Family, found: Mapping[str, tuple[str, Tensor]]) -> dict[str, tuple[str, Tensor]]:
    """Return the tensors by their names in the whole model: GPT-2's first files leave out the prefix of its body."""
    if not isinstance(config, Gpt2) or any(name.startswith(_PREFIX) for name in found):
        return dict(found)
    return {name if name == _HEAD else _PREFIX + name: tensor for name, tensor in found.items()}


def decoder(config: Decoder) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield name and shape of the tensors of Llama, Mistral and Qwen."""
    width, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.num_attention_heads * config.head_size, config.key_value_heads * config.head_size
    own_bias = isinstance(config, Llama | Qwen3) and config.attention_bias
    attention_bias = own_bias or type(config) is Qwen2
    mlp_bias = isinstance(config, Llama) and config.mlp_bias
    yield "model.embed_tokens.weight", (config.vocab_size, width)
    for layer in range(config.num_hidden_layers):
        at = f"model.layers.{layer}."
        for name, rows in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
            yield f"{at}self_attn.{name}.weight", (rows, width)
            if attention_bias:
                yield f"{at}self_attn.{name}.bias", (rows,)
        yield f"{at}self_attn.o_proj.weight", (width, queries)
        if own_bias:
            yield f"{at}self_attn.o_proj.bias", (width,)
        if isinstance(config, Qwen3):
            yield f"{at}self_attn.q_norm.weight", (config.head_size,)
            yield f"{at}self_attn.k_norm.weight", (config.head_size,)
        for name, rows, columns in (
            ("gate_proj", inner, width),
            ("up_proj", inner, width),
            ("down_proj", width, inner),
        ):
            yield f"{at}mlp.{name}.weight", (rows, columns)
            if mlp_bias:
                yield f"{at}mlp.{name}.bias", (rows,)
        yield f"{at}input_layernorm.weight", (width,)
        yield f"{at}post_attention_layernorm.weight", (width,)
    yield "model.norm.weight", (width,)
    yield _HEAD, (config.vocab_size, width)


def gpt2(config: Gpt2) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield name and shape of the tensors of GPT-2, whose linear layers are stored as (inputs, outputs)."""
    width, inner = config.n_embd, config.n_inner or 4 * config.n_embd
    yield _PREFIX + "wte.weight", (config.vocab_size, width)
    yield _PREFIX + "wpe.weight", (config.n_positions, width)
    for layer in range(config.n_layer):
        at = f"{_PREFIX}h.{layer}."
        for name in ("ln_1", "ln_2"):
            yield f"{at}{name}.weight", (width,)
            yield f"{at}{name}.bias", (width,)
        for name, inputs, outputs in (
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", width, inner),
            ("mlp.c_proj", inner, width),
        ):
            yield f"{at}{name}.weight", (inputs, outputs)
            yield f"{at}{name}.bias", (outputs,)
    yield _PREFIX + "ln_f.weight", (width,)
    yield _PREFIX + "ln_f.bias", (width,)
    yield _HEAD, (config.vocab_size, width)
