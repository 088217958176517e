"""The likelihood of given texts after given contexts, from which multiple choice is scored."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from engine.data.corpus import Batch
from engine.model.forward import backbone_of, head_of
from engine.model.loss import chunks, head_width
from engine.precision import Machine
from engine.stop import StopFlag


class Request(NamedTuple):
    """The tokens of a context and of its continuation; neither is empty."""

    context: list[int]
    continuation: list[int]


class Likelihood(NamedTuple):
    """The log-probability of a continuation; `is_greedy` if each of its tokens is the likeliest of the vocabulary."""

    logprob: float
    is_greedy: bool


@torch.no_grad()
def likelihoods(
    model: nn.Module,
    requests: Sequence[Request],
    machine: Machine,
    stop: StopFlag,
    *,
    token_budget: int,
    read: Callable[[Batch], None] = lambda _: None,
) -> list[Likelihood]:
    """Return the likelihoods in the order of the requests; `read` is called with each batch before it is scored."""
    was_training = model.training
    model.eval()
    found: dict[int, Likelihood] = {}
    for asked, batch in packed(requests, token_budget):
        stop.check()
        read(batch)
        with machine.autocast():
            scored = _score(model, batch.to(machine.device))
        starts = np.cumsum([0, *(len(requests[number].continuation) for number in asked[:-1])])
        sums, greedy = np.add.reduceat(scored[0], starts), np.logical_and.reduceat(scored[1], starts)
        found |= {number: Likelihood(float(s), bool(g)) for number, s, g in zip(asked, sums, greedy, strict=True)}
    model.train(was_training)
    return [found[number] for number in range(len(requests))]


def packed(requests: Sequence[Request], token_budget: int) -> Iterator[tuple[list[int], Batch]]:
    """Yield the batches that answer the requests, each with the numbers of its requests in the order of its labels.

    Requests that read the same tokens share one document. A continuation's last token is never read: four letters
    after one prompt cost one forward pass.
    """
    for documents in _batches(requests, token_budget):
        yield [number for _, numbers in documents for number in numbers], _row(documents, requests)


_Document = tuple[tuple[int, ...], list[int]]
"""The tokens that are read, and the requests that they answer."""


def _batches(requests: Sequence[Request], token_budget: int) -> Iterator[list[_Document]]:
    """Yield every document once, longest first, in batches of at most `token_budget` tokens."""
    asked: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
    for number, request in enumerate(requests):
        asked[tuple(request.context + request.continuation[:-1])].append(number)
    batch: list[_Document] = []
    held = 0
    for read, numbers in sorted(asked.items(), key=lambda document: -len(document[0])):
        if batch and held + len(read) > token_budget:
            yield batch
            batch, held = [], 0
        batch.append((read, numbers))
        held += len(read)
    if batch:
        yield batch


def _row(documents: list[_Document], requests: Sequence[Request]) -> Batch:
    """Return the documents as one packed row; a position has one label per request for the token that follows it."""
    labelled: list[int] = []
    labels: list[int] = []
    start = 0
    for read, numbers in documents:
        for number in numbers:
            context, continuation = requests[number]
            first = start + len(context) - 1
            labelled += range(first, first + len(continuation))
            labels += continuation
        start += len(read)
    return Batch(
        ids_T=torch.tensor([token for read, _ in documents for token in read]),
        positions_T=torch.cat([torch.arange(len(read)) for read, _ in documents]),
        labelled_N=torch.tensor(labelled),
        labels_N=torch.tensor(labels),
        segments=tuple(len(read) for read, _ in documents),
        lines=(),
    )


def _score(model: nn.Module, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Return ([N] log p of the labels, [N] whether each is the likeliest token), computing logits part by part."""
    hidden_ND = backbone_of(model, batch).index_select(0, batch.labelled_N)
    head = head_of(model)
    logprobs, greedy = [], []
    for part in chunks(batch.count, head_width(head)):
        logprobs_NV = head(hidden_ND[part]).float().log_softmax(-1)
        labels_N = batch.labels_N[part]
        logprobs.append(logprobs_NV.gather(1, labels_N[:, None])[:, 0].double())
        greedy.append(logprobs_NV.argmax(-1) == labels_N)
    return torch.cat(logprobs).cpu().numpy(), torch.cat(greedy).cpu().numpy()
