"""The loss of every token of a few rows: what of an answer, or of a text, the model finds hard."""

import math
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from engine.data.corpus import Corpus, batch_of
from engine.data.stream import documents_in_order
from engine.kinds.eval.loss import scores_of
from engine.kinds.eval.scores import Scores, Setting
from engine.model.forward import token_score
from engine.model.load import Subject


@torch.no_grad()
def token_scores(corpus: Corpus, subject: Subject, setting: Setting) -> Scores:
    """Items are lines of the file, as of the loss, with all tokens of each in `pieces`."""
    subject.model.eval()
    losses_T = np.full(len(corpus.ids), np.nan)
    for documents in documents_in_order(corpus, setting.token_budget):
        setting.stop.check()
        with setting.machine.autocast():
            shares = token_score(subject.model, batch_of(corpus, documents).to(setting.machine.device)).shares
        assert shares is not None, "every label has its share"
        labels = np.concatenate([np.flatnonzero(_scored(corpus, document)) for document in documents])
        starts = np.repeat(corpus.starts[documents], shares.counts)
        losses_T[starts + labels] = shares.losses.double().cpu().numpy()
    scored_T = np.concatenate([_scored(corpus, document) for document in range(len(corpus))])
    losses_S = np.add.reduceat(np.where(scored_T, losses_T, 0.0), corpus.starts[:-1])
    tokens_S = np.add.reduceat(scored_T, corpus.starts[:-1], dtype=np.float64)
    pieces: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for document, line in enumerate(corpus.lines.tolist()):
        tokens = slice(corpus.starts[document], corpus.starts[document + 1])
        pieces[line] += _pieces(corpus.ids[tokens].tolist(), losses_T[tokens], scored_T[tokens], subject.tokenizer)
    made = scores_of(corpus, losses_S, tokens_S)
    return replace(made, items=[item | {"pieces": pieces[item["line"]]} for item in made.items])


def _scored(corpus: Corpus, document: int) -> np.ndarray:
    """Which tokens of a document carry loss: the first has nothing before it."""
    trained = corpus.trained[corpus.starts[document] : corpus.starts[document + 1]].copy()
    trained[0] = False
    return trained


def _pieces(
    ids: list[int], losses: np.ndarray, scored: np.ndarray, tokenizer: PreTrainedTokenizerFast
) -> list[dict[str, Any]]:
    """`loss` is null of what is not trained, and where it is no number."""
    return [
        {"id": ids[at], "text": text, "trained": bool(trained), "loss": float(loss) if math.isfinite(loss) else None}
        for at, (text, loss, trained) in enumerate(zip(_texts(ids, tokenizer), losses, scored, strict=True))
    ]


def _texts(ids: list[int], tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """What each token adds to the one before it: some tokenizers drop a space where a text begins."""
    alone = [str(tokenizer.decode([token])) for token in ids]
    pairs = [str(tokenizer.decode(ids[at : at + 2])) for at in range(len(ids) - 1)]
    return alone[:1] + [pair[len(first) :] for first, pair in zip(alone, pairs, strict=False)]
