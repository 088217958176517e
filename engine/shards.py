"""Sharded optimizer state: files that any number of ranks wrote, from which each reader assembles what it needs.

A file is torch's: `{"optimizer": {weight: {key: value}}}`. A value is whole, or the part of a tensor that a rank held, as
`{"shape": of the whole, "dim": 0, "start": 0, "part": tensor}`; if `dim` is None, the part is one of the flat tensor.
The states of ranks on other machines are a list of such states, `brought`, in the files of the ranks that received them.
"""

import copy
import errno
import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from engine.errors import EngineError
from engine.offload import Sparing, leave_in_file
from engine.optim import OptimizerState, unwrapped

_PIECE = {"shape", "dim", "start", "part"}
_NUMBERED = re.compile(r"trainer-\d+-of-(\d+)\.pt")
_MEND = "Remove this checkpoint, or copy it again from an intact one: the run resumes from the newest that is there."


def name_of(number: int, count: int) -> str:
    """Return the name of file `number` of `count`."""
    return "trainer.pt" if count == 1 else f"trainer-{number + 1}-of-{count}.pt"


class Cut(NamedTuple):
    """The place of a part in its tensor, along a dimension, or in the flat tensor if `dim` is None."""

    dim: int | None
    start: int
    length: int

    def of(self, tensor: Tensor) -> Tensor:
        """Return this part of a tensor, as a view."""
        if self.dim is None:
            return tensor.view(-1)[self.start : self.start + self.length]
        return tensor.narrow(self.dim, self.start, self.length)

    def common(self, other: "Cut") -> "Cut":
        """Return the intersection of two cuts along the same dimension."""
        start = max(self.start, other.start)
        return Cut(self.dim, start, max(0, min(self.start + self.length, other.start + other.length) - start))

    def within(self, other: "Cut") -> "Cut":
        """Return this cut relative to the start of another."""
        return self._replace(start=self.start - other.start)


class Piece(NamedTuple):
    """The part that a rank holds of a tensor of this shape."""

    shape: tuple[int, ...]
    cut: Cut
    part: Tensor

    @property
    def whole(self) -> Cut:
        """The cut of the whole tensor, along the same dimension."""
        dim = self.cut.dim
        return Cut(dim, 0, torch.Size(self.shape).numel() if dim is None else self.shape[dim])


def write(path: Path, states: Sequence[OptimizerState], **more: Any) -> None:
    """Write the states, of which the first is the rank's own. Raises OSError if the disk is full."""
    own, *brought = map(_plain, states)
    plain = {"optimizer": own} | ({"brought": brought} if brought else {}) | more
    # A file of our own: torch's hides a full disk behind a message about positions.
    with path.open("wb") as file:
        sparing: Any = Sparing(file, [tensor for state in states for tensor in tensors_of(state)])
        try:
            torch.save(plain, sparing)
        except RuntimeError:
            if sparing.failure is not None:
                raise sparing.failure from None
            raise


def tensors_of(state: OptimizerState) -> list[Tensor]:
    """Return all tensors in a state; of pieces, their parts."""
    held = [value.part if isinstance(value, Piece) else value for of in state.values() for value in of.values()]
    return [value for value in held if isinstance(value, Tensor)]


def _plain(state: OptimizerState) -> OptimizerState:
    return {name: {key: _as_saved(value) for key, value in values.items()} for name, values in state.items()}


def _as_saved(value: Any) -> Any:
    if not isinstance(value, Piece):
        return value
    return {"shape": [*value.shape], "dim": value.cut.dim, "start": value.cut.start, "part": _by_itself(value.part)}


def _by_itself(part: Tensor) -> Tensor:
    """Return the part without the rest of its storage, all of which torch would copy and write."""
    if part.nbytes == part.untyped_storage().nbytes() or not part.is_contiguous():
        return part
    start = part.storage_offset() * part.itemsize
    return part.new_empty(0).set_(part.untyped_storage()[start : start + part.nbytes], 0, part.shape)  # type: ignore[call-overload]


def _as_held(saved: Any) -> Any:
    if not isinstance(saved, dict) or saved.keys() != _PIECE:
        return saved
    dim, part = saved["dim"], saved["part"]
    return Piece(tuple(saved["shape"]), Cut(dim, saved["start"], part.shape[dim or 0]), part)


