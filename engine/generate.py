"""Answers written side by side over one key/value cache, greedy or sampled.

B answers of a batch, padded on the left to T tokens, V tokens in the vocabulary. The model's own attention
does this, not the packed one: one new token attends to all that is cached before it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache

from engine.model.attention import PACKED
from engine.model.forward import decoder_of, head_of
from engine.model.load import Subject
from engine.precision import Machine
from engine.stop import StopFlag
from engine.writer import Answer, Decoding, Writer

OWN_ATTENTION = "sdpa"
"""What a model that writes is set to."""


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
    """An answer to every prompt, in their order. Global random state is neither read nor moved.

    `numbers` are those of the prompts among all that are answered, where these are a part: what each draws is its own.

    Raises:
        StopRequested: asked to stop between two tokens.
    """
    answers: dict[int, Answer] = {}
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    with _writing(subject), machine.autocast():
        for start in range(0, len(order), rows_at_once):
            rows = order[start : start + rows_at_once]
            writers = [Writer(subject, decoding, row if numbers is None else numbers[row]) for row in rows]
            batch = Batch(subject)
            stop.check()
            batch.join([prompts[row] for row in rows], writers)
            while batch.writers:
                stop.check()
                batch.step()
            answers |= {row: writer.answer() for row, writer in zip(rows, writers, strict=True)}
    return [answers[row] for row in range(len(prompts))]


@contextmanager
def _writing(subject: Subject) -> Iterator[None]:
    """The model in eval mode and with its own attention; afterwards as it was."""
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
    """Answers that grow together, a token each a step. Others may join between two steps; who has ended leaves."""

    def __init__(self, subject: Subject) -> None:
        decoder = decoder_of(subject.model)
        self._backbone, self._head = getattr(decoder, decoder.base_model_prefix), head_of(decoder)
        self._device = decoder.device
        self.writers: list[Writer] = []
        self._cache: Any = DynamicCache()  # whose layers hold keys and values, [B, heads, T, width of a head]
        self._seen_BT = torch.zeros(0, 0, dtype=torch.long, device=self._device)
        self._place_B1 = torch.zeros(0, 1, dtype=torch.long, device=self._device)

    @property
    def width(self) -> int:
        """Tokens of the longest, T."""
        return self._seen_BT.shape[1]

    @torch.no_grad()
    def join(self, prompts: Sequence[list[int]], writers: Sequence[Writer]) -> None:
        """Their prompts are read, and each of them writes its first token."""
        ids_BT, seen_BT = (states.to(self._device) for states in _padded(prompts))
        places_BT = (seen_BT.cumsum(-1) - 1).clamp_min(0)
        cache: Any = DynamicCache()
        self._write(writers, ids_BT, seen_BT, places_BT, cache)
        if self.writers:
            width = max(seen_BT.shape[1], self._seen_BT.shape[1])
            both = [
                (_below(ours.keys, theirs.keys, width), _below(ours.values, theirs.values, width))
                for ours, theirs in zip(self._cache.layers, cache.layers, strict=True)
            ]
            for layer, (keys, values) in zip(self._cache.layers, both, strict=True):  # all of them or none
                layer.keys, layer.values = keys, values
            padded = [pad(seen, (width - seen.shape[1], 0)) for seen in (self._seen_BT, seen_BT)]
            self._seen_BT = torch.cat(padded)
            self._place_B1 = torch.cat([self._place_B1, places_BT[:, -1:]])
        else:
            self._cache, self._seen_BT, self._place_B1 = cache, seen_BT, places_BT[:, -1:]
        self.writers = [*self.writers, *writers]
        self.keep(lambda writer: not writer.ended)

    @torch.no_grad()
    def step(self) -> list[Writer]:
        """Each writes its next token; these are they, of whom those that have ended have left."""
        wrote = self.writers
        last_B1 = torch.tensor([[writer.ids[-1]] for writer in wrote], device=self._device)
        self._seen_BT = pad(self._seen_BT, (0, 1), value=1)
        self._place_B1 = self._place_B1 + 1
        self._write(wrote, last_B1, self._seen_BT, self._place_B1, self._cache)
        self.keep(lambda writer: not writer.ended)
        return wrote

    def keep(self, stays: Callable[[Writer], bool]) -> None:
        """The others leave, and what nobody sees any more is forgotten."""
        rows = [row for row, writer in enumerate(self.writers) if stays(writer)]
        if len(rows) == len(self.writers):
            return
        self.writers = [self.writers[row] for row in rows]
        kept_B = torch.tensor(rows, dtype=torch.long, device=self._device)
        seen_BT = self._seen_BT[kept_B]
        unseen = int((seen_BT.cumsum(-1).amax(0) == 0).sum()) if rows else 0
        self._seen_BT, self._place_B1 = seen_BT[:, unseen:], self._place_B1[kept_B]
        for layer in self._cache.layers:
            layer.keys = layer.keys[kept_B, :, unseen:]
            layer.values = layer.values[kept_B, :, unseen:]

    def _write(
        self, writers: Sequence[Writer], ids_BT: Tensor, seen_BT: Tensor, places_BT: Tensor, cache: DynamicCache
    ) -> None:
        out = self._backbone(
            input_ids=ids_BT, attention_mask=seen_BT, position_ids=places_BT, past_key_values=cache, use_cache=True
        )
        logits_BV = self._head(out.last_hidden_state[:, -1]).float()
        for writer, logits_V in zip(writers, logits_BV, strict=True):
            writer.choose(logits_V)


def _below(ours: Tensor, theirs: Tensor, width: int) -> Tensor:
    """Both over one another, their last columns aligned."""
    return torch.cat([pad(states, (0, 0, width - states.shape[-2], 0)) for states in (ours, theirs)])


def _padded(prompts: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
    """Prompts side by side, their ends aligned, and where they are; what stands in the padding is never seen."""
    width = max(map(len, prompts))
    ids_BT = torch.zeros(len(prompts), width, dtype=torch.long)
    seen_BT = torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids_BT[row, width - len(prompt) :] = torch.tensor(prompt)
        seen_BT[row, width - len(prompt) :] = 1
    return ids_BT, seen_BT
