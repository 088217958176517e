"""Pipeline parallelism: each rank of a team has some of the layers, and rows go through the ranks one after the other.

GPipe (Huang et al. 2019, arXiv:1811.06965) with the schedule of PipeDream (Narayanan et al. 2019, arXiv:1806.03377), one
forward and one backward pass in turn: a rank has no more micro-batches in work than there are ranks from it to the end.
torch.distributed.pipelining has this schedule too, but receives into buffers of one shape, made before the first step,
and packed rows have any length. Shapes: T tokens, D hidden, [T, D] or [1, T, D].
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import torch
import torch.distributed as dist
from peft.utils.other import ModulesToSaveWrapper
from torch import Tensor, nn

from engine import optim
from engine.batch_loss import BatchLoss
from engine.data.corpus import Batch
from engine.dist.collectives import collected
from engine.dist.ranks import Ranks, Teams, as_touch_lost
from engine.dist.strategy import Replicas
from engine.errors import SpecError
from engine.model import llama
from engine.model.anatomy import backbone_in, names_in
from engine.model.dropout import place_in
from engine.model.forward import decoder_of, labelled_states
from engine.model.layer_offload import offloaded_layers_of
from engine.model.links import Elsewhere, Link, empty
from engine.offload import LiesIn
from engine.parts import Hyperparameters
from engine.parts.sharing import no_team
from engine.plan import Shape
from engine.plan.ranks import stages
from engine.precision import Machine

_UNDER_WAY = 2
"""How many tensors may be on their way to other ranks before this one waits."""

Score: TypeAlias = Callable[[nn.Module, Batch], BatchLoss]
T = TypeVar("T")


@dataclass(frozen=True)
class PipelineReplicas(Ranks):
    """The ranks that rows are dealt out among, where results of a row are on the last rank of each one's team."""

    team: Ranks = field(default_factory=Ranks)

    @property
    def ask_every(self) -> int:
        """As `Ranks.ask_every`, seldom enough for all stages to be at work most of the time."""
        return 8 * self.team.count

    def gather(self, value: T) -> list[T]:
        return super().gather(self.team.gather(value)[-1])


class Pipe:
    """The exchange of hidden states and gradients with the neighbouring ranks of a team.

    Forward and backward use two groups of the same ranks: NCCL works through the operations of a group in order, so two
    neighbours that send to each other in one group would each wait for the other to receive.
    """

    def __init__(self, team: Ranks, back: Ranks) -> None:
        self.team, self._groups = team, (team.group, back.group)
        self._sent: deque[tuple[Any, Tensor]] = deque()

    @property
    def behind(self) -> int:
        """The number of ranks after this one."""
        return self.team.count - 1 - self.team.rank

    def takes(self, x: Tensor) -> Tensor:
        """Return the output of the rank before, which has the shape and type of `x`; its gradient is sent back there."""
        learns = torch.is_grad_enabled()
        return _Taken.apply(x.detach().requires_grad_(learns), self)  # type: ignore[return-value]

    def gives(self, x: Tensor) -> Tensor:
        """Send `x` to the next rank and return it; its gradient is the one received from there, whatever it has here."""
        learning = x if x.requires_grad or not torch.is_grad_enabled() else x.detach().requires_grad_()
        return _Given.apply(learning, self)  # type: ignore[return-value]

    def send(self, x: Tensor, *, forth: bool) -> None:
        x, to = x.detach().contiguous(), self.team.rank + (1 if forth else -1)
        with as_touch_lost():
            self._sent.append((dist.isend(x, group=self._groups[not forth], group_dst=to), x))
        self.wait(_UNDER_WAY)

    def wait(self, under_way: int = 0) -> None:
        """Wait until no more than `under_way` tensors are on their way."""
        with as_touch_lost():
            while len(self._sent) > under_way:
                self._sent.popleft()[0].wait()

    def receive(self, like: Tensor, *, forth: bool) -> Tensor:
        received = torch.empty_like(like, memory_format=torch.contiguous_format)
        with as_touch_lost():
            dist.recv(received, group=self._groups[not forth], group_src=self.team.rank + (-1 if forth else 1))
        return received

    def added_with_other_end(self, grad: Tensor) -> None:
        """Add the gradient of the other end of the team, which has a copy of weights that are both embedding and head.

        Each end sends in the group in which the other receives, for the same reason as neighbours do.
        """
        other, theirs = self.team.count - 1 - self.team.rank, torch.empty_like(grad)
        out, back = self._groups if self.team.leads else reversed(self._groups)
        with as_touch_lost():
            sent = dist.isend(grad.clone(), group=out, group_dst=other)
            dist.recv(theirs, group=back, group_src=other)
            assert sent is not None, "this rank is of the group"
            sent.wait()
        grad += theirs


class _Taken(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, pipe: Pipe) -> Tensor:
        ctx.pipe = pipe
        return pipe.receive(x, forth=True)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        ctx.pipe.send(grads[0], forth=False)
        return None, None


class _Given(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, pipe: Pipe) -> Tensor:
        ctx.pipe = pipe
        pipe.send(x, forth=True)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.pipe.receive(grads[0], forth=False), None


