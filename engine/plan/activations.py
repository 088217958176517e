"""Bytes that a decoder layer keeps between the passes: the one place that knows, counted from the code of its modules.

T tokens, H hidden, I inner, Q and K widths of queries and of keys, c bytes of the compute type. A tensor is counted
where it is made and some backward function needs it; what two functions share is counted once.
"""

from collections.abc import Iterable

from engine.plan import experts
from engine.plan.setting import Setting
from engine.plan.shape import GPT2, Linear, Shape
from engine.plan.workload import Workload

_FP32 = 4


def kept_by_layer(shape: Shape, work: Workload, setting: Setting) -> int:
    """Without checkpointing."""
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
    """Bytes that an MLP keeps for each of its width between its first and its last layer.

    On a GPU autocast takes the power in GPT-2's GELU in fp32, and all that comes of it stays so.
    """
    if shape.by_formula and setting.device == "cuda" and setting.bytes < _FP32:
        return 3 * _FP32 + setting.bytes
    return shape.waiting * setting.bytes


def _outputs_of_dora(shape: Shape, setting: Setting) -> int:
    """Of each adapted layer what its weight and what its adapter made: the magnitudes learn from both."""
    return 2 * setting.bytes * sum(linear.outputs for linear in setting.adapted(shape)) if setting.dora else 0


def _norm(shape: Shape, setting: Setting) -> int:
    """A norm a token: the input, which is the residual stream itself; an RMS norm in fp32, and to learn its weight the result."""
    if shape.family == GPT2:
        return (_FP32 if setting.device == "cuda" else setting.residual(shape)) * shape.hidden
    learns = not setting.adapter or setting.beside(shape).norms > 0
    return shape.hidden * (_FP32 + (setting.residual(shape) if learns else 0))


def _linear_inputs(shape: Shape, setting: Setting) -> tuple[int, int]:
    """Inputs of linear layers that learn. Autocast makes a copy of the fp32 norm for each of them."""
    if shape.family == GPT2:
        return setting.bytes * sum(linear.inputs for linear in shape.linears), 0
    if shape.experts > 1:
        return setting.bytes * ((1 if setting.bytes == _FP32 else 3) * shape.hidden + shape.query), 0
    copies = 1 + 1 if setting.bytes == _FP32 else 3 + 2
    return setting.bytes * (copies * shape.hidden + shape.query + shape.inner), 0


def _adapter_inputs(shape: Shape, setting: Setting) -> tuple[int, int]:
    """(Inputs of adapters and of layers that learn whole, what A makes of them); frozen layers keep nothing.

    PEFT casts the input of each adapter to fp32 and autocast casts it back; over a base in 4 bits it does so on the
    CPU alone. Dropout makes one of its own for each, and keeps a mask of fp32 on the CPU, of a byte on a GPU.
    """
    adapted, whole = setting.adapted(shape), _sources(setting.beside(shape).linears)
    shared = not (_through_fp32(setting) or setting.dropout)
    each = sum(linear.inputs for linear in adapted)
    inputs = _widths(_sources(adapted) | whole) if shared else each + _widths(whole)
    masks = each * (1 if setting.device == "cuda" else _FP32) if setting.dropout else 0
    return setting.bytes * inputs + masks, setting.bytes * setting.rank * len(adapted)


def _sources(linears: Iterable[Linear]) -> set[tuple[str, int]]:
    """What goes into them, and how wide it is."""
    return {(linear.source, linear.inputs) for linear in linears}


def _widths(sources: set[tuple[str, int]]) -> int:
    return sum(width for _, width in sources)


def _through_fp32(setting: Setting) -> bool:
    """Whether an adapter's input goes to fp32 and back."""
    return setting.adapter and setting.bytes < _FP32 and not (setting.quantized and setting.device == "cuda")


def kept_by_last_norm(shape: Shape, work: Workload, setting: Setting) -> int:
    """The norm ahead of the head; only labelled tokens come to it where layers are done by hand.

    Where the head is on another rank, what is on its way there.
    """
    if not shape.ends:
        return work.tokens * shape.hidden * setting.residual(shape)
    return (work.labels if setting.by_hand(shape) else work.tokens) * _norm(shape, setting)


def kept_by_layers(shape: Shape, work: Workload, setting: Setting) -> int:
    """By all layers when their backward passes begin."""
    if setting.by_hand(shape):
        last = _by_hand(shape, work, setting, work.labels)
        return (shape.layers - 1) * _by_hand(shape, work, setting, work.tokens) + last
    return shape.layers * kept_by_first(shape, work, setting)


