"""Answers written token by token, greedy or sampled, several prompts at once over one key/value cache.

B prompts of a batch, padded on the left to T tokens, V tokens in the vocabulary. The model's own attention
does this, not the packed one: one new token attends to all that is cached before it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from engine.model.attention import PACKED
from engine.model.forward import decoder_of, head_of
from engine.model.load import Subject
from engine.precision import Machine
from engine.stop import StopFlag


class Decoding(NamedTuple):
    """How answers are written: greedily at temperature 0, else drawn with a stream of `seed` for every prompt.

    An answer ends with the model's end token, before one of the `stop` strings, or after `max_new_tokens`. Drawn are
    the likeliest tokens that together have `top_p` (Holtzman et al. 2020, arXiv:1904.09751). `logprobs` asks for those
    of each token, as the model has them, and of so many of the likeliest beside it.
    """

    max_new_tokens: int
    temperature: float = 0.0
    stop: tuple[str, ...] = ()
    seed: tuple[int, ...] = (0,)
    top_p: float = 1.0
    logprobs: int | None = None


class Scores(NamedTuple):
    """Of a token that was written: its log-probability, and the likeliest tokens with theirs."""

    logprob: float
    likeliest: list[tuple[int, float]]


class Answer(NamedTuple):
    """What was written, without what ended it; `finished`: it did not run into max_new_tokens."""

    text: str
    tokens: int
    finished: bool


@torch.no_grad()
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
            for _ in _write(decoder_of(subject.model), [prompts[row] for row in rows], writers, stop):
                pass
            answers |= {row: writer.answer() for row, writer in zip(rows, writers, strict=True)}
    return [answers[row] for row in range(len(prompts))]


@torch.no_grad()
def stream(
    subject: Subject, prompts: Sequence[list[int]], decoding: Decoding, machine: Machine, stop: StopFlag
) -> Iterator[list["Writer"]]:
    """The same, all prompts at once, told as it comes: after each step, those that have written a token.

    Raises:
        StopRequested: asked to stop between two tokens.
    """
    writers = [Writer(subject, decoding, row) for row in range(len(prompts))]
    with _writing(subject), machine.autocast():
        yield from _write(decoder_of(subject.model), list(prompts), writers, stop)


@contextmanager
def _writing(subject: Subject) -> Iterator[None]:
    """The model in eval mode and with its own attention; afterwards as it was."""
    model, decoder = subject.model, decoder_of(subject.model)
    was_training = model.training
    model.eval()
    decoder.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        decoder.set_attn_implementation(PACKED)
        model.train(was_training)


class Writer:
    """One answer as it grows."""

    def __init__(self, subject: Subject, decoding: Decoding, row: int) -> None:
        self.row = row
        self.tokenizer = subject.tokenizer
        self.decoding = decoding
        self.ends = end_tokens(subject)
        self.rng = np.random.default_rng((*decoding.seed, row))
        self.ids: list[int] = []
        self.scores: list[Scores] = []
        self.finished = False
        # A stop string ends with the newest token, so no more than its own bytes' worth of tokens need be read.
        self.tail = max((len(text.encode()) for text in decoding.stop), default=0) + 1

    def choose(self, logits_V: Tensor) -> int:
        """The next token: the likeliest, or one drawn by inverting the distribution function."""
        if self.decoding.temperature == 0:
            token = int(logits_V.argmax())
        else:
            shares_V = self._nucleus((logits_V.double() / self.decoding.temperature).softmax(-1)).cumsum(-1)
            drawn = float(self.rng.random()) * float(shares_V[-1])
            token = int(torch.searchsorted(shares_V, drawn, right=True).clamp_max(len(shares_V) - 1))
        self.ids.append(token)
        if self.decoding.logprobs is not None:
            self.scores.append(_scores(logits_V, token, self.decoding.logprobs))
        self.finished = token in self.ends or self._stops(self._text(self.ids[-self.tail :]))
        return token

    def _nucleus(self, shares_V: Tensor) -> Tensor:
        """Nothing left of the tokens that are not among the likeliest, of which one at least stays."""
        if self.decoding.top_p >= 1:
            return shares_V
        ranked_V, order_V = shares_V.sort(descending=True)
        kept_V = ranked_V.cumsum(-1) - ranked_V < self.decoding.top_p
        kept_V[0] = True
        return torch.zeros_like(shares_V).scatter(0, order_V[kept_V], ranked_V[kept_V])

    @property
    def ended(self) -> bool:
        return self.finished or len(self.ids) == self.decoding.max_new_tokens

    def _stops(self, text: str) -> bool:
        return any(stop in text for stop in self.decoding.stop)

    def _text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def answer(self) -> Answer:
        text = self._text(self.ids)
        for stop in self.decoding.stop:
            text = text.partition(stop)[0]
        return Answer(text, len(self.ids), self.finished)


def _scores(logits_V: Tensor, token: int, count: int) -> Scores:
    logprobs_V = logits_V.log_softmax(-1)
    values, tokens = logprobs_V.topk(min(count, len(logprobs_V)))
    return Scores(float(logprobs_V[token]), list(zip(tokens.tolist(), values.tolist(), strict=True)))


def end_tokens(subject: Subject) -> frozenset[int]:
    """Tokens that end an answer: the tokenizer's end of text, and those of the model's generation config."""
    named = decoder_of(subject.model).generation_config.eos_token_id
    listed = named if isinstance(named, list) else [named]
    return frozenset(token for token in (subject.tokenizer.eos_token_id, *listed) if isinstance(token, int))


def _write(decoder: Any, prompts: list[list[int]], writers: list[Writer], stop: StopFlag) -> Iterator[list[Writer]]:
    """Write on until all writers have ended; those that have leave the batch."""
    backbone, head = getattr(decoder, decoder.base_model_prefix), head_of(decoder)
    ids_BT, seen_BT = (states.to(decoder.device) for states in _padded(prompts))
    places_BT = (seen_BT.cumsum(-1) - 1).clamp_min(0)
    cache = DynamicCache()
    while True:
        stop.check()
        out = backbone(
            input_ids=ids_BT, attention_mask=seen_BT, position_ids=places_BT, past_key_values=cache, use_cache=True
        )
        logits_BV = head(out.last_hidden_state[:, -1]).float()
        tokens = [writer.choose(logits_V) for writer, logits_V in zip(writers, logits_BV, strict=True)]
        yield writers
        going = [row for row, writer in enumerate(writers) if not writer.ended]
        if not going:
            return
        if len(going) < len(writers):
            kept = torch.tensor(going, device=ids_BT.device)
            cache.batch_select_indices(kept)
            seen_BT, places_BT = seen_BT[kept], places_BT[kept]
            writers = [writers[row] for row in going]
        ids_BT = torch.tensor([[tokens[row]] for row in going], device=ids_BT.device)
        seen_BT = torch.cat([seen_BT, seen_BT.new_ones(len(going), 1)], dim=1)
        places_BT = places_BT[:, -1:] + 1


def _padded(prompts: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Prompts side by side, their ends aligned, and where they are; what stands in the padding is never seen."""
    width = max(map(len, prompts))
    ids_BT = torch.zeros(len(prompts), width, dtype=torch.long)
    seen_BT = torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids_BT[row, width - len(prompt) :] = torch.tensor(prompt)
        seen_BT[row, width - len(prompt) :] = 1
    return ids_BT, seen_BT
