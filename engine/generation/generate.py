"""Greedy decoding and sampling: `generate` answers a list of prompts, `Batch` is the batch of answers under way."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from engine.generation.texts import Texts
from engine.generation.writer import Answer, Decoding, Writer
from engine.model.attention import PACKED
from engine.model.forward import decoder_of
from engine.model.load import Subject
from engine.precision import Machine
from engine.stop import StopFlag

OWN_ATTENTION = "sdpa"
"""The attention of a model that generates: its own, since the packed one does not read a key/value cache."""


def generate(
    subject: Subject,
    prompts: Sequence[list[int]],
    decoding: Decoding,
    machine: Machine,
    stop: StopFlag,
    *,
    rows_at_once: int,
    numbers: Sequence[int] | None = None,
) -> list[Answer]:
    """Return an answer to every prompt, in their order. Global random state is neither read nor changed.

    Every prompt has a random stream of its own by its number, which is its place in `prompts` or is given in `numbers`:
    a part of the prompts gets the same answers as it does among all of them.

    Raises:
        StopRequested: asked to stop between two tokens.
    """
    answers: dict[int, Answer] = {}
    with _writing(subject), machine.autocast(passes=True):
        for rows in side_by_side(prompts, rows_at_once):
            writers = [Writer(subject, decoding, row if numbers is None else numbers[row]) for row in rows]
            batch = Batch(subject)
            stop.check()
            batch.join([prompts[row] for row in rows], writers)
            while batch.writers:
                stop.check()
                batch.step()
            answers |= {row: writer.answer() for row, writer in zip(rows, writers, strict=True)}
    return [answers[row] for row in range(len(prompts))]


def side_by_side(prompts: Sequence[list[int]], rows_at_once: int) -> list[list[int]]:
    """Return the indices of the prompts in batches of like length."""
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    return [order[start : start + rows_at_once] for start in range(0, len(order), rows_at_once)]


@contextmanager
def _writing(subject: Subject) -> Iterator[None]:
    """Put the model in eval mode and give it its own attention; restore both afterwards."""
    model, decoder = subject.model, decoder_of(subject.model)
    was_training = model.training
    model.eval()
    decoder.set_attn_implementation(OWN_ATTENTION)
    try:
        yield
    finally:
        decoder.set_attn_implementation(PACKED)
        model.train(was_training)


class Batch:
    """Answers that are generated together, a token each per step. Others join between steps; finished ones leave."""

    def __init__(self, subject: Subject) -> None:
        self.writers: list[Writer] = []
        self._subject = subject
        self._texts = Texts(subject)

    @property
    def rows(self) -> int:
        """Number of sequences in the batch."""
        return len(self._texts)

    def join(self, prompts: Sequence[list[int]], writers: Sequence[Writer]) -> list[Writer]:
        """Read the prompts and choose the first token of each writer; returns the writers.

        Every prompt has equally many writers, and they are in the order of the prompts.
        """
        each = len(writers) // len(prompts)
        texts = Texts(self._subject)
        logits_PV = texts.begin(prompts)
        for number, writer in enumerate(writers):
            writer.choose(logits_PV[number // each])
        staying = [number for number, writer in enumerate(writers) if not writer.ended]
        if staying:
            texts.take([number // each for number in staying])
            self._texts.add(texts)
            self.writers = [*self.writers, *(writers[number] for number in staying)]
        return list(writers)

    def step(self) -> list[Writer]:
        """Choose the next token of each writer; returns them all, and drops those that have ended from the batch."""
        wrote = self.writers
        logits_BV = self._texts.extend([writer.ids[-1] for writer in wrote])
        for writer, logits_V in zip(wrote, logits_BV, strict=True):
            writer.choose(logits_V)
        self.keep(lambda writer: not writer.ended)
        return wrote

    def keep(self, stays: Callable[[Writer], bool]) -> None:
        """Drop the writers for which `stays` is false."""
        rows = [row for row, writer in enumerate(self.writers) if stays(writer)]
        if len(rows) < len(self.writers):
            self.writers = [self.writers[row] for row in rows]
            self._texts.take(rows)
