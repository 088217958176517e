"""The sequences of a batch and their key/value cache.

B sequences, padded on the left to T tokens; V tokens in the vocabulary. The model's own attention is used, not the
packed one: a new token attends to all that is cached before it.
"""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache

from engine.model.forward import decoder_of, head_of
from engine.model.load import Subject


class Texts:
    """Sequences that grow by a token at a time, with the keys and values of the tokens that the model has read."""

    def __init__(self, subject: Subject) -> None:
        decoder = decoder_of(subject.model)
        self._backbone, self._head = getattr(decoder, decoder.base_model_prefix), head_of(decoder)
        self._device = decoder.device
        self._cache: Any = DynamicCache()  # its layers hold keys and values, [B, heads, T, width of a head]
        self._seen_BT = torch.zeros(0, 0, dtype=torch.long, device=self._device)
        self._place_B1 = torch.zeros(0, 1, dtype=torch.long, device=self._device)

    def __len__(self) -> int:
        return self._seen_BT.shape[0]

    @property
    def width(self) -> int:
        """Length of the longest sequence in tokens, T."""
        return self._seen_BT.shape[1]

    def begin(self, prompts: Sequence[list[int]]) -> Tensor:
        """Read the prompts as the first sequences; returns the [B, V] logits of their next tokens."""
        ids_BT, self._seen_BT = (states.to(self._device) for states in _padded(prompts))
        places_BT = (self._seen_BT.cumsum(-1) - 1).clamp_min(0)
        self._place_B1 = places_BT[:, -1:]
        return self._logits(ids_BT, places_BT)

    def extend(self, tokens: Sequence[int]) -> Tensor:
        """Add a token to each sequence; returns the [B, V] logits of the next ones."""
        last_B1 = torch.tensor(tokens, device=self._device)[:, None]
        self._seen_BT = pad(self._seen_BT, (0, 1), value=1)
        self._place_B1 = self._place_B1 + 1
        return self._logits(last_B1, self._place_B1)

    def add(self, others: Self) -> None:
        """Append the sequences of `others`, which must not be used afterwards."""
        if not len(self):
            self._cache, self._seen_BT, self._place_B1 = others._cache, others._seen_BT, others._place_B1
            return
        width = max(self.width, others.width)
        both = [
            (_below(ours.keys, theirs.keys, width), _below(ours.values, theirs.values, width))
            for ours, theirs in zip(self._cache.layers, others._cache.layers, strict=True)
        ]
        for layer, (keys, values) in zip(self._cache.layers, both, strict=True):
            layer.keys, layer.values = keys, values
        padded = pad(self._seen_BT, (width - self.width, 0)), pad(others._seen_BT, (width - others.width, 0))
        self._seen_BT = torch.cat(padded)
        self._place_B1 = torch.cat([self._place_B1, others._place_B1])

    def take(self, rows: Sequence[int]) -> None:
        """Keep these rows alone, in this order, perhaps repeated; columns that are padding in all are removed."""
        if list(rows) == list(range(len(self))):
            return
        rows_B = torch.tensor(rows, dtype=torch.long, device=self._device)
        seen_BT = self._seen_BT[rows_B]
        unseen = int((seen_BT.cumsum(-1).amax(0) == 0).sum()) if rows else 0
        self._seen_BT, self._place_B1 = seen_BT[:, unseen:], self._place_B1[rows_B]
        for layer in self._cache.layers:
            layer.keys = layer.keys[rows_B, :, unseen:]
            layer.values = layer.values[rows_B, :, unseen:]

    @torch.no_grad()
    def _logits(self, ids_BT: Tensor, places_BT: Tensor) -> Tensor:
        out = self._backbone(
            input_ids=ids_BT,
            attention_mask=self._seen_BT,
            position_ids=places_BT,
            past_key_values=self._cache,
            use_cache=True,
        )
        return self._head(out.last_hidden_state[:, -1]).float()


def _below(ours: Tensor, theirs: Tensor, width: int) -> Tensor:
    """Stack both along the batch, padded on the left to `width` tokens."""
    return torch.cat([pad(states, (0, 0, width - states.shape[-2], 0)) for states in (ours, theirs)])


def _padded(prompts: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
    """Return the prompts padded on the left, and a mask of their tokens: 0 is padding, which no token attends to."""
    width = max(map(len, prompts))
    ids_BT = torch.zeros(len(prompts), width, dtype=torch.long)
    seen_BT = torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids_BT[row, width - len(prompt) :] = torch.tensor(prompt)
        seen_BT[row, width - len(prompt) :] = 1
    return ids_BT, seen_BT
