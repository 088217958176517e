"""Writers: each chooses the tokens of one answer and holds what it has so far; `Decoding` has the rules."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from engine.data.answers import closing_token
from engine.model.forward import decoder_of
from engine.model.load import Subject

_COLDEST = 1e-5
"""Temperatures below it mean 0: sampling would choose the likeliest token too, or overflow."""


class Decoding(NamedTuple):
    """How answers are generated: greedily at temperature 0, else sampled, with a random stream per prompt from `seed`.

    An answer ends with an end token of the model, before one of the `stop` strings, or after `max_new_tokens`. A stop
    string may be an added token, such as a marker of the chat template, although the text leaves such tokens out. Tokens
    are sampled from the likeliest ones that together have probability `top_p` (Holtzman et al. 2020,
    arXiv:1904.09751). `logprobs`, if not None, requests the model's log-probability of each token, and those of this
    many of the likeliest tokens in its place.
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
    """The log-probability of a chosen token, and the likeliest tokens in its place with theirs."""

    logprob: float
    likeliest: list[tuple[int, float]]


class Answer(NamedTuple):
    """The text without its end token or stop string; `finished` is false where max_new_tokens cut it short."""

    text: str
    tokens: int
    finished: bool


class Writer:
    """One answer while it is generated."""

    def __init__(self, subject: Subject, decoding: Decoding, row: int) -> None:
        self.row = row
        self.tokenizer = subject.tokenizer
        self.decoding = decoding
        self.ends = end_tokens(subject.model, subject.tokenizer) | _added_tokens(subject.tokenizer, decoding.stop)
        self.skipped = _special_tokens(subject.tokenizer) if decoding.stop else frozenset[int]()
        self.rng = np.random.default_rng((*decoding.seed, row))
        self.ids: list[int] = []
        self.scores: list[Scores] = []
        self.finished = False
        # A stop string that is complete ends in the newest token, and a token with a text has at least a byte of it.
        self.tail = max((len(text.encode()) for text in decoding.stop), default=0) + 1

    def choose(self, logits_V: Tensor) -> int:
        """Choose and take the next token: the likeliest, or one sampled by inverting the distribution function."""
        if self.decoding.temperature < _COLDEST:
            token = int(logits_V.argmax())
        else:
            shares_V = self._nucleus((logits_V.double() / self.decoding.temperature).softmax(-1)).cumsum(-1)
            drawn = float(self.rng.random()) * float(shares_V[-1])
            token = int(torch.searchsorted(shares_V, drawn, right=True).clamp_max(len(shares_V) - 1))
        count = self.decoding.logprobs
        self.take(token, None if count is None else scores_of(logits_V, token, count))
        return token

    def take(self, token: int, scores: Scores | None) -> None:
        """Append a token that was chosen."""
        self.ids.append(token)
        if scores is not None:
            self.scores.append(scores)
        self.finished = self.is_end(self.ids)

    def is_end(self, ids: Sequence[int]) -> bool:
        """Whether the last of these tokens ends an answer: it is an end token, or completes a stop string."""
        if ids[-1] in self.ends:
            return True
        if not self.decoding.stop:
            return False
        tail = list(islice((token for token in reversed(ids) if token not in self.skipped), self.tail))
        return self._stops(self._text(tail[::-1]))

    def _nucleus(self, shares_V: Tensor) -> Tensor:
        """Zero the probabilities outside of `top_p`; the likeliest token always stays."""
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
    """Return the log-probability of a token, and the `count` likeliest tokens with theirs."""
    logprobs_V = logits_V.log_softmax(-1)
    values, tokens = logprobs_V.topk(min(count, len(logprobs_V)))
    return Scores(float(logprobs_V[token]), list(zip(tokens.tolist(), values.tolist(), strict=True)))


def end_tokens(model: nn.Module, tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
    """Return the tokens that end an answer.

    They are the tokenizer's eos_token, those of the model's generation config, and the one with which the chat template
    closes an answer: base models of Qwen have a template whose `<|im_end|>` is in neither of the others.
    """
    tokens = (tokenizer.eos_token_id, *_configured_ends(model), _closing_token(tokenizer, str(tokenizer.chat_template)))
    return frozenset(token for token in tokens if isinstance(token, int))


def save_ends(model: nn.Module, tokenizer: PreTrainedTokenizerFast) -> None:
    """Put the end tokens into the generation config that is saved with a model, so that other software uses them."""
    ends = sorted(end_tokens(model, tokenizer))
    if set(ends) != set(_configured_ends(model)):
        decoder_of(model).generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]


def _configured_ends(model: nn.Module) -> list[int]:
    """Return the end tokens of a model's generation config."""
    ids = decoder_of(model).generation_config.eos_token_id
    return [] if ids is None else ids if isinstance(ids, list) else [ids]


@lru_cache(maxsize=4)
def _closing_token(tokenizer: PreTrainedTokenizerFast, _template: str) -> int | None:
    """Cache the closing token, which every writer needs; `_template` is in the key as a template may be set later."""
    return closing_token(tokenizer)


def _added_tokens(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> frozenset[int]:
    """Return the added tokens whose whole content is one of the texts."""
    added = tokenizer.get_added_vocab() if texts else {}
    return frozenset(added[text] for text in texts if text in added)


def _special_tokens(tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
    """Return the tokens that the text of an answer leaves out."""
    return frozenset(token for token, added in tokenizer.added_tokens_decoder.items() if added.special)
