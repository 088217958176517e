"""A writer: how an answer is written token by token, and what has been written of it."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from engine.data.answers import closing_token
from engine.model.forward import decoder_of
from engine.model.load import Subject


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
    num_beams: int = 1
    length_penalty: float = 1.0


class Scores(NamedTuple):
    """Of a token that was written: its log-probability, and the likeliest tokens with theirs."""

    logprob: float
    likeliest: list[tuple[int, float]]


class Answer(NamedTuple):
    """What was written, without what ended it; `finished`: it did not run into max_new_tokens."""

    text: str
    tokens: int
    finished: bool


class Writer:
    """One answer as it grows."""

    def __init__(self, subject: Subject, decoding: Decoding, row: int) -> None:
        self.row = row
        self.tokenizer = subject.tokenizer
        self.decoding = decoding
        self.ends = end_tokens(subject.model, subject.tokenizer)
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
        asked = self.decoding.logprobs
        self.take(token, None if asked is None else scores_of(logits_V, token, asked))
        return token

    def take(self, token: int, scores: Scores | None) -> None:
        """It comes next."""
        self.ids.append(token)
        if scores is not None:
            self.scores.append(scores)
        self.finished = self.is_end(self.ids)

    def is_end(self, ids: Sequence[int]) -> bool:
        """Whether an answer whose newest tokens are these has come to its end by the last of them."""
        if ids[-1] in self.ends:
            return True
        return bool(self.decoding.stop) and self._stops(self._text(list(ids[-self.tail :])))

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
        ended = bool(self.ids) and self.ids[-1] in self.ends
        text = self._text(self.ids[:-1] if ended else self.ids)
        for stop in self.decoding.stop:
            text = text.partition(stop)[0]
        return Answer(text, len(self.ids), self.finished)


def scores_of(logits_V: Tensor, token: int, count: int) -> Scores:
    """Of a token, among so many of the likeliest."""
    logprobs_V = logits_V.log_softmax(-1)
    values, tokens = logprobs_V.topk(min(count, len(logprobs_V)))
    return Scores(float(logprobs_V[token]), list(zip(tokens.tolist(), values.tolist(), strict=True)))


def end_tokens(model: nn.Module, tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
    """Tokens that end an answer.

    The tokenizer's end of text, those of the model's generation config, and what the chat template closes an answer with:
    base models of Qwen have a template whose `<|im_end|>` neither of the others names.
    """
    named = decoder_of(model).generation_config.eos_token_id
    listed = named if isinstance(named, list) else [named]
    tokens = (tokenizer.eos_token_id, *listed, _closing_token(tokenizer, str(tokenizer.chat_template)))
    return frozenset(token for token in tokens if isinstance(token, int))


def say_ends(model: nn.Module, tokenizer: PreTrainedTokenizerFast) -> None:
    """Into the generation config that is saved with a model, so that whoever writes with it ends answers likewise."""
    ends = end_tokens(model, tokenizer)
    if len(ends) > 1:
        decoder_of(model).generation_config.eos_token_id = sorted(ends)


@lru_cache(maxsize=4)
def _closing_token(tokenizer: PreTrainedTokenizerFast, _template: str) -> int | None:
    """Every answer asks for it; a tokenizer may be given a template later."""
    return closing_token(tokenizer)
