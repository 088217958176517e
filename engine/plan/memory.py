"""The most memory that a training job holds, component by component."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from engine.plan import activations, experts
from engine.plan.setting import Setting
from engine.plan.shape import Linear, Shape
from engine.plan.weights import adapter_tensors, layer_weights, optimizer_state, trained_weights, weights
from engine.plan.workload import Workload

_CHUNK_LOGITS = 1 << 23
_KEPT_LOGITS = 1 << 24
"""Of pairs, up to this many are kept for the backward pass (engine.model.logprobs)."""
_FP32 = 4
CODE_BYTES = 1 << 19
"""About how much a CPU keeps for each product of a new shape (engine.plan.products)."""
_RUNTIME = {"cpu": 560 << 20, "cuda": 600 << 20}
"""Libraries, interpreter and what they build in the first step; on a GPU its context. Measured, without tensors."""


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on the device at the moment when most is held. `runtime` is what the process holds without any tensor."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    workspace: int
    """Copies of weights in the compute type, dequantized weights, and gradients being computed."""
    runtime: int

    @property
    def total(self) -> int:
        return sum(asdict(self).values())

    @property
    def tensors(self) -> int:
        return self.total - self.runtime

    def components(self) -> dict[str, int]:
        return asdict(self) | {"total": self.total}

    def table(self) -> str:
        """Return a line for each component, in MiB."""
        return "\n".join(f"{name:<12}{size / 2**20:>12,.1f} MiB" for name, size in self.components().items())


def plan_memory(shape: Shape, work: Workload, setting: Setting) -> MemoryPlan:
    """Return the plan for a single process that holds the whole job."""
    return max(moments(shape, work, setting), key=lambda plan: plan.total)


def moments(shape: Shape, work: Workload, setting: Setting) -> list[MemoryPlan]:
    """Return the moments that may hold most: during the loss, during a layer's backward pass, or after all passes.

    Adapters on layers that the shape does not have, such as the head, are not counted.
    """
    labels = work.labels if shape.ends else work.tokens
    work = replace(work, tokens=setting.filled(work.tokens), labels=setting.filled(labels))
    sums = _Sums(shape, work, setting)
    in_loss = sums.in_pairs() if work.paired else sums.in_loss()
    return [*(in_loss if shape.ends else ()), *sums.in_layers(), sums.at_end()]


@dataclass(frozen=True)
class _Sums:
    """The sums of one job at each moment."""

    shape: Shape
    work: Workload
    setting: Setting

    def _plan(self, *, gradients: int, activations: int = 0, logits: int = 0, workspace: int = 0) -> MemoryPlan:
        shape, setting = self.shape, self.setting
        if self.work.waiting:
            activations += self.work.waiting * self._kept()
            workspace += self.work.waiting * self._casts_kept()
        return MemoryPlan(
            weights(shape, setting),
            gradients,
            optimizer_state(shape, setting),
            activations,
            logits,
            workspace,
            _RUNTIME[setting.device] + self.work.shapes * CODE_BYTES,
        )

    def _earlier(self) -> int:
        """Return the bytes of the gradients of earlier micro-batches."""
        return _FP32 * trained_weights(self.shape, self.setting) if self.work.accumulation > 1 else 0

    def _head(self) -> int:
        """Return the bytes of the head's gradient, if the head learns."""
        return _FP32 * self.shape.embedding if self.setting.head_learns(self.shape) else 0

    def _kept(self) -> int:
        """Return what the forward pass keeps."""
        given = (self.shape, self.work, self.setting)
        return activations.kept_by_layers(*given) + activations.kept_by_last_norm(*given)

    def _made(self, layers: int) -> int:
        """Return the bytes of gradients once `layers` layers have theirs, which are added to earlier ones one by one."""
        fresh = min(layers, 1) if self._earlier() else layers
        return self._earlier() + self._head() + fresh * _FP32 * layer_weights(self.shape, self.setting)

    def _rows(self) -> int:
        """Return how many labels' logits are held at once."""
        return min(self.work.labels, chunk_rows(self.shape.vocabulary))

    def in_loss(self) -> Iterator[MemoryPlan]:
        """Yield the scoring of a chunk, with the chunk before still held, and its addition to the head's gradient.

        On the CPU logits are overwritten by their gradients, except in fp16, where they are copied to fp32 first, as
        is what is added to fp32.
        """
        shape, work, setting = self.shape, self.work, self.setting
        size, residual = setting.bytes, setting.residual(shape)
        cast = size if size < residual else 0
        kept = self._kept() + work.labels * shape.hidden * (2 * residual + cast)
        chunk, before = self._rows() * shape.vocabulary, size if work.labels > self._rows() else 0
        yield self._plan(
            gradients=self._made(0),
            activations=kept,
            logits=chunk * (before + (size if setting.kernels else 2 * size + _FP32 + self._copied())),
            workspace=self._casts_kept() + self._head_cast(),
        )
        yield self._plan(
            gradients=self._made(0),
            activations=kept,
            logits=chunk * size,
            workspace=self._casts_kept() + self._head_cast() + self._head_part(),
        )

    def in_pairs(self) -> Iterator[MemoryPlan]:
        """Yield the same moments for answers scored one by one; the head's gradient is computed in the backward pass."""
        shape, work, setting = self.shape, self.work, self.setting
        size, residual = setting.bytes, setting.residual(shape)
        reduced = 0 if size == _FP32 else size
        cast = size if size < residual else 0
        kept = self._kept() + work.labels * shape.hidden * (residual + size + cast)
        chunk, before = self._rows() * shape.vocabulary, _FP32 + reduced if work.labels > self._rows() else 0
        waits = setting.head_learns(shape) and work.labels * shape.vocabulary <= _KEPT_LOGITS
        waiting = size * work.labels * shape.vocabulary if waits else 0
        yield self._plan(
            gradients=self._earlier(),
            activations=kept,
            logits=chunk * (size + self._copied() + _FP32 + before) + waiting,
            workspace=self._casts_kept() + self._head_cast(),
        )
        yield self._plan(
            gradients=self._made(0),
            activations=kept,
            logits=waiting or chunk * (size + _FP32 + reduced),
            workspace=self._casts_kept() + self._head_cast() + self._head_part(),
        )

    def _copied(self) -> int:
        """Return the bytes of a number's fp32 copy, which the CPU makes to compute in 16 bits."""
        return _FP32 if self.setting.device == "cpu" and self.setting.bytes < _FP32 else 0

    def _head_cast(self) -> int:
        """Return the bytes of the head's copy in the compute type."""
        learns = self.setting.head_learns(self.shape) and self.setting.bytes < _FP32
        return self.setting.bytes * self.shape.embedding if learns else 0

    def _head_part(self) -> int:
        """Return the bytes that a chunk adds to the head's gradient."""
        learns = self.setting.head_learns(self.shape)
        return (self.setting.bytes + self._copied()) * self.shape.embedding if learns else 0

    def in_layers(self) -> Iterator[MemoryPlan]:
        """Yield the backward passes of the last layer and of the first; the others lie between the two."""
        shape, work, setting = self.shape, self.work, self.setting
        kept = activations.kept_by_layers(shape, work, setting)
        left = activations.kept_by_first(shape, work, setting)
        # Recomputed layers have their copies made anew, each in its turn.
        layers = 1 if setting.checkpointing == "none" else shape.layers
        workspace = self._casts() // layers + _weight_again(shape, setting)
        if shape.experts > 1:
            yield from self._in_mixtures(kept, left)
            return
        if not setting.by_hand(shape):
            if setting.dora:
                reading = kept + activations.computed_again(shape, work, setting)
                norms = self._casts() // layers + self._norms()
                yield self._plan(gradients=self._made(0), activations=reading, workspace=norms)
            passing = activations.backward_of_layer(shape, work, setting)
            yield self._plan(gradients=self._made(0), activations=kept + passing, workspace=workspace)
            yield self._plan(gradients=self._made(shape.layers - 1), activations=left + passing, workspace=workspace)
            return
        mlp = activations.backward_of_mlp_by_hand(shape, setting, work.labels)
        yield self._plan(gradients=self._made(0), activations=kept + mlp, workspace=workspace)
        last = activations.backward_of_attention_by_hand(shape, work, setting, work.labels)
        yield self._plan(gradients=self._made(1), activations=kept + last, workspace=workspace)
        first = activations.backward_of_attention_by_hand(shape, work, setting, work.tokens)
        yield self._plan(gradients=self._made(shape.layers), activations=left + first, workspace=workspace)

    def _in_mixtures(self, kept: int, left: int) -> Iterator[MemoryPlan]:
        """Yield the begin and the end of the backward pass of a mixture of experts.

        Copies in the compute type are freed layer by layer.
        """
        shape, work, setting = self.shape, self.work, self.setting
        again = activations.computed_again(shape, work, setting)
        own = self._casts() // shape.layers
        ended = again - experts.kept(shape, work, setting) + work.tokens * shape.hidden * (_FP32 + setting.bytes)
        for waiting, layers, casts in ((kept, 0, max(own, self._casts_kept())), (left, shape.layers - 1, own)):
            begun = waiting + again + experts.begun(shape, work, setting)
            yield self._plan(gradients=self._made(layers), activations=begun, workspace=casts)
            made = casts - own + experts.made(shape, setting)
            yield self._plan(gradients=self._made(layers), activations=waiting + ended, workspace=made)

    def _norms(self) -> int:
        """Return what DoRA holds to compute the norms of a weight's rows.

        These are the adapter's product, for which PEFT passes an identity matrix through the adapter, the same scaled,
        and the sum of both. A weight that is not in fp32 is converted, as is the product.
        """
        size = self.setting.bytes

        def made(linear: Linear) -> int:
            identity = linear.inputs**2
            if size == _FP32:
                return _FP32 * (identity + (4 if self.setting.quantized else 3) * linear.size)
            return max((_FP32 + size) * identity, size * identity + (4 * _FP32 + size) * linear.size)

        return max(map(made, self.setting.adapted(self.shape)), default=0)

    def at_end(self) -> MemoryPlan:
        """Return the end of all passes, with all gradients; that of a tied embedding is added to the head's."""
        shape, setting = self.shape, self.setting
        twice = shape.tied and setting.whole(shape)
        done = replace(self, work=replace(self.work, waiting=0))
        return done._plan(  # noqa: SLF001 - its own
            gradients=_FP32 * trained_weights(shape, setting),
            activations=0 if setting.adapter else _FP32 * self.work.tokens * shape.hidden,
            workspace=(self._casts() if setting.by_hand(shape) else 0) + (_FP32 * shape.embedding if twice else 0),
        )

    def _casts_kept(self) -> int:
        """Return the bytes of copies kept for the backward pass: a recomputed layer makes its own anew."""
        return self._casts() if self.setting.checkpointing == "none" else 0

    def _casts(self) -> int:
        """Return the bytes of copies in the compute type of weights that the backward pass needs again.

        By hand, of all weights that learn, even in the same type: the copies are adjacent. Offloaded layers make theirs
        anew. By modules, the copies that autocast makes of fp32 weights.
        """
        shape, setting = self.shape, self.setting
        if setting.by_hand(shape):
            return 0 if setting.adapter or setting.moves_layers else setting.bytes * shape.linear_weights
        if setting.bytes == _FP32:
            return 0
        whole = setting.beside(shape).linears
        learning = sum(adapter_tensors(shape, setting)) + sum(linear.size for linear in whole)
        return setting.bytes * (shape.layers * learning if setting.adapter else shape.linear_weights)


def chunk_rows(vocabulary: int) -> int:
    """Return how many labels' logits are held at once, at most (engine.model.loss)."""
    return max(32, _CHUNK_LOGITS // vocabulary // 32 * 32)


def _weight_again(shape: Shape, setting: Setting) -> int:
    """Return the bytes of weights rebuilt for the backward pass: by hand of one input, by modules with a gradient."""
    if setting.by_hand(shape):
        sources = {linear.source for linear in shape.linears}
        fused = (sum(linear.size for linear in shape.linears if linear.source == source) for source in sources)
        copies = 2 if setting.quantized else int(setting.moves_layers and not setting.adapter)
        return copies * setting.bytes * max(fused)
    if setting.quantized:
        return setting.bytes * max(linear.size for linear in shape.linears)
    learning = setting.beside(shape).linears if setting.adapter else shape.linears
    return (setting.bytes + _FP32) * max((linear.size for linear in learning), default=0)
