"""Offload of a decoder's layers, whose weights are elsewhere while no pass is in them: in files, or in CPU memory.

On a CPU, weights in files are used in place: the kernel reads a page when it is accessed and keeps what is written to
it, and layers that a pass has left are dropped from the process's memory. To a GPU, a layer is copied for as long as a
pass is in it. Neither changes a number: a layer that is dropped too early is only fetched once more.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from engine.model.anatomy import layers_in
from engine.offload import HOME, LiesIn, find_room, let_go, lies_in_file, mapped

_ALIGNED = 64
"""The alignment of weights in bytes, the same as in torch's own memory."""


class OffloadedLayer(Protocol):
    """A layer whose weights are fetched for a pass and dropped after it; both may be done repeatedly."""

    home: Tensor
    """The weights where they are kept, one behind the other, [bytes]."""

    def come(self) -> None:
        """Make the weights usable."""
        ...

    def leave(self) -> None:
        """Free the memory that they are used in."""
        ...


class InFile:
    """A layer whose weights are used in place, in a file that has no name any longer."""

    def __init__(self, home: Tensor) -> None:
        self.home = home

    def come(self) -> None: ...

    def leave(self) -> None:
        let_go(self.home)


class _Place(NamedTuple):
    """The place of a tensor within the copy of a layer."""

    dtype: torch.dtype
    shape: torch.Size
    strides: tuple[int, ...]
    offset: int
    """In numbers, not in bytes."""

    def of(self, copy: Tensor) -> Tensor:
        return copy.view(self.dtype).as_strided(self.shape, self.strides, self.offset)


class Fetched:
    """A frozen layer whose weights are copied to a device. Autograd saves places within the copy, not its tensors."""

    def __init__(self, weights: Sequence[nn.Parameter], home: Tensor, device: torch.device) -> None:
        self.home, self._weights, self._device = home, weights, device
        self._places = [_place(weight.data, home) for weight in weights]
        self._copy: Tensor | None = None
        self.leave()

    def come(self) -> None:
        self._here()

    def _here(self) -> Tensor:
        if self._copy is None:
            self._copy = self.home.to(self._device, copy=True, non_blocking=True)
            for weight, place in zip(self._weights, self._places, strict=True):
                weight.data = place.of(self._copy)
        return self._copy

    def leave(self) -> None:
        """Leave tensors of the weights' shapes, which PEFT reads, with the memory of a single number."""
        self._copy = None
        for weight, place in zip(self._weights, self._places, strict=True):
            weight.data = torch.zeros((), dtype=place.dtype, device=self._device).expand(place.shape)
        let_go(self.home)

    def pack(self, kept: Tensor) -> Tensor | _Place:
        """Return the place of a tensor of the copy, and other tensors as they are (`saved_tensors_hooks`)."""
        ours = self._copy is not None and kept.untyped_storage().data_ptr() == self._copy.data_ptr()
        return _place(kept, self._here()) if ours else kept

    def unpack(self, kept: Tensor | _Place) -> Tensor:
        return kept.of(self._here()) if isinstance(kept, _Place) else kept


def _place(tensor: Tensor, home: Tensor) -> _Place:
    offset = (tensor.data_ptr() - home.data_ptr()) // tensor.element_size()
    return _Place(tensor.dtype, tensor.shape, tensor.stride(), offset)


