"""Talks that run at the same time: those with the same weights are generated in one batch."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from engine.chat.room import NotNow, free_bytes, layers_of, no_room, step_bytes, unused_bytes, values_of
from engine.chat.talk import LONGEST_ANSWER, Talk, reserved, rows_of
from engine.chat.weights import MOST_BASES, Weights
from engine.generation.beams import Beams
from engine.generation.generate import Batch
from engine.generation.writer import Writer
from engine.model.config import config_of, positions_of
from engine.model.forward import decoder_of
from engine.model.load import Subject
from engine.precision import Machine
from engine.rundir import RunDirectory
from engine.stop import StopFlag

_MOST_ROWS = 64
_MOST_TOKENS = 1 << 16
"""The most answers at once, and tokens of keys and values for them, each as long as the longest in its batch. A
question that is answered alone may take more of both, if there is memory for it."""
_CHARACTERS_A_TOKEN = 3
"""An estimate, since a prompt is tokenized only once there is room for it."""
_positions, _config = lru_cache(maxsize=64)(positions_of), lru_cache(maxsize=64)(config_of)
"""Cached, as they are needed at each step for each waiting question; a run directory does not change."""
_LENGTH_MATTERS = {"dynamic", "longrope"}
"""Rotary embeddings that depend on a text's length: in a batch they would follow the longest text."""


class Said(NamedTuple):
    """An item of a talk's stream: a part of an answer, None at the end, or the error that ended it."""

    number: int
    payload: dict[str, Any] | Exception | None


class _Group:
    """Talks with the same weights in one batch, either of samples or of beam searches."""

    def __init__(self, base: str, batch: Batch | Beams, machine: Machine, token_bytes: int, layers: int) -> None:
        self.base = base
        self.batch = batch
        self.talks: list[Talk] = []
        self._machine = machine
        self._token_bytes = token_bytes
        self._layers = layers

    @property
    def width(self) -> int:
        """Tokens for which the longest answer has memory reserved, with its prompt."""
        return max((talk.width for talk in self.talks), default=0)

    @property
    def kept_bytes(self) -> int:
        """Memory of the keys and values, padded to the longest answer."""
        return self.batch.rows * self._grown * self._token_bytes

    @property
    def layer_bytes(self) -> int:
        """Memory of the keys and values of one layer."""
        return self.kept_bytes // self._layers

    @property
    def tokens(self) -> int:
        """Tokens for which memory is reserved, all answers padded to the longest."""
        return self.batch.rows * self.width

    def lacking_bytes(self, rows: int = 0, width: int = 0) -> int:
        """Return the memory by which the batch may still grow, with `rows` more sequences of up to `width` tokens."""
        tokens = (self.batch.rows + rows) * max(self.width, width) - self.batch.rows * self._grown
        return tokens * self._token_bytes

    @property
    def _grown(self) -> int:
        return max((talk.grown for talk in self.talks), default=0)

    def join(self, talk: Talk) -> Iterator[Said]:
        """Read a talk's prompts and begin its answers."""
        others = self.talks
        try:
            with self._machine.autocast():
                wrote = self.batch.join(talk.prompts, talk.writers)
        except Exception:
            self._keep(others)
            raise
        self.talks = [*others, talk]
        yield from self._said(wrote)

    def step(self) -> Iterator[Said]:
        """Generate a token of every answer; talks that were asked to stop end instead."""
        stopped = [talk for talk in self.talks if talk.stop.requested]
        yield from (Said(talk.number, None) for talk in stopped)
        self._keep([talk for talk in self.talks if talk not in stopped])
        if self.talks:
            with self._machine.autocast():
                wrote = self.batch.step()
            yield from self._said(wrote)

    def _said(self, wrote: list[Writer]) -> Iterator[Said]:
        """Yield what the writers wrote last, and the ends of the talks that ended or failed."""
        for talk in self.talks:
            payloads: list[dict[str, Any] | Exception | None] = []
            try:
                payloads += [talk.part(writer) for writer in wrote if writer in talk.writers]
                payloads += [talk.closing(), None] if talk.ended else []
            except Exception as error:  # noqa: BLE001 - it ends its own talk; the others continue
                payloads.append(error)
            yield from (Said(talk.number, payload) for payload in payloads)
            if payloads and not isinstance(payloads[-1], dict):
                self._keep([other for other in self.talks if other is not talk])

    def _keep(self, talks: list[Talk]) -> None:
        """Drop the other talks. They have had their last item, so they get no other if this runs out of memory."""
        self.talks = talks
        staying = {writer for talk in talks for writer in talk.writers}
        self.batch.keep(staying.__contains__)


