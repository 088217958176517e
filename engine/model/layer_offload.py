"""Weights of a decoder's layers that lie elsewhere while no pass is in them: in files, or in memory beside a GPU's.

On a CPU they are used where they lie. The kernel reads a file's page when it is asked for and keeps what is written to
one, and what a pass has left is taken out of the process. To a GPU a layer is copied for as long as a pass is in it.
Neither changes a number: a layer that is let go too early is only fetched once more.
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
"""Bytes, as torch's own memory has them."""


class Layer(Protocol):
    """What a pass does with a layer's weights; doing it twice changes nothing."""

    home: Tensor
    """Where they lie, one behind the other, [bytes]."""

    def come(self) -> None: ...

    def leave(self) -> None: ...


class InFile:
    """Used where they lie; the file has lost its name already."""

    def __init__(self, home: Tensor) -> None:
        self.home = home

    def come(self) -> None: ...

    def leave(self) -> None:
        let_go(self.home)


class _Place(NamedTuple):
    """A tensor within a layer's copy."""

    dtype: torch.dtype
    shape: torch.Size
    strides: tuple[int, ...]
    offset: int
    """In numbers."""

    def of(self, copy: Tensor) -> Tensor:
        return copy.view(self.dtype).as_strided(self.shape, self.strides, self.offset)


class Fetched:
    """Copied to a device, where none of them learns: what autograd would keep of the copy, it is told the place of."""

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
        """What stays has the weights' shapes, which PEFT asks for, and one number."""
        self._copy = None
        for weight, place in zip(self._weights, self._places, strict=True):
            weight.data = torch.zeros((), dtype=place.dtype, device=self._device).expand(place.shape)
        let_go(self.home)

    def pack(self, kept: Tensor) -> Tensor | _Place:
        ours = self._copy is not None and kept.untyped_storage().data_ptr() == self._copy.data_ptr()
        return _place(kept, self._here()) if ours else kept

    def unpack(self, kept: Tensor | _Place) -> Tensor:
        return kept.of(self._here()) if isinstance(kept, _Place) else kept


def _place(tensor: Tensor, home: Tensor) -> _Place:
    offset = (tensor.data_ptr() - home.data_ptr()) // tensor.element_size()
    return _Place(tensor.dtype, tensor.shape, tensor.stride(), offset)


class Away:
    """The layers of a decoder, and which of them a pass is in."""

    def __init__(self, layers: Sequence[Layer], lies_in: Path | torch.device) -> None:
        self._layers, self.lies_in = [*layers], lies_in

    def __deepcopy__(self, memo: dict[int, Any]) -> "Away":
        raise TypeError("a copy of a decoder would have these layers' hooks: load it once more")

    @property
    def on_disk_bytes(self) -> int:
        return sum(self._sizes()) if isinstance(self.lies_in, Path) else 0

    @property
    def at_once_bytes(self) -> int:
        """The most of it that is there at once: a layer, and the one that a pass has come from."""
        return sum(sorted(self._sizes())[-2:])

    def _sizes(self) -> list[int]:
        return [layer.home.nbytes for layer in self._layers]

    def leave(self) -> None:
        """All of them, whoever has read them outside of a pass."""
        for layer in self._layers:
            layer.leave()

    def keep(self, layers: range) -> None:
        """Give back the room of all others."""
        nothing = InFile(torch.empty(0, dtype=torch.uint8))
        self._layers = [layer if number in layers else nothing for number, layer in enumerate(self._layers)]

    def enter(self, number: int, x: Tensor) -> Tensor:
        """`x` on its way into a layer: the one before it is left, and on the way back this one."""
        before, layer = self._layers[number - 1], self._layers[number]
        if number:
            before.leave()
        layer.come()
        return _OnTheWayBack.apply(x, layer.leave)  # type: ignore[return-value]

    def watch(self, number: int, module: nn.Module) -> None:
        """Have a layer's own module do so."""
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
            # Checkpoints compute the layer anew without its hooks: it has to be there by then.
            return _OnTheWayBack.apply(made, layer.come) if isinstance(made, Tensor) else made

        module.register_forward_pre_hook(begin)
        module.register_forward_hook(end, always_call=True)


class _OnTheWayBack(torch.autograd.Function):
    """`x` as it is; `do` is done when its gradient comes by."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, do: Callable[[], None]) -> Tensor:
        ctx.do = do
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        ctx.do()
        return grads[0], None


def held_bytes(tensor: Tensor) -> int:
    """Of a weight where it is used: nothing where it lies elsewhere."""
    return 0 if lies_in_file(tensor) or tensor.untyped_storage().nbytes() < tensor.nbytes else tensor.nbytes


def away_of(decoder: Any) -> Away | None:
    return getattr(decoder, "away", None)


def layers_lie_in(decoder: Any) -> LiesIn:
    away = away_of(decoder)
    return None if away is None else away.lies_in


def offload_layers(decoder: Any, lies_in: LiesIn, device: torch.device) -> list[nn.Parameter]:
    """Move what the layers hold there, one layer after the other, for passes on `device`; returns what was moved.

    Raises OSError where the disk has no room for all of it.
    """
    if lies_in is None:
        return []
    modules = [*layers_in(decoder)]
    if isinstance(lies_in, Path):
        find_room(sum(_room(weight) for module in modules for weight in module.parameters()), lies_in, "the layers")
    decoder.away = Away([_moved(_in_order(module), lies_in, device) for module in modules], lies_in)
    for number, module in enumerate(modules):
        decoder.away.watch(number, module)
    return [weight for module in modules for weight in module.parameters()]


def _in_order(module: nn.Module) -> list[nn.Parameter]:
    """Biases last: matrices that are multiplied as one lie one behind the other (engine.model.fused_linear)."""
    return sorted(module.parameters(), key=lambda weight: weight.ndim < 2)


def _moved(weights: list[nn.Parameter], lies_in: Path | torch.device, device: torch.device) -> Layer:
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
    """Bytes up to the next one."""
    return -(-weight.nbytes // _ALIGNED) * _ALIGNED
