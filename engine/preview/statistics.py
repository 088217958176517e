"""Statistics of the rows of a training file: their lengths, and how many are truncated or left out."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from engine.data.corpus import Ints
from engine.data.cut import LINES_TOLD, Cut
from engine.data.mixture import Share
from engine.data.pairs import PairCorpus
from engine.data.supply import FileSupply, Seen, Supply
from engine.job_rows import Material
from engine.stop import StopFlag

_MOST_BLOCKS = 256
"""64 MB of text. Of a longer file, this many blocks from all over it are counted."""
_MOST_BINS = 32


def statistics(material: Material, stop: StopFlag) -> list[dict[str, Any]]:
    """Return the statistics of each file of the mixture.

    Raises:
        StopRequested: stopped while rows were counted.
    """
    shares = (*material.mixture.shares, *material.mixture.annealing)
    return [{"file": _name(share, material)} | _counted(share.supply, stop) for share in shares]


def _name(share: Share, material: Material) -> str:
    return share.name or str(getattr(material.spec, "training_file", ""))


def _counted(supply: Supply, stop: StopFlag) -> dict[str, Any]:
    lengths: list[Ints] = []
    counts: dict[str, int] = dict.fromkeys(
        ("documents", "tokens", "trained_tokens", "truncated", "dropped", "no_trained_token"), 0
    )
    lines: dict[str, list[int]] = {"truncated": [], "dropped": [], "no_trained_token": []}
    for seen in _seen(supply):
        stop.check()
        lengths.append(seen.lengths)
        corpus, cut = seen.cut.corpus, seen.cut
        counts["documents"] += len(corpus)
        counts["tokens"] += int(corpus.inputs().sum())
        counts["trained_tokens"] += corpus.labels() if len(corpus) else 0
        for name, found in zip(lines, (cut.truncated, cut.dropped, cut.untrained), strict=True):
            counts[name] += len(found)
            lines[name] += found[: LINES_TOLD - len(lines[name])]
    all_lengths = np.concatenate(lengths)
    complete = not isinstance(supply, FileSupply) or len(all_lengths) == supply.row_count()
    return described(all_lengths, counts, lines, complete=complete)


def described(lengths: Ints, counts: dict[str, int], lines: dict[str, list[int]], *, complete: bool) -> dict[str, Any]:
    """Describe rows by their uncut lengths in tokens; `lines` are (some of) the lines of rows that lost something."""
    return {
        "rows": len(lengths),
        "complete": complete,
        **{name: len(found) for name, found in lines.items()},
        **counts,
        "lines": {name: found[:LINES_TOLD] for name, found in lines.items()},
        "longest": int(lengths.max(initial=0)),
        "lengths": _histogram(lengths),
    }


def _seen(supply: Supply) -> Iterator[Seen]:
    if isinstance(supply, FileSupply):
        blocks: Sequence[Any] = supply.file.blocks
        return supply.seen(blocks[:: -(-len(blocks) // _MOST_BLOCKS)])
    corpus = supply.window(0, 0)
    origin = corpus.origin if isinstance(corpus, PairCorpus) else None
    return iter((origin or Seen(corpus.inputs() + 1, Cut(corpus, [], [], [])),))


def _histogram(lengths: Ints) -> dict[str, list[int]]:
    """Count rows by length in bins whose equal width is a power of two; `edges` are their bounds."""
    width = 1
    while width * _MOST_BINS <= int(lengths.max(initial=0)):
        width *= 2
    counts = np.bincount(lengths // width, minlength=1)
    return {"edges": (np.arange(len(counts) + 1) * width).tolist(), "counts": counts.tolist()}
