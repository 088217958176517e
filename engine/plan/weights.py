"""Numbers and bytes of a model's weights, of those that learn, and of the optimizer's state."""

from engine.errors import SpecError
from engine.plan.beside import EMBEDDING, HEAD
from engine.plan.setting import NF4_BLOCK, Setting
from engine.plan.shape import Shape

_FP32 = 4
_QUANTIZED = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a weight in NF4: 4 bits, an 8-bit scale for each 64 weights, and an fp32 scale for each 256 of those."""
_STATE = {"adamw": 8.0, "adamw_8bit": 2.0 + 8 / 256}
"""Bytes of a weight's two moments; in 8 bits with an fp32 scale for each 256."""
_LAYERS_AT_ONCE = 2
_EIGHT_BIT_FROM = 4096
"""Smaller tensors keep their moments in fp32 (bitsandbytes)."""
AT_ONCE = 1 << 20
"""Weights updated at once if the optimizer's state is on the disk: a multiple of a page and of a SIMD register."""


def weights(shape: Shape, setting: Setting) -> int:
    """Return the bytes of the weights: fp32 masters, or fp32 adapters over a base in the compute type or in 4 bits.

    Of offloaded layers, as many count as are fetched at once (engine.model.layer_offload).

    Raises:
        SpecError: the layers cannot be offloaded in this way.
    """
    if refusal := immovable(setting):
        raise refusal
    held = loaded_weights(shape, setting) if setting.adapter else _FP32 * trained_weights(shape, setting)
    if not setting.moves_layers:
        return held
    return held - max(0, shape.layers - _LAYERS_AT_ONCE) * _layer_bytes(shape, setting)


def immovable(setting: Setting) -> SpecError | None:
    """Return why the layers cannot be offloaded as requested, if they cannot."""
    hyper = setting.hyperparameters
    asked = f"hyperparameters.offload_param is '{hyper.offload_param}'"
    if not setting.moves_layers:
        return None
    if setting.device == "cpu":
        if setting.adapter or hyper.offload_optimizer == "disk":
            return None
        message = f"{asked}; the weights learn, and an optimizer in memory updates all of them at once"
        return SpecError("offload_param_alone", message, "Set hyperparameters.offload_optimizer to 'disk' as well.")
    named = getattr(setting.tuning, "modules_to_save", ())
    saved = {name.rpartition(".")[2] for name in named} - {EMBEDDING, HEAD}
    unknown = [
        (not setting.adapter, "the weights learn, which they can only do on the GPU"),
        (setting.quantized, "4 bits are kept from the forward to the backward pass"),
        (setting.dora, "DoRA begins with the norms of all weights"),
        (bool(saved), "modules_to_save learn, which they can only do on the GPU"),
    ]
    why = next((why for holds, why in unknown if holds), None)
    if why is None:
        return None
    mend = "Set offload_param to 'none'; resources.parallel.zero_stage 3 has less on each of several GPUs."
    return SpecError("offload_param_unsupported", f"{asked}; {why}", mend)


def _layer_bytes(shape: Shape, setting: Setting) -> int:
    """Return the bytes of one layer that are offloaded: all but adapters and the scales of 4-bit weights."""
    linear = shape.linear_weights // shape.layers
    if not setting.adapter:
        return _FP32 * (linear + shape.vectors)
    packed = sum(each.size for each in shape.linears if each.inputs % NF4_BLOCK == 0) if setting.quantized else 0
    return setting.bytes * (linear - packed + shape.vectors) + packed // 2


def loaded_weights(shape: Shape, setting: Setting) -> int:
    """Return the bytes of a model that does not learn, in the compute type or in 4 bits, with an adapter in fp32."""
    base = setting.bytes * (shape.linear_weights + shape.other_weights)
    if setting.quantized:
        packed = shape.layers * sum(linear.size for linear in shape.linears if linear.inputs % NF4_BLOCK == 0)
        base += round((_QUANTIZED - setting.bytes) * packed)
    return base + (_FP32 * trained_weights(shape, setting) if setting.adapter else 0)


