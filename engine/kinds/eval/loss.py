"""Loss, perplexity and bits per byte of the rows."""

import math

import numpy as np
import torch

from engine.data.corpus import Corpus, batch_of
from engine.data.stream import documents_in_order
from engine.data.supply import Seen
from engine.intervals import Figure, Floats
from engine.kinds.eval.reading import Reading
from engine.kinds.eval.scores import Scores, Setting
from engine.model.load import Subject
from engine.model.logprobs import document_logprobs


@torch.no_grad()
def loss_scores(corpus: Corpus, subject: Subject, setting: Setting) -> Scores:
    """Score the documents of a corpus. Items are lines of the file; the documents that a line was cut into are one item.

    Bits per byte are over the text of the labels (of conversations, the answers). End tokens have bits but no bytes, so
    the figure is slightly too high.
    """
    subject.model.eval()
    losses_S, tokens_S = np.zeros(len(corpus)), np.zeros(len(corpus))
    batches = list(documents_in_order(corpus, setting.token_budget))
    found = setting.ranks.divide(batches, lambda mine: [_scored(corpus, each, subject, setting) for each in mine])
    for documents, (losses, tokens) in zip(batches, found, strict=True):
        losses_S[documents], tokens_S[documents] = losses, tokens
    return scores_of(corpus, losses_S, tokens_S)


def read_documents(seen: Seen, setting: Setting) -> Reading:
    """Count what `loss_scores` will put through a model: the same batches."""
    corpus = seen.cut.corpus
    for documents in documents_in_order(corpus, setting.token_budget):
        setting.stop.check()
        setting.passes.read(batch_of(corpus, documents))
    return Reading.of_documents(seen)


def scores_of(corpus: Corpus, losses_S: Floats, tokens_S: Floats) -> Scores:
    """Add the losses of the documents up by line; `tokens_S` are their numbers of labels."""
    lines, line_of_S = np.unique(corpus.lines, return_inverse=True)
    losses, tokens, sizes = (
        np.bincount(line_of_S, weights=each).astype(np.float64) for each in (losses_S, tokens_S, corpus.sizes_bytes)
    )
    figures = {"eval_loss": Figure(losses, tokens)}
    if sizes.sum():
        figures["eval_bits_per_byte"] = Figure(losses / math.log(2), sizes)
    mean = figures["eval_loss"].mean
    return Scores(
        lines=lines.tolist(),
        figures=figures,
        items=[
            {"line": int(line), "loss": loss / count if count else None, "tokens": int(count)}
            for line, loss, count in zip(lines, losses, tokens, strict=True)
        ],
        facts={
            "eval_perplexity": math.exp(min(mean, 700.0)),
            "eval_tokens": float(tokens.sum()),
            "eval_rows": float(len(lines)),
        },
    )


def _scored(corpus: Corpus, documents: list[int], subject: Subject, setting: Setting) -> tuple[Floats, Floats]:
    """Return, for each document, the summed -log p of its labels and their number."""
    setting.stop.check()
    batch = batch_of(corpus, documents)
    setting.passes.read(batch)
    with setting.machine.autocast():
        logprobs_S, counts_S = document_logprobs(subject.model, batch.to(setting.machine.device))
    return -logprobs_S.double().cpu().numpy(), counts_S.double().cpu().numpy()
