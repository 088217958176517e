"""Bytes that a decoder layer keeps between its passes, counted from the code of its modules; nothing else counts them.

T tokens, H hidden, I inner, Q and K widths of queries and of keys, c bytes of the compute type. A tensor is counted
where it is created, if a backward function needs it; one that two functions share is counted once.
"""

from collections.abc import Iterable

from engine.plan import experts
from engine.plan.setting import Setting
from engine.plan.shape import GPT2, Linear, Shape
from engine.plan.workload import Workload

_FP32 = 4


def kept_by_layer(shape: Shape, work: Workload, setting: Setting) -> int:
    """Return what a layer keeps without checkpointing."""
    turned = 0 if shape.family == GPT2 else shape.query
    attention = setting.bytes * (turned + shape.query + 2 * shape.key) * work.tokens
    scores = setting.bytes * shape.heads * work.scores(setting.step) if setting.device == "cpu" else 0
    inputs, low = _adapter_inputs(shape, setting) if setting.adapter else _linear_inputs(shape, setting)
    products = _between(shape, setting) * shape.inner if shape.experts == 1 else 0
    mixture = experts.kept(shape, work, setting) if shape.experts > 1 else 0
    apart = _outputs_of_dora(shape, setting)
    each = 2 * _norm(shape, setting) + inputs + products + low + apart
    return work.tokens * each + attention + scores + mixture


def _between(shape: Shape, setting: Setting) -> int:
    """Return the bytes that an MLP keeps per unit of its width between its first and its last layer.

    On a GPU autocast computes the power in GPT-2's GELU in fp32, and all that follows from it stays fp32.
    """
    if shape.by_formula and setting.device == "cuda" and setting.bytes < _FP32:
        return 3 * _FP32 + setting.bytes
    return shape.waiting * setting.bytes


def _outputs_of_dora(shape: Shape, setting: Setting) -> int:
    """Return the bytes of the outputs of each adapted layer's weight and adapter: DoRA's magnitudes learn from both."""
    return 2 * setting.bytes * sum(linear.outputs for linear in setting.adapted(shape)) if setting.dora else 0


def _norm(shape: Shape, setting: Setting) -> int:
    """Return the bytes that a norm keeps per token: its input, of RMS norms in fp32, and its output if it learns."""
    if shape.family == GPT2:
        return (_FP32 if setting.device == "cuda" else setting.residual(shape)) * shape.hidden
    learns = not setting.adapter or setting.beside(shape).norms > 0
    return shape.hidden * (_FP32 + (setting.residual(shape) if learns else 0))


def _linear_inputs(shape: Shape, setting: Setting) -> tuple[int, int]:
    """Return the bytes of the inputs of linear layers that learn. Autocast copies the fp32 norm for each of them."""
    if shape.family == GPT2:
        return setting.bytes * sum(linear.inputs for linear in shape.linears), 0
    if shape.experts > 1:
        return setting.bytes * ((1 if setting.bytes == _FP32 else 3) * shape.hidden + shape.query), 0
    copies = 1 + 1 if setting.bytes == _FP32 else 3 + 2
    return setting.bytes * (copies * shape.hidden + shape.query + shape.inner), 0


def _adapter_inputs(shape: Shape, setting: Setting) -> tuple[int, int]:
    """Return the bytes of (inputs of adapters and of layers trained whole, outputs of A); frozen layers keep nothing.

    PEFT casts the input of each adapter to fp32 and autocast casts it back; over a base in 4 bits, on the CPU only.
    Dropout creates an input of its own for each adapter, and keeps a mask, in fp32 on the CPU, in bytes on a GPU.
    """
    adapted, whole = setting.adapted(shape), _sources(setting.beside(shape).linears)
    shared = not (_through_fp32(setting) or setting.dropout)
    each = sum(linear.inputs for linear in adapted)
    inputs = _widths(_sources(adapted) | whole) if shared else each + _widths(whole)
    masks = each * (1 if setting.device == "cuda" else _FP32) if setting.dropout else 0
    return setting.bytes * inputs + masks, setting.bytes * setting.rank * len(adapted)


def _sources(linears: Iterable[Linear]) -> set[tuple[str, int]]:
    """Return the inputs of linear layers, with their widths."""
    return {(linear.source, linear.inputs) for linear in linears}


def _widths(sources: set[tuple[str, int]]) -> int:
    return sum(width for _, width in sources)


def _through_fp32(setting: Setting) -> bool:
    """Return whether an adapter's input is cast to fp32 and back."""
    return setting.adapter and setting.bytes < _FP32 and not (setting.quantized and setting.device == "cuda")


def kept_by_last_norm(shape: Shape, work: Workload, setting: Setting) -> int:
    """Return what the norm ahead of the head keeps; if layers are computed by hand, of labelled tokens only.

    Where the head is on another rank, return what is sent there.
    """
    if not shape.ends:
        return work.tokens * shape.hidden * setting.residual(shape)
    return (work.labels if setting.by_hand(shape) else work.tokens) * _norm(shape, setting)