class OffloadedLayers:
    """The layers of a decoder, which fetch and drop their weights as passes enter and leave them."""

    def __init__(self, layers: Sequence[OffloadedLayer], lies_in: Path | torch.device) -> None:
        self._layers, self.lies_in = [*layers], lies_in

    def __deepcopy__(self, memo: dict[int, Any]) -> "OffloadedLayers":
        raise TypeError("a copy of a decoder would share the hooks of its offloaded layers: load it once more")

    @property
    def on_disk_bytes(self) -> int:
        return sum(self._sizes()) if isinstance(self.lies_in, Path) else 0

    @property
    def at_once_bytes(self) -> int:
        """The most that is fetched at once: a layer, and the one that a pass came from."""
        return sum(sorted(self._sizes())[-2:])

    def _sizes(self) -> list[int]:
        return [layer.home.nbytes for layer in self._layers]

    def leave(self) -> None:
        """Drop the weights of all layers, which may have been read outside of a pass."""
        for layer in self._layers:
            layer.leave()

    def keep(self, layers: range) -> None:
        """Free the place of all other layers, in files or in memory."""
        nothing = InFile(torch.empty(0, dtype=torch.uint8))
        self._layers = [layer if number in layers else nothing for number, layer in enumerate(self._layers)]

    def enter(self, number: int, x: Tensor) -> Tensor:
        """Return `x`, the input of a layer. The layer before it is dropped now, this one in its backward pass."""
        before, layer = self._layers[number - 1], self._layers[number]
        if number:
            before.leave()
        layer.come()
        return _InBackward.apply(x, layer.leave)  # type: ignore[return-value]

    def watch(self, number: int, module: nn.Module) -> None:
        """Enter a layer in the forward pass of its own module."""
        layer, hooks = self._layers[number], list[saved_tensors_hooks]()

        def begin(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
            entered = self.enter(number, given[0])
            if isinstance(layer, Fetched):
                hooks.append(saved_tensors_hooks(layer.pack, layer.unpack))
                hooks[-1].__enter__()
            return entered, *given[1:]

        def end(_: nn.Module, __: tuple[Any, ...], made: Any) -> Any:
            if hooks:
                hooks.pop().__exit__()
            # Checkpointing computes the layer again without its hooks: the weights have to be there by then.
            return _InBackward.apply(made, layer.come) if isinstance(made, Tensor) else made

        module.register_forward_pre_hook(begin)
        module.register_forward_hook(end, always_call=True)


class _InBackward(torch.autograd.Function):
    """The identity; `do` is called in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, do: Callable[[], None]) -> Tensor:
        ctx.do = do
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        ctx.do()
        return grads[0], None


def held_bytes(tensor: Tensor) -> int:
    """Return the bytes that a weight takes where it is used: none if it is offloaded."""
    return 0 if lies_in_file(tensor) or tensor.untyped_storage().nbytes() < tensor.nbytes else tensor.nbytes


def offloaded_layers_of(decoder: Any) -> OffloadedLayers | None:
    return getattr(decoder, "offloaded_layers", None)


def layers_lie_in(decoder: Any) -> LiesIn:
    offloaded = offloaded_layers_of(decoder)
    return None if offloaded is None else offloaded.lies_in


def offload_layers(decoder: Any, lies_in: LiesIn, device: torch.device) -> list[nn.Parameter]:
    """Move the layers' weights to `lies_in`, one layer after the other, for passes on `device`; return the weights.

    Raises:
        OSError: the disk has no room for all of them.
    """
    if lies_in is None:
        return []
    modules = [*layers_in(decoder)]
    if isinstance(lies_in, Path):
        find_room(sum(_room(weight) for module in modules for weight in module.parameters()), lies_in, "the layers")
    layers = OffloadedLayers([_moved(_in_order(module), lies_in, device) for module in modules], lies_in)
    decoder.offloaded_layers = layers
    for number, module in enumerate(modules):
        layers.watch(number, module)
    return [weight for module in modules for weight in module.parameters()]


def _in_order(module: nn.Module) -> list[nn.Parameter]:
    """Return the weights, biases last, so that matrices multiplied as one are adjacent (engine.model.fused_linear)."""
    return sorted(module.parameters(), key=lambda weight: weight.ndim < 2)


def _moved(weights: list[nn.Parameter], lies_in: Path | torch.device, device: torch.device) -> OffloadedLayer:
    size = sum(map(_room, weights))
    if isinstance(lies_in, Path):
        home = mapped(size, torch.uint8, lies_in)
    else:
        home = torch.empty(size, dtype=torch.uint8, pin_memory=device.type == "cuda")
    start = 0
    for weight in weights:
        place = home[start : start + weight.nbytes].view(weight.dtype).view(weight.shape)
        held, weight.data = weight.data, place.copy_(weight.data)
        let_go(held)  # it may be the model's own file
        start += _room(weight)
    layer = InFile(home) if device == HOME else Fetched(weights, home, device)
    layer.leave()
    return layer


def _room(weight: Tensor) -> int:
    """Return the bytes from a weight to the next one."""
    return -(-weight.nbytes // _ALIGNED) * _ALIGNED
