"""Memory of a mixture of experts, counted from engine.model.experts as `activations` are from other modules.

T tokens, K experts chosen for each, E experts, H hidden, I inner, c bytes of the compute type.
"""

from engine.plan.setting import Setting
from engine.plan.shape import Shape
from engine.plan.workload import Workload

_FP32, _INDEX = 4, 8


def rows(shape: Shape, tokens: int, setting: Setting) -> int:
    """Return the rows of all experts of this rank, each of which gets an even part and pads it."""
    return shape.experts * setting.filled(-(-tokens * shape.chosen // (shape.experts + shape.elsewhere)))


def kept(shape: Shape, work: Workload, setting: Setting) -> int:
    """Return what a layer's mixture keeps: inputs and outputs of the experts, and the routing of the tokens."""
    size, chosen = setting.bytes, shape.chosen
    inside = size * (shape.hidden + (1 + shape.waiting) * shape.inner)
    routed = (size + 3 * _FP32) * shape.experts + (3 * _INDEX + 2 * _FP32) * chosen
    outside = size * (1 + chosen) * shape.hidden + routed
    return rows(shape, work.tokens, setting) * inside + work.tokens * outside


def matmuls(shape: Shape, work: Workload, setting: Setting) -> int:
    """Return the bytes of the outputs of a mixture's matmuls."""
    each = rows(shape, work.tokens, setting) * (2 * shape.inner + shape.hidden)
    return setting.bytes * (each + work.tokens * shape.experts)


def begun(shape: Shape, work: Workload, setting: Setting) -> int:
    """Return what is held as a mixture's backward pass begins: gradients of the sum and, in both orders, of outputs."""
    each = shape.chosen * shape.hidden * (setting.bytes + max(_FP32, setting.bytes))
    return work.tokens * (each + _FP32 * shape.hidden)


def made(shape: Shape, setting: Setting) -> int:
    """Return what is held at its end: the gradient of gate_up in the compute type and in fp32, and that of down in fp32."""
    one = shape.experts * shape.inner * shape.hidden
    return (setting.bytes + _FP32) * 2 * one + _FP32 * one


def passing(shape: Shape, setting: Setting) -> int:
    """Return the most that is held for each token in a pass without gradients.

    Inputs and outputs of all experts are held while each expert computes, at worst one that gets most tokens, and while
    the outputs are put in order and summed in fp32.
    """
    size, routed = setting.bytes, 3 * _INDEX * shape.chosen + _FP32 * shape.experts
    at_work = size * (2 * shape.hidden + 3 * shape.inner)
    in_order = (3 * size + _FP32) * shape.hidden
    return routed + shape.chosen * max(at_work, in_order)