def _by_hand(shape: Shape, work: Workload, setting: Setting, behind: int) -> int:
    """One layer of engine.model.llama, which goes on with `behind` tokens behind its attention: `save_for_backward`.

    The residual stream and its normed copy twice, queries, keys, values and output, the MLP's two factors as one.
    """
    size = setting.bytes
    stream = _FP32 * shape.hidden + size * shape.hidden
    ranks = size * setting.rank * len(setting.adapted(shape))
    picked = size * shape.query if behind < work.tokens else 0
    attention = work.tokens * (stream + size * (2 * shape.query + 2 * shape.key) + ranks)
    scores = size * shape.heads * work.scores(setting.step)
    return attention + scores + behind * (stream + 2 * size * shape.inner + picked)


def _matmuls(shape: Shape, work: Workload, setting: Setting) -> int:
    """Outputs of a layer's linear layers, and of its adapters' two halves."""
    if shape.experts > 1:
        attention = shape.query + 2 * shape.key + shape.hidden
        return setting.bytes * work.tokens * attention + experts.matmuls(shape, work, setting)
    outputs = sum(linear.outputs for linear in shape.linears)
    adapted = setting.adapted(shape)
    return setting.bytes * work.tokens * (outputs + sum(linear.outputs + setting.rank for linear in adapted))


def kept_by_first(shape: Shape, work: Workload, setting: Setting) -> int:
    """What still waits when the backward pass comes to the first layer."""
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
    """What the backward pass of a layer by modules holds besides what was kept.

    Gradients of the MLP's product and of both factors while the product's own memory is free again, or that of the
    product in fp32 on its way from an adapter, or the four in fp32 that DoRA makes of an output's; and the residual
    stream's. With checkpointing the layer is computed again first.
    """
    size, again = setting.bytes, computed_again(shape, work, setting)
    product = (size + _FP32 if _through_fp32(setting) else 2 * size) * shape.inner
    if setting.dora and _through_fp32(setting):
        product = 4 * _FP32 * max((linear.outputs for linear in setting.adapted(shape)), default=0)
    return again + work.tokens * (product + (setting.residual(shape) + size) * shape.hidden)


def computed_again(shape: Shape, work: Workload, setting: Setting) -> int:
    """What a layer keeps that is computed again on the way back, beyond what it kept before."""
    match setting.checkpointing:
        case "none":
            return 0
        case "full":
            return kept_by_layer(shape, work, setting)
        case _:
            return kept_by_layer(shape, work, setting) - _read_again(shape, work, setting)


def _read_again(shape: Shape, work: Workload, setting: Setting) -> int:
    """Outputs of matmuls that a layer which is computed again keeps anyhow, or gives back once it has read them.

    GPT-2's are all so: its queries, keys and values are copied. With DoRA both halves of every output are kept.
    """
    if shape.family == GPT2 or setting.dora:
        return _matmuls(shape, work, setting)
    between = experts.rows(shape, work.tokens, setting) if shape.experts > 1 else work.tokens
    return setting.bytes * (work.tokens * (shape.query + 2 * shape.key) + between * 2 * shape.inner)


def backward_of_mlp_by_hand(shape: Shape, setting: Setting, behind: int) -> int:
    """Where the MLP's gradients are made: of its product and of both factors, beside the product, made again."""
    low = 0 if setting.bytes == _FP32 else setting.bytes
    return behind * (4 * setting.bytes * shape.inner + (_FP32 + low) * shape.hidden)


def backward_of_attention_by_hand(shape: Shape, work: Workload, setting: Setting, behind: int) -> int:
    """At its end, with what the MLP's gradients left: nothing is given back before a layer is done.

    Either queries, keys and values have their gradients twice, apart and side by side; or the layer's input has its
    own, in fp32 and as the matmuls gave it.
    """
    size = setting.bytes
    mlp = behind * (3 * size * shape.inner + _FP32 * shape.hidden)
    turned = behind * 2 * size * shape.hidden + work.tokens * (
        size * (3 * shape.query + 4 * shape.key) + _FP32 * shape.hidden
    )
    of_input = work.tokens * (size * (2 * shape.query + 2 * shape.key) + 2 * (_FP32 + size) * shape.hidden)
    return mlp + max(turned, of_input)
