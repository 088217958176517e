"""The loss of every token of a few rows, which shows what in an answer or a text the model finds hard."""

import math
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from engine.data.corpus import Corpus, batch_of
from engine.data.documents import documents_as_text
from engine.data.stream import documents_in_order
from engine.intervals import Floats
from engine.kinds.eval.loss import scores_of
from engine.kinds.eval.scores import Scores, Setting
from engine.model.forward import token_score
from engine.model.load import Subject

_OF_TOKENS = ("ids", "pieces", "trained", "losses")


@torch.no_grad()
def token_scores(corpus: Corpus, subject: Subject, setting: Setting) -> Scores:
    """Score the rows token by token. Items are lines of the file, each with its tokens; `losses` are null where not trained."""
    subject.model.eval()
    batches = list(documents_in_order(corpus, setting.token_budget))
    found = setting.ranks.divide(batches, lambda mine: [_label_losses(corpus, each, subject, setting) for each in mine])
    losses: dict[int, Floats] = {}
    for documents, parts in zip(batches, found, strict=True):
        losses |= dict(zip(documents, parts, strict=True))
    in_order = range(len(corpus))
    read: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for number, document in enumerate(documents_as_text(corpus, in_order, subject.tokenizer)):
        read[document["line"]].append(document | {"losses": _by_token(document["trained"], losses[number])})
    made = scores_of(
        corpus, np.array([losses[number].sum() for number in in_order]), np.array([len(losses[n]) for n in in_order])
    )
    return replace(made, items=[item | _joined(read[item["line"]]) for item in made.items])


def _label_losses(corpus: Corpus, documents: list[int], subject: Subject, setting: Setting) -> list[Floats]:
    """Return the loss of each label of each document, computed as in training."""
    setting.stop.check()
    batch = batch_of(corpus, documents)
    setting.passes.read(batch)
    with setting.machine.autocast():
        shares = token_score(subject.model, batch.to(setting.machine.device)).shares
    assert shares is not None, "every label has its share"
    losses_N = shares.losses.double().cpu().numpy()
    return np.split(losses_N, np.cumsum(shares.counts)[:-1])


def _by_token(trained: list[bool], losses: Floats) -> list[float | None]:
    left = iter(losses.tolist())
    at_each = [next(left) if label else None for label in trained]
    return [loss if loss is not None and math.isfinite(loss) else None for loss in at_each]


def _joined(documents: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Concatenate the windows of a text that begin on one line."""
    return {name: [each for document in documents for each in document[name]] for name in _OF_TOKENS}
