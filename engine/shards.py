"""The state of an optimizer in files that any number of ranks wrote, of which each reader puts together what it needs.

A file is torch's: `{"optimizer": {weight: {key: value}}}`. A value is whole, or the part of a tensor that a rank held, as
`{"shape": of the whole, "dim": 0, "start": 0, "part": tensor}`; where `dim` is None, of its numbers in their order.
What ranks on other machines held is a list of more such states, `brought`, in the files of those that it came to.
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
from engine.optim import OptimizerState

_PIECE = {"shape", "dim", "start", "part"}
_NUMBERED = re.compile(r"trainer-\d+-of-(\d+)\.pt")
_MEND = (
    "Remove this checkpoint, or copy it again from where it is whole: the run goes on from the newest that is there."
)


def name_of(number: int, count: int) -> str:
    """Of the file that is this one of so many."""
    return "trainer.pt" if count == 1 else f"trainer-{number + 1}-of-{count}.pt"


class Cut(NamedTuple):
    """Where a part lies in its tensor, along a dimension; where `dim` is None, among its numbers in their order."""

    dim: int | None
    start: int
    length: int

    def of(self, tensor: Tensor) -> Tensor:
        """A view."""
        if self.dim is None:
            return tensor.view(-1)[self.start : self.start + self.length]
        return tensor.narrow(self.dim, self.start, self.length)

    def common(self, other: "Cut") -> "Cut":
        """What lies in both, which are along the same dimension."""
        start = max(self.start, other.start)
        return Cut(self.dim, start, max(0, min(self.start + self.length, other.start + other.length) - start))

    def within(self, other: "Cut") -> "Cut":
        """The same, counted from where the other begins."""
        return self._replace(start=self.start - other.start)


class Piece(NamedTuple):
    """What a rank holds of a tensor of this shape."""

    shape: tuple[int, ...]
    cut: Cut
    part: Tensor

    @property
    def whole(self) -> Cut:
        """All of the tensor, along the same dimension."""
        dim = self.cut.dim
        return Cut(dim, 0, torch.Size(self.shape).numel() if dim is None else self.shape[dim])


def write(path: Path, states: Sequence[OptimizerState], **more: Any) -> None:
    """The first is the rank's own. Raises OSError where the disk is full."""
    own, *brought = map(_plain, states)
    plain = {"optimizer": own} | ({"brought": brought} if brought else {}) | more
    # Into a file of ours: torch's own hides what a full disk answers behind a message about positions.
    with path.open("wb") as file:
        sparing: Any = Sparing(file, [tensor for state in states for tensor in tensors_of(state)])
        try:
            torch.save(plain, sparing)
        except RuntimeError:
            if sparing.failure is not None:
                raise sparing.failure from None
            raise


def tensors_of(state: OptimizerState) -> list[Tensor]:
    """All that is in it, of pieces the parts."""
    held = [value.part if isinstance(value, Piece) else value for of in state.values() for value in of.values()]
    return [value for value in held if isinstance(value, Tensor)]


def _plain(state: OptimizerState) -> OptimizerState:
    return {name: {key: _as_told(value) for key, value in values.items()} for name, values in state.items()}


def _as_told(value: Any) -> Any:
    if not isinstance(value, Piece):
        return value
    return {"shape": [*value.shape], "dim": value.cut.dim, "start": value.cut.start, "part": _by_itself(value.part)}


def _by_itself(part: Tensor) -> Tensor:
    """Without the rest of the memory that it is a view of: torch writes all of that, and copies it to do so."""
    if part.nbytes == part.untyped_storage().nbytes() or not part.is_contiguous():
        return part
    start = part.storage_offset() * part.itemsize
    return part.new_empty(0).set_(part.untyped_storage()[start : start + part.nbytes], 0, part.shape)  # type: ignore[call-overload]


def _as_held(told: Any) -> Any:
    if not isinstance(told, dict) or told.keys() != _PIECE:  # a dict may be a value too, as 8 bits have one
        return told
    dim, part = told["dim"], told["part"]
    return Piece(tuple(told["shape"]), Cut(dim, told["start"], part.shape[dim or 0]), part)


class Stored(Mapping[str, "Values"]):
    """The state that lies in a folder, by the names of the weights; nothing is in memory before it is asked for."""

    def __init__(self, folder: Path) -> None:
        """Raises EngineError, with the file's name, where one is missing or torn."""
        files = [_mapped(path) for path in _files_of(folder)]
        self.beside: dict[str, Any] = files[0]
        """What the first file holds beside the state."""
        self._found: dict[str, dict[str, list[Any]]] = {}
        for state in [state for file in files for state in (file["optimizer"], *file.get("brought", ()))]:
            for name, values in state.items():
                of_weight = self._found.setdefault(name, {})
                for key, value in values.items():
                    of_weight.setdefault(key, []).append(_as_held(value))

    def shapes(self) -> dict[str, dict[str, torch.Size]]:
        """Of the whole of every tensor."""
        return {name: values.shapes() for name, values in self.items()}

    def __getitem__(self, name: str) -> "Values":
        return Values(name, self._found[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


class Values(Mapping[str, Any]):
    """Of one weight, by their keys: each a copy of its own, made when it is asked for."""

    def __init__(self, name: str, found: Mapping[str, list[Any]], cut: Cut | None = None) -> None:
        self._name, self._found, self._cut = name, found, cut

    def cut(self, cut: Cut | None) -> "Values":
        """The same, of each tensor that is none of a single number this part alone."""
        return Values(self._name, self._found, cut)

    def shapes(self) -> dict[str, torch.Size]:
        """Of the whole of each tensor."""
        first = {key: found[0] for key, found in self._found.items()}
        return {key: torch.Size(held.shape) for key, held in first.items() if isinstance(held, Piece | Tensor)}

    def __getitem__(self, key: str) -> Any:
        # What is whole may have been written by several: it is the same.
        pieces = self._found[key] if isinstance(self._found[key][0], Piece) else self._found[key][:1]
        if isinstance(pieces[0], Tensor):
            pieces = [_as_piece(pieces[0], self._cut)]
        if not isinstance(pieces[0], Piece):
            return copy.deepcopy(pieces[0])
        made = _put_together(pieces, self._cut if pieces[0].shape else None)
        if made is None:
            told = f"a part of {key} of {self._name} is in no file of the checkpoint"
            raise EngineError("checkpoint_torn", told, _MEND)
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


def _as_piece(whole: Tensor, wanted: Cut | None) -> Piece:
    """Along the dimension that a part of it is wanted of, if one is."""
    dim = wanted.dim if wanted is not None and whole.ndim else None
    part = whole.reshape(-1) if dim is None else whole
    return Piece(tuple(whole.shape), Cut(dim, 0, part.shape[dim or 0]), part)


def _put_together(pieces: Sequence[Piece], cut: Cut | None) -> Tensor | None:
    """None: not all of it is there. Where it was divided in another way, the whole of it is made on the way."""
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
            raise EngineError("checkpoint_torn", f"{_told(folder / name)} is not there", _MEND)
    return [there[name] for name in names]


def _mapped(path: Path) -> dict[str, Any]:
    """Its tensors are read where they are used."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which torch makes of an end that is not there
            raise
        raise EngineError(
            "checkpoint_torn", f"{_told(path)} is not whole: {str(error).splitlines()[0]}", _MEND
        ) from error


def _told(path: Path) -> str:
    return "/".join(path.parts[-3:])
