"""Similarity of two texts from 0 to 1: the metrics of text_similarity."""

import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

from rapidfuzz import fuzz
from rapidfuzz.distance import LCSseq

_ORDERS = (1, 2, 3, 4)


def fuzzy_match(candidate: str, reference: str) -> float:
    """Return the ratio of rapidfuzz: twice the length of the longest common subsequence, over both lengths."""
    return fuzz.ratio(candidate, reference) / 100


def bleu(candidate: str, reference: str) -> float:
    """Sentence BLEU on words (Papineni et al. 2002, eq. 3), zero counts smoothed by halves (Chen & Cherry 2014, 3)."""
    ours, theirs = candidate.split(), reference.split()
    if not ours or not theirs:
        return float(ours == theirs)
    logs, halves, orders = 0.0, 1.0, [n for n in _ORDERS if n <= len(ours)]
    for n in orders:
        matches, total = _overlap(ours, theirs, n), len(ours) - n + 1
        if not matches:
            if n == 1:
                return 0.0
            halves *= 2
        logs += math.log((matches or 1 / halves) / total)
    brevity = min(0.0, 1 - len(theirs) / len(ours))
    return math.exp(brevity + logs / len(orders))


def gleu(candidate: str, reference: str) -> float:
    """The smaller of precision and recall over all n-grams up to 4 words (Wu et al. 2016, arXiv:1609.08144, 6.1)."""
    ours, theirs = candidate.split(), reference.split()
    matches = sum(_overlap(ours, theirs, n) for n in _ORDERS)
    most = max(sum(max(0, len(tokens) - n + 1) for n in _ORDERS) for tokens in (ours, theirs))
    return matches / most if most else 1.0


def rouge_n(candidate: str, reference: str, n: int) -> float:
    """F1 of n-grams (Lin 2004), of words in lower case."""
    ours, theirs = _words(candidate), _words(reference)
    if max(len(ours), len(theirs)) < n:  # neither has an n-gram
        return _same(candidate, reference, ours, theirs)
    return _f1(_overlap(ours, theirs, n), max(0, len(ours) - n + 1), max(0, len(theirs) - n + 1))


def rouge_l(candidate: str, reference: str) -> float:
    """F1 of the longest common subsequence of words (Lin 2004)."""
    ours, theirs = _words(candidate), _words(reference)
    if not ours and not theirs:
        return _same(candidate, reference, ours, theirs)
    return _f1(LCSseq.similarity(ours, theirs), len(ours), len(theirs))


def _same(candidate: str, reference: str, ours: list[str], theirs: list[str]) -> float:
    """Return 1 if the words are the same or, where there are none, the texts."""
    return float(ours == theirs if ours or theirs else candidate.strip() == reference.strip())


def _words(text: str) -> list[str]:
    """Return runs of letters, digits and their marks, in any script: on ASCII text the tokens of the rouge-score package."""
    return "".join(each if unicodedata.category(each)[0] in "LNM" else " " for each in text.lower()).split()


def _overlap(ours: Sequence[str], theirs: Sequence[str], n: int) -> int:
    return (_ngrams(ours, n) & _ngrams(theirs, n)).total()


def _ngrams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1))


def _f1(matches: int, ours: int, theirs: int) -> float:
    return 2 * matches / (ours + theirs)


METRICS: dict[str, Callable[[str, str], float]] = {
    "fuzzy_match": fuzzy_match,
    "bleu": bleu,
    "gleu": gleu,
    "rouge_1": lambda a, b: rouge_n(a, b, 1),
    "rouge_2": lambda a, b: rouge_n(a, b, 2),
    "rouge_3": lambda a, b: rouge_n(a, b, 3),
    "rouge_4": lambda a, b: rouge_n(a, b, 4),
    "rouge_5": lambda a, b: rouge_n(a, b, 5),
    "rouge_l": rouge_l,
}
"""All but cosine, which needs a model of embeddings, and meteor, which needs a thesaurus."""