class Talks:
    """All talks under way. A talk that fails ends alone; a step that fails ends the talks of its batch."""

    def __init__(self, weights: Callable[[], Weights]) -> None:
        """`weights` is called with each first question, not before."""
        self._weights = weights
        self._groups: dict[tuple[int, int, bool], _Group] = {}

    def __bool__(self) -> bool:
        return bool(self._groups)

    def has_room(self, asked: dict[str, Any]) -> bool:
        """Whether the question can be answered before others have ended."""
        if not self._groups:
            return True
        groups = self._groups.values()
        rows = sum(group.batch.rows for group in groups) + rows_of(asked)
        more = self._more_tokens(asked)
        bases = self._in_use | {self._weights().base_of(*_place(asked))}
        tokens = sum(group.tokens for group in groups) + more
        if rows > _MOST_ROWS or tokens > _MOST_TOKENS or len(bases) > MOST_BASES:
            return False
        machine = self._weights().machine
        lacking = sum(group.lacking_bytes() for group in groups) + more * _token_bytes(_place(asked)[0], machine)
        return max(lacking, self._kept_bytes) <= free_bytes(machine)

    def _more_tokens(self, asked: dict[str, Any]) -> int:
        """Return the tokens of memory that the question adds, in the group that it may join where that is most.

        All sequences of the group are padded to the longest of them.
        """
        rows, width = rows_of(asked), _about(asked)
        place = self._weights().base_of(*_place(asked)), asked.get("num_beams", 1) > 1
        joined = [
            (group.batch.rows + rows) * max(group.width, width) - group.tokens
            for (_, by_itself, searches), group in self._groups.items()
            if not by_itself and (group.base, searches) == place
        ]
        return max(joined, default=rows * width)

    def begin(self, number: int, asked: dict[str, Any], stop: StopFlag) -> Iterator[Said]:
        """Read the prompts of a question, and begin its answers.

        Raises:
            SpecError: the question has no answer (Talk).
            NotNow: there is no memory for it beside the others; nothing was yielded.
            OutOfMemory: there is no memory for it even alone.
        """
        weights, (run, digests) = self._weights(), _place(asked)
        subject = weights.of(run, digests, self._in_use)
        talk = Talk(number, subject, asked, stop)
        key = id(subject.model), number if _is_by_itself(subject) else 0, talk.searches
        group = self._groups.get(key)
        if group is None:
            batch, layers = Beams(subject) if talk.searches else Batch(subject), layers_of(_config(run.base_model()))
            base, token_bytes = weights.base_of(run, digests), _token_bytes(run, weights.machine)
            group = _Group(base, batch, weights.machine, token_bytes, layers)
        self._require_memory(asked, talk.width, group)
        yield Said(number, talk.opening())
        yield from group.join(talk)
        if group.talks:
            self._groups[key] = group

    def _require_memory(self, asked: dict[str, Any], width: int, group: _Group) -> None:
        """Check that there is memory for the question in its group; drop idle bases if it takes that.

        Raises:
            NotNow, OutOfMemory: there is not.
        """
        weights = self._weights()
        others = sum(other.lacking_bytes() for other in self._groups.values() if other is not group)
        needed = group.lacking_bytes(rows_of(asked), width) + others
        if needed > free_bytes(weights.machine):
            weights.keep(self._in_use | {group.base})
        free = free_bytes(weights.machine)
        if needed > free:
            if not self._groups:
                raise no_room(asked, width, needed, free)
            weights.keep(self._in_use)  # a base loaded for it would take what is reserved for the others
            raise NotNow

    def step(self) -> Iterator[Said]:
        """Generate a token of every answer."""
        self._cut_short()
        for key, group in list(self._groups.items()):
            try:
                yield from group.step()
            except Exception as error:  # noqa: BLE001 - it ends the talks of this batch; the others continue
                yield from (Said(talk.number, error) for talk in group.talks)
                group.talks = []
            if not group.talks:
                del self._groups[key]

    def _cut_short(self) -> None:
        """When memory is short, cut the longest answer that has outgrown its reservation, as if at max_tokens."""
        outgrown = [talk for group in self._groups.values() for talk in group.talks if talk.has_outgrown]
        largest = max((group.layer_bytes for group in self._groups.values()), default=0)
        if outgrown and step_bytes(largest) > unused_bytes(self._weights().machine):
            max(outgrown, key=lambda talk: talk.grown).cut()

    @property
    def _kept_bytes(self) -> int:
        return sum(group.kept_bytes for group in self._groups.values())

    @property
    def _in_use(self) -> set[str]:
        """The bases of the talks under way."""
        return {group.base for group in self._groups.values()}


def _place(asked: dict[str, Any]) -> tuple[RunDirectory, dict[str, str]]:
    return RunDirectory(Path(asked["run_dir"])), asked["digests"]


def _about(asked: dict[str, Any]) -> int:
    """Estimate the tokens of the longest prompt with an answer as long as it may be."""
    if asked["ask"] == "chat":
        prompt = sum(len(message["content"]) for message in asked["messages"]) // _CHARACTERS_A_TOKEN
    else:
        prompt = max(len(one) // (_CHARACTERS_A_TOKEN if isinstance(one, str) else 1) for one in asked["prompts"])
    positions = _positions(RunDirectory(Path(asked["run_dir"])).base_model())
    room = reserved(asked, asked["max_tokens"] or positions or LONGEST_ANSWER)
    return prompt + room if positions is None else min(prompt + room, positions)


def _token_bytes(run: RunDirectory, machine: Machine) -> int:
    """Return the memory of a token's keys and values."""
    return values_of(_config(run.base_model())) * machine.compute_dtype.itemsize


def _is_by_itself(subject: Subject) -> bool:
    """Whether answers to one question would depend on the other questions in a batch."""
    rope = getattr(decoder_of(subject.model).config, "rope_parameters", None) or {}
    kinds = [rope, *(each for each in rope.values() if isinstance(each, dict))]
    return any(each.get("rope_type") in _LENGTH_MATTERS for each in kinds)