class Stored(Mapping[str, "Values"]):
    """The state in a folder, by the names of the weights; values are read on access."""

    def __init__(self, folder: Path) -> None:
        """Raises EngineError, with the name of the file, if one is missing or torn."""
        files = [_mapped(path) for path in _files_of(folder)]
        self.beside: dict[str, Any] = files[0]
        """The contents of the first file besides the state."""
        self._found: dict[str, dict[str, list[Any]]] = {}
        for state in [state for file in files for state in (file["optimizer"], *file.get("brought", ()))]:
            for name, values in state.items():
                of_weight = self._found.setdefault(name, {})
                for key, value in unwrapped(values).items():  # earlier versions saved 8-bit state as it came
                    of_weight.setdefault(key, []).append(_as_held(value))

    def shapes(self) -> dict[str, dict[str, torch.Size]]:
        """Return the shapes of all tensors, each as a whole."""
        return {name: values.shapes() for name, values in self.items()}

    def __getitem__(self, name: str) -> "Values":
        return Values(name, self._found[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


class Values(Mapping[str, Any]):
    """The state of one weight, by key: each value is copied on access."""

    def __init__(self, name: str, found: Mapping[str, list[Any]], cut: Cut | None = None) -> None:
        self._name, self._found, self._cut = name, found, cut

    def cut(self, cut: Cut | None) -> "Values":
        """Return the values restricted to a part of each tensor; tensors of a single number stay whole."""
        return Values(self._name, self._found, cut)

    def shapes(self) -> dict[str, torch.Size]:
        """Return the shape of each tensor as a whole."""
        first = {key: found[0] for key, found in self._found.items()}
        return {key: torch.Size(held.shape) for key, held in first.items() if isinstance(held, Piece | Tensor)}

    def __getitem__(self, key: str) -> Any:
        # Several ranks may have written a value that is whole: they are equal.
        pieces = self._found[key] if isinstance(self._found[key][0], Piece) else self._found[key][:1]
        if isinstance(pieces[0], Tensor):
            pieces = [_as_piece(pieces[0], self._cut)]
        if not isinstance(pieces[0], Piece):
            return copy.deepcopy(pieces[0])
        made = _put_together(pieces, self._cut if pieces[0].shape else None)
        if made is None:
            message = f"a part of {key} of {self._name} is in no file of the checkpoint"
            raise EngineError("checkpoint_torn", message, _MEND)
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


def _as_piece(whole: Tensor, wanted: Cut | None) -> Piece:
    """Return a whole tensor as a piece along the dimension of the wanted cut, if any."""
    dim = wanted.dim if wanted is not None and whole.ndim else None
    part = whole.reshape(-1) if dim is None else whole
    return Piece(tuple(whole.shape), Cut(dim, 0, part.shape[dim or 0]), part)


def _put_together(pieces: Sequence[Piece], cut: Cut | None) -> Tensor | None:
    """Assemble a tensor, or a cut of it, from pieces; return None if a part is missing.

    If it was cut along another dimension, the whole tensor is assembled first.
    """
    shape, part = pieces[0].shape, pieces[0].part
    if cut is not None and any(piece.cut.dim != cut.dim for piece in pieces):
        whole = _put_together(pieces, None)
        return None if whole is None else cut.of(whole).clone()
    made = part.new_empty(shape if cut is None else _shape_of(shape, cut))
    found = 0
    for piece in pieces:
        wanted = piece.whole if cut is None else cut
        common = piece.cut.common(wanted)
        if common.length:
            into = common.within(wanted).of(made)
            into.copy_(common.within(piece.cut).of(piece.part))
            found += into.numel()
            leave_in_file(piece.part)
    return made if found == made.numel() else None


def _shape_of(shape: Sequence[int], cut: Cut) -> list[int]:
    if cut.dim is None:
        return [cut.length]
    return [cut.length if dim == cut.dim else size for dim, size in enumerate(shape)]


def _files_of(folder: Path) -> list[Path]:
    there = {path.name: path for path in folder.glob("trainer*.pt")}
    counts = [int(found[1]) for name in there if (found := _NUMBERED.fullmatch(name))]
    count = 1 if name_of(0, 1) in there or not counts else max(counts)
    names = [*map(partial(name_of, count=count), range(count))]
    for name in names:
        if name not in there:
            raise EngineError("checkpoint_torn", f"{_short(folder / name)} is missing", _MEND)
    return [there[name] for name in names]


def _mapped(path: Path) -> dict[str, Any]:
    """Load a file memory-mapped: its tensors are read on use."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # torch's error for a truncated file
            raise
        raise EngineError("checkpoint_torn", f"{_short(path)} is torn: {str(error).splitlines()[0]}", _MEND) from error


def _short(path: Path) -> str:
    return "/".join(path.parts[-3:])