def adapter_tensors(shape: Shape, setting: Setting) -> list[int]:
    """Return the sizes of one layer's A and B matrices, and of DoRA's magnitudes."""
    adapted = setting.adapted(shape)
    magnitudes = [linear.outputs for linear in adapted] if setting.dora else []
    return [setting.rank * side for linear in adapted for side in (linear.inputs, linear.outputs)] + magnitudes


def trained_weights(shape: Shape, setting: Setting) -> int:
    if not setting.adapter:
        return shape.linear_weights + shape.other_weights
    ends = len(setting.whole(shape)) * shape.embedding
    return shape.layers * layer_weights(shape, setting) + ends + setting.beside(shape).others


def largest_trained(shape: Shape, setting: Setting) -> int:
    """Return the size of the largest tensor that learns, as far as the plan knows it."""
    whole = [shape.embedding] if setting.whole(shape) else []
    linears = setting.beside(shape).linears if setting.adapter else shape.linears
    layers = [*adapter_tensors(shape, setting), *(linear.size for linear in linears)]
    return max(whole + layers, default=0)


def layer_weights(shape: Shape, setting: Setting) -> int:
    """Return the number of weights of one layer that learn."""
    if setting.adapter:
        return sum(adapter_tensors(shape, setting)) + setting.beside(shape).of_layer
    return shape.linear_weights // shape.layers + shape.vectors


def at_once_bytes(largest: int) -> int:
    """Return what is in memory at once of an optimizer's state on the disk (engine.offload), given its largest tensor.

    That is both moments of a part during an update, or one moment during a save.
    """
    return _FP32 * max(2 * min(largest, AT_ONCE), largest)


def on_disk(shape: Shape, setting: Setting) -> int:
    """Return the bytes of weights and optimizer state that a run keeps in its directory while it trains."""
    hyper = setting.hyperparameters
    state = round(_STATE["adamw"]) * trained_weights(shape, setting) if hyper.offload_optimizer == "disk" else 0
    return state + (_moved_layers(shape, setting) if hyper.offload_param == "disk" else 0)


def beside_gpu(shape: Shape, setting: Setting) -> int:
    """Return the bytes in the machine's memory of what is offloaded from a GPU: layers, and the optimizer's state.

    With the state, a copy of the weights is updated there, by gradients that are fetched (engine.optim).
    """
    hyper = setting.hyperparameters
    if setting.device == "cpu":
        return 0
    updated = 2 * _FP32 * trained_weights(shape, setting) + _state(shape, setting)
    return (updated if hyper.offload_optimizer == "cpu" else 0) + (
        _moved_layers(shape, setting) if hyper.offload_param == "cpu" else 0
    )


def _moved_layers(shape: Shape, setting: Setting) -> int:
    """Return the bytes of all offloaded layers, those of frozen copies included."""
    return (1 + setting.frozen) * shape.layers * _layer_bytes(shape, setting)


def optimizer_state(shape: Shape, setting: Setting) -> int:
    """Return the bytes of the optimizer's state on the device: none if offloaded from a GPU, little if on a CPU's disk.

    Raises:
        SpecError: the state cannot be kept there.
    """
    hyper = setting.hyperparameters
    if hyper.offload_optimizer == "disk" and hyper.optim == "adamw_8bit":
        raise SpecError(
            "disk_with_8_bits",
            "the optimizer's 8-bit state cannot be on the disk",
            "Set hyperparameters.optim to 'adamw', or offload_optimizer to 'none'.",
        )
    if hyper.offload_optimizer != "none" and setting.device != "cpu":
        return 0
    if hyper.offload_optimizer == "disk":
        return at_once_bytes(largest_trained(shape, setting))
    return _state(shape, setting)


def _state(shape: Shape, setting: Setting) -> int:
    """Return the bytes of the optimizer's state if all of it is in memory."""
    hyper, small = setting.hyperparameters, 0
    if hyper.optim == "adamw_8bit":
        tensors = adapter_tensors(shape, setting) if setting.adapter else [1] * shape.vectors
        small = shape.layers * sum(size for size in tensors if size < _EIGHT_BIT_FROM)
    return round(_STATE["adamw"] * small + _STATE[hyper.optim] * (trained_weights(shape, setting) - small))