class Stages(Replicas):
    """The strategy of pipelines. Ranks with the same layers, one of each team, sum their gradients as replicas do."""

    def __init__(
        self,
        model: nn.Module,
        score: Score,
        machine: Machine,
        hyper: Hyperparameters,
        ranks: Ranks,
        teams: Teams,
        pipe: Pipe,
        *,
        state_in: LiesIn,
    ) -> None:
        ranks.spread([p.data for p in model.parameters() if p.requires_grad])
        self.team, self.pipe, self._score, self._machine = teams.team, pipe, score, machine
        divide_layers(model, pipe)
        here = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        if self.team.any(not here):
            raise SpecError(
                "team_unsupported",
                "resources.parallel.pp_size: the adapter is on few layers, and some process would have nothing to learn",
                "Set tuning.target_modules to 'all-linear', or leave pp_size out.",
            )
        super().__init__(model, here, hyper, teams.replicas, state_in=state_in)
        self.saving = max(1, ranks.here_count // self.team.count)
        tied = _tied(model)
        self.shared = [p for _, p in here if p is tied]
        """Weights that the other end of the team has a copy of."""
        self.waiting: deque[tuple[Tensor, Batch | None]] = deque()
        """Losses whose backward pass is still to come, each with the batch that dropout draws from."""

    def score(self, batch: Batch) -> BatchLoss:
        """Return the loss on the last rank, and on others a zero that leads the backward pass through their layers."""
        if self.pipe.behind == 0:
            return self._score(self.model, batch)
        with self._machine.autocast():
            return BatchLoss(labelled_states(self.model, batch).float().sum() * 0.0, 0, {})

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Run the backward pass of the oldest micro-batch once as many are in work as ranks are behind this one."""
        place = place_in(self.model)
        self.waiting.append((loss, None if place is None else place.batch))
        while len(self.waiting) > (0 if last else self.pipe.behind):
            oldest, batch = self.waiting.popleft()
            if place is not None:
                place.batch = batch  # a layer that is computed again must drop the same numbers
            oldest.backward()

    def reduce(self) -> Tensor:
        self.pipe.wait()  # a profiler that stops after this step must not see sends that are still pending
        for _, weight in self.trainable:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        self.ranks.add_up([p.grad for _, p in self.trainable if p.grad is not None])
        for weight in self.shared:  # last, so that both ends add the same two sums and keep the same bits
            assert weight.grad is not None, "just made"
            self.pipe.added_with_other_end(weight.grad)
        return optim.clip(self.trainable, self.hyper.max_grad_norm, self._norm())

    def _norm(self) -> Tensor:
        """Return the norm of all layers' gradients; weights that both ends have count once."""
        twice = {id(weight) for weight in self.shared if not self.team.leads}
        grads = [p.grad for _, p in self.trainable if p.grad is not None and id(p) not in twice]
        squares = float(torch.nn.utils.get_total_norm(grads)) ** 2
        return torch.tensor(self.team.totals([squares])[0]).sqrt().to(self.trainable[0][1])

    def weights(self) -> dict[str, Tensor]:
        return collected(super().weights(), self.team) if self.ranks.leads else {}


def divide_layers(model: nn.Module, pipe: Pipe) -> None:
    """Leave this rank its layers, the first rank the embedding, and the last rank the last norm and the head.

    All keep their names. Where embedding and head are the same weights, both ends keep a copy.
    """
    if any(isinstance(module, ModulesToSaveWrapper) for module in model.modules()):
        why = "the adapter has modules_to_save, which only the process that has them could save"
        raise SpecError(*no_team("pp_size", pipe.team.count, why))
    decoder = decoder_of(model)
    backbone, names = backbone_in(decoder), names_in(decoder)
    first, last = pipe.team.leads, pipe.behind == 0
    tied = _tied(model) is not None
    own = stages(Shape.of(decoder.config.to_dict()), pipe.team.count)[pipe.team.rank]
    _leave(getattr(backbone, names.layers), own, pipe, known=llama.knows(decoder))
    if (offloaded := offloaded_layers_of(decoder)) is not None:
        offloaded.keep(own)
    if not first:
        for name in (names.embedding, "wpe"):
            if hasattr(backbone, name) and not (name == names.embedding and tied and last):
                setattr(backbone, name, Elsewhere(getattr(backbone, name).weight))
    if not last:
        setattr(backbone, names.norm, nn.Identity())
    if not last and not (tied and first):
        empty(decoder.get_output_embeddings())


def _leave(layers: Any, own: range, pipe: Pipe, *, known: bool) -> None:
    """Replace the layers of other ranks by links: the one before this rank's own receives, the one behind them sends.

    All ranks compute either by hand or by modules, as the layers of all of them allow: the residual streams of the two
    differ in type.
    """
    ways = {own.start - 1: pipe.takes, own.stop: pipe.gives}
    for number, layer in enumerate(list(layers)):
        if number not in own:
            layers[number] = Link(layer, ways.get(number, _past), by_hand=known and llama.by_hand(layer))


def _past(x: Tensor) -> Tensor:
    return x


def _tied(model: nn.Module) -> nn.Parameter | None:
    """Return the weight that is both embedding and head, if there is one."""
    decoder = decoder_of(model)
    embedding, head = decoder.get_input_embeddings(), decoder.get_output_embeddings()
    return embedding.weight if head.weight is embedding.weight else None
