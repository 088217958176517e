"""What a mixture of experts holds, counted from engine.model.experts as `activations` are from other modules.

T tokens, K experts chosen for each, E experts, H hidden, I inner, c bytes of the compute type.
"""

from engine.plan.setting import Setting
from engine.plan.shape import Shape
from engine.plan.workload import Workload

_FP32, _INDEX = 4, 8


def rows(shape: Shape, tokens: int, setting: Setting) -> int:
    """Of all experts here together, each of which gets its part and fills it up."""
    return shape.experts * setting.filled(-(-tokens * shape.chosen // (shape.experts + shape.elsewhere)))


def kept(shape: Shape, work: Workload, setting: Setting) -> int:
    """By a layer's mixture: what goes into the experts, what they make of it, and how the tokens were routed."""
    size, chosen = setting.bytes, shape.chosen
    inside = size * (shape.hidden + (1 + shape.waiting) * shape.inner)
    routed = (size + 3 * _FP32) * shape.experts + (3 * _INDEX + 2 * _FP32) * chosen
    outside = size * (1 + chosen) * shape.hidden + routed
    return rows(shape, work.tokens, setting) * inside + work.tokens * outside


def matmuls(shape: Shape, work: Workload, setting: Setting) -> int:
    """Outputs of a mixture's products."""
    each = rows(shape, work.tokens, setting) * (2 * shape.inner + shape.hidden)
    return setting.bytes * (each + work.tokens * shape.experts)


def begun(shape: Shape, work: Workload, setting: Setting) -> int:
    """At the begin of a mixture's backward pass: the gradients of its sum, of all experts' outputs, and these in order."""
    each = shape.chosen * shape.hidden * (setting.bytes + max(_FP32, setting.bytes))
    return work.tokens * (each + _FP32 * shape.hidden)


def made(shape: Shape, setting: Setting) -> int:
    """At its end: the gradient that the last product has, in fp32 beside all of it as it was made, or beside its parts."""
    one = shape.experts * shape.inner * shape.hidden
    return (setting.bytes + _FP32) * 2 * one + _FP32 * one


def passing(shape: Shape, setting: Setting) -> int:
    """Of each token without a way back, at most.

    What goes in and comes out of all experts stays while each is at work, at worst one that gets most tokens, and while
    what they made is put in order and summed in fp32.
    """
    size, routed = setting.bytes, 3 * _INDEX * shape.chosen + _FP32 * shape.experts
    at_work = size * (2 * shape.hidden + 3 * shape.inner)
    in_order = (3 * size + _FP32) * shape.hidden
    return routed + shape.chosen * max(at_work, in_order)
