"""Documents for people to read: the piece of text of each token, and whether it is trained."""

from collections.abc import Iterable
from typing import Any

from transformers import PreTrainedTokenizerFast

from engine.data.corpus import Corpus
from engine.data.pairs import PAIR
from engine.data.pieces import pieces

_SIDES = ("chosen", "rejected")


def documents_as_text(
    corpus: Corpus, documents: Iterable[int], tokenizer: PreTrainedTokenizerFast
) -> list[dict[str, Any]]:
    """Return ids, pieces and marks of the documents; a first token is never a label, as nothing precedes it."""
    paired = corpus.together == PAIR
    return [
        _as_text(corpus, number, tokenizer) | {"answer": _SIDES[number % PAIR] if paired else None}
        for number in documents
    ]


def _as_text(corpus: Corpus, number: int, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    start, end = int(corpus.starts[number]), int(corpus.starts[number + 1])
    ids: list[int] = corpus.ids[start:end].tolist()
    return {
        "line": int(corpus.lines[number]),
        "ids": ids,
        "pieces": pieces(ids, tokenizer),
        "trained": [False, *corpus.trained[start + 1 : end].tolist()],
    }