def kept_by_layers(shape: Shape, work: Workload, setting: Setting) -> int:
    """Return what all layers keep as their backward passes begin."""
    if setting.by_hand(shape):
        last = _by_hand(shape, work, setting, work.labels)
        return (shape.layers - 1) * _by_hand(shape, work, setting, work.tokens) + last
    return shape.layers * kept_by_first(shape, work, setting)


def _by_hand(shape: Shape, work: Workload, setting: Setting, behind: int) -> int:
    """Return what a layer of engine.model.llama saves for its backward pass, with `behind` tokens behind its attention.

    These are the residual stream and its normed copy twice, queries, keys, values and output, and gate and up as one.
    """
    size = setting.bytes
    stream = _FP32 * shape.hidden + size * shape.hidden
    ranks = size * setting.rank * len(setting.adapted(shape))
    picked = size * shape.query if behind < work.tokens else 0
    attention = work.tokens * (stream + size * (2 * shape.query + 2 * shape.key) + ranks)
    scores = size * shape.heads * work.scores(setting.step)
    return attention + scores + behind * (stream + 2 * size * shape.inner + picked)


def _matmuls(shape: Shape, work: Workload, setting: Setting) -> int:
    """Return the bytes of the outputs of a layer's linear layers, and of A and B of its adapters."""
    if shape.experts > 1:
        attention = shape.query + 2 * shape.key + shape.hidden
        return setting.bytes * work.tokens * attention + experts.matmuls(shape, work, setting)
    outputs = sum(linear.outputs for linear in shape.linears)
    adapted = setting.adapted(shape)
    return setting.bytes * work.tokens * (outputs + sum(linear.outputs + setting.rank for linear in adapted))


def kept_by_first(shape: Shape, work: Workload, setting: Setting) -> int:
    """Return what is still kept when the backward pass reaches the first layer."""
    if setting.by_hand(shape):
        return _by_hand(shape, work, setting, work.labels if shape.layers == 1 else work.tokens)
    stream = work.tokens * shape.hidden * setting.residual(shape)
    match setting.checkpointing:
        case "none":
            return kept_by_layer(shape, work, setting)
        case "full":
            return stream
        case _:
            return stream + _matmuls(shape, work, setting)


def backward_of_layer(shape: Shape, work: Workload, setting: Setting) -> int:
    """Return what the backward pass of a layer by modules holds besides what the forward pass kept.

    These are the gradients of the MLP's product and of both factors, when the product itself is free again, or the
    product's gradient in fp32 from an adapter, or the four in fp32 that DoRA makes of an output's; and the gradient of
    the residual stream. With checkpointing the layer is recomputed first.
    """
    size, again = setting.bytes, computed_again(shape, work, setting)
    product = (size + _FP32 if _through_fp32(setting) else 2 * size) * shape.inner
    if setting.dora and _through_fp32(setting):
        product = 4 * _FP32 * max((linear.outputs for linear in setting.adapted(shape)), default=0)
    return again + work.tokens * (product + (setting.residual(shape) + size) * shape.hidden)


def computed_again(shape: Shape, work: Workload, setting: Setting) -> int:
    """Return what a recomputed layer keeps in the backward pass, beyond what it kept before."""
    match setting.checkpointing:
        case "none":
            return 0
        case "full":
            return kept_by_layer(shape, work, setting)
        case _:
            return kept_by_layer(shape, work, setting) - _read_again(shape, work, setting)


def _read_again(shape: Shape, work: Workload, setting: Setting) -> int:
    """Return the outputs of matmuls that a recomputed layer would keep anyway, or frees once it has read them.

    That holds for all of GPT-2's: its queries, keys and values are copied. With DoRA both parts of every output are kept.
    """
    if shape.family == GPT2 or setting.dora:
        return _matmuls(shape, work, setting)
    between = experts.rows(shape, work.tokens, setting) if shape.experts > 1 else work.tokens
    return setting.bytes * (work.tokens * (shape.query + 2 * shape.key) + between * 2 * shape.inner)


def backward_of_mlp_by_hand(shape: Shape, setting: Setting, behind: int) -> int:
    """Return what the backward pass of an MLP by hand holds: gradients of its product and factors, and the product."""
    low = 0 if setting.bytes == _FP32 else setting.bytes
    return behind * (4 * setting.bytes * shape.inner + (_FP32 + low) * shape.hidden)


def backward_of_attention_by_hand(shape: Shape, work: Workload, setting: Setting, behind: int) -> int:
    """Return what attention by hand holds at the end of its backward pass, with the MLP's tensors, which live as long.

    It is the most of two moments: gradients of queries, keys and values exist twice, apart and side by side; or the
    gradient of the layer's input does, in fp32 and as the matmuls returned it.
    """
    size = setting.bytes
    mlp = behind * (3 * size * shape.inner + _FP32 * shape.hidden)
    turned = behind * 2 * size * shape.hidden + work.tokens * (
        size * (3 * shape.query + 4 * shape.key) + _FP32 * shape.hidden
    )
    of_input = work.tokens * (size * (2 * shape.query + 2 * shape.key) + 2 * (_FP32 + size) * shape.hidden)
    return mlp + max(turned, of_input)
