"""Memory of passes without gradients: batches that a model scores, and answers that it writes.

T tokens, H hidden, I inner, Q and K widths of queries and of keys, c bytes of the compute type, as in `activations`:
counted from the code of the modules, at the moments that may hold most. Nothing is kept for a backward pass, so that is
one layer's tensors, or the logits of a chunk.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from engine import shape_rounding
from engine.errors import SpecError
from engine.plan import experts
from engine.plan.memory import MemoryPlan, chunk_rows
from engine.plan.setting import Setting
from engine.plan.shape import NO_PLAN, Shape
from engine.plan.weights import loaded_weights
from engine.plan.workload import BLOCK

_FP32 = 4
_RUNTIME = {"cpu": 410 << 20, "cuda": 600 << 20}
"""As in training, without what its first step builds; measured on CPUs, and learnt from past evaluations."""
Head: TypeAlias = Literal["logprobs", "losses", "likelihoods"]
"""Scores by engine.model.logprobs, by engine.model.loss, or by engine.likelihood, which uses transformers' modules."""


@dataclass(frozen=True)
class Scoring:
    """A batch of documents of at most `document` tokens, of which `labels` are scored."""

    tokens: int
    labels: int
    document: int
    head: Head

    def within(self, rows: int, length: int) -> "Scoring":
        """Return the batch if batches hold at most rows * length tokens, and documents at most `length`."""
        document = min(self.document, length)
        tokens = min(self.tokens, max(rows * length, document))
        return replace(self, tokens=tokens, labels=max(1, self.labels * tokens // self.tokens), document=document)

    def plan(self, shape: Shape, setting: Setting) -> MemoryPlan:
        """Raises SpecError: no plan is made for this kind of adapter."""
        work = self
        if self.head != "likelihoods":
            work = replace(self, tokens=setting.filled(self.tokens), labels=setting.filled(self.labels))
        return _most(_Scored(shape, setting, work).moments())


@dataclass(frozen=True)
class Writing:
    """A batch of prompts, padded to `read` tokens, to each of which `written` tokens are added one by one."""

    rows: int
    read: int
    written: int

    @property
    def tokens(self) -> int:
        """The tokens at the end; the last one written is not read."""
        return self.rows * (self.read + self.written - 1)

    def within(self, rows: int, length: int) -> "Writing":
        """Return the batch if batches have at most `rows` prompts, each of at most `length` tokens with its answer."""
        return replace(self, rows=min(self.rows, rows), read=max(1, min(self.read, length - self.written)))

    def plan(self, shape: Shape, setting: Setting) -> MemoryPlan:
        """Raises SpecError: no plan is made for this kind of adapter."""
        return _most(_Written(shape, setting, self).moments())


def _most(moments: Iterator[MemoryPlan]) -> MemoryPlan:
    return max(moments, key=lambda plan: plan.total)


@dataclass(frozen=True)
class _Passing:
    """A model that does not train."""

    shape: Shape
    setting: Setting

    def held(self, *, activations: float, logits: int = 0, workspace: int = 0) -> MemoryPlan:
        shape, setting = self.shape, self.setting
        if setting.dora:
            raise SpecError(
                NO_PLAN, "no memory plan is made for DoRA without training", "Its steps and tokens are exact."
            )
        return MemoryPlan(
            weights=loaded_weights(shape, setting),
            gradients=0,
            optimizer=0,
            activations=round(activations),
            logits=logits,
            workspace=workspace,
            runtime=_RUNTIME[setting.device],
        )

    def through_modules(self, tokens: int) -> float:
        """Return what transformers' modules hold at the MLP: embeddings, stream twice and normed, factors and product.

        An adapter adds an output of its own and its scaled copy, and has its input in fp32 and cast back.
        """
        shape, setting = self.shape, self.setting
        size, turn = setting.bytes, 2 * setting.bytes * shape.head_dim
        plain = size * (4 * shape.hidden + max(3, shape.waiting) * shape.inner)
        if shape.experts > 1:
            plain = size * 4 * shape.hidden + experts.passing(shape, setting)
        if not setting.adapter:
            return tokens * (turn + max(plain, self._attention_by_modules()))
        cast = _FP32 + size if size < _FP32 else 0
        in_up = size * (4 * shape.hidden + 4 * shape.inner) + cast * shape.hidden
        in_down = size * (5 * shape.hidden + shape.inner) + cast * shape.inner
        return tokens * (turn + max(in_up, in_down, self._attention_by_modules()))

    def _attention_by_modules(self) -> int:
        """Return the bytes of embeddings, stream, normed stream, q, k and v, rotated and side by side, and the output."""
        shape = self.shape
        return self.setting.bytes * (3 * shape.hidden + 2 * (shape.query + 2 * shape.key) + shape.query)

    def numbers_of_weights(self) -> int:
        """Return the bytes of the largest dequantized weight, if weights are in 4 bits."""
        largest = max(linear.size for linear in self.shape.linears)
        return self.setting.bytes * largest if self.setting.quantized else 0

    def head_cast(self) -> int:
        """Return the bytes of a head that was trained whole, in the compute type."""
        setting, shape = self.setting, self.shape
        cast = setting.adapter and setting.head_learns(shape) and setting.bytes < _FP32
        return setting.bytes * shape.embedding if cast else 0


@dataclass(frozen=True)
class _Scored(_Passing):
    work: Scoring

    def moments(self) -> Iterator[MemoryPlan]:
        if self.work.head != "likelihoods" and self.setting.by_hand(self.shape):
            yield from self._by_hand()
        else:
            kept = self.through_modules(self.work.tokens)
            yield self.held(activations=kept, workspace=self.numbers_of_weights())
        yield self.held(activations=self._labelled(), logits=self._logits(), workspace=self.head_cast())

    def _by_hand(self) -> Iterator[MemoryPlan]:
        """Yield the matmuls of the MLP in a layer of engine.model.llama, whose tensors all live until it is done.

        Fused weights are made adjacent at their first use; those in 4 bits are dequantized each time.
        """
        shape, setting, size = self.shape, self.setting, self.setting.bytes
        low = size * setting.rank * len(setting.adapted(shape))
        turn = 2 * _FP32 * shape.head_dim
        attended = (_FP32 + size) * shape.hidden + size * (3 * shape.query + 4 * shape.key) + turn + low
        tokens, scores = self.work.tokens, self._scores()
        fused = 2 * size * shape.hidden * shape.inner
        yield self.held(activations=tokens * attended + scores)
        normed = attended + (_FP32 + 2 * size) * shape.hidden
        again = 2 * fused if setting.quantized else fused
        yield self.held(activations=tokens * normed, workspace=again)
        product = normed + size * (3 * shape.inner + shape.hidden)
        yield self.held(activations=tokens * product, workspace=fused if setting.quantized else 0)
        summed = normed + size * (2 * shape.inner + shape.hidden) + _FP32 * shape.hidden
        yield self.held(activations=tokens * summed)

    def _scores(self) -> int:
        """Return the bytes of the attention probabilities of a block of queries."""
        length = shape_rounding.up(self.work.document, self.setting.step)
        return self.setting.bytes * self.shape.heads * min(BLOCK, length) * length

    def _labelled(self) -> int:
        """Return the bytes of the labelled tokens' hidden states, in the type of the stream and in that of the head."""
        size = self.setting.bytes
        stream = _FP32 if self.setting.by_hand(self.shape) and self.work.head != "likelihoods" else size
        return self.work.labels * self.shape.hidden * (stream + (size if size < stream else 0))

    def _logits(self) -> int:
        """Return the bytes of a chunk's logits, and of what is left of the chunk before."""
        size, labels = self.setting.bytes, self.work.labels
        rows = min(labels, chunk_rows(self.shape.vocabulary))
        copied = _FP32 if self.setting.device == "cpu" and size < _FP32 else 0
        match self.work.head:
            case "logprobs":
                each, before = size + copied + _FP32, _FP32
            case "losses":
                each, before = (size if self.setting.kernels else 2 * size + copied + _FP32), size
            case "likelihoods":
                each, before = 2 * _FP32, _FP32
        return rows * self.shape.vocabulary * (each + (before if labels > rows else 0))


@dataclass(frozen=True)
class _Written(_Passing):
    work: Writing

    def moments(self) -> Iterator[MemoryPlan]:
        """Yield the reading of the prompts and the choice of the last token; keys and values of all tokens are kept."""
        shape, work, size = self.shape, self.work, self.setting.bytes
        read = work.rows * work.read
        each = 2 * size * shape.key * shape.layers
        mask = work.rows * work.read**2
        yield self.held(
            activations=read * each + self.through_modules(read) + mask, workspace=self.numbers_of_weights()
        )
        # A layer's keys and values are copied with each token, and repeated for the queries that share them.
        again = 2 * size * (shape.key + (shape.query if shape.query > shape.key else 0))
        yield self.held(
            activations=work.tokens * (each + again),
            logits=work.rows * shape.vocabulary * (size + _FP32),
            workspace=max(self.numbers_of_weights(), self.head_cast()),
        )
