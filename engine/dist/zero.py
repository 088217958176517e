"""ZeRO through DeepSpeed: the ranks divide the optimizer's state (1), the gradients too (2), the weights too (3).

Rajbhandari et al. 2020, arXiv:1910.02054. The optimizer is the engine's own, over fp32 master weights; DeepSpeed
divides the tensors that it updates. A checkpoint does not depend on the number of ranks.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import deepspeed
import torch
from deepspeed.runtime.utils import combine_grad_norm_groups
from torch import Tensor, nn

from engine import optim
from engine.batch_loss import BatchLoss
from engine.data.corpus import Batch
from engine.dist.ranks import Ranks
from engine.dist.strategy import named_state
from engine.offload import HOME
from engine.optim import OptimizerState, Trainable
from engine.parts import Hyperparameters
from engine.plan.ranks import bucket_numbers
from engine.shards import Cut, Piece, Stored

# DeepSpeed compiles its own kernels at first use behind a lock file, which a rank that is killed meanwhile leaves behind
# for ever. None of them is needed here.
_OPS: Any = deepspeed.ops
_OPS.__compatible_ops__ = {}

_WHOLE_UP_TO = 512
"""Weights of up to this many numbers stay whole in stage 3: fetching them costs more than it saves."""
Score: TypeAlias = Callable[[nn.Module, Batch], BatchLoss]
_MOMENTS = ("exp_avg", "exp_avg_sq")


class _Scoring(nn.Module):
    """The model with its loss: the module whose forward pass DeepSpeed hooks into, from beginning to end."""

    def __init__(self, model: nn.Module, score: Score) -> None:
        super().__init__()
        self.model, self.score = model, score
        self.scored: BatchLoss | None = None

    def forward(self, batch: Batch) -> Tensor:
        self.scored = self.score(self.model, batch)
        return self.scored.total


class Zero:
    """The strategy of ranks that divide the optimizer's state, and with it gradients and weights (ZeRO)."""

    def __init__(
        self, model: nn.Module, score: Score, trainable: Trainable, hyper: Hyperparameters, ranks: Ranks, *, stage: int
    ) -> None:
        self.trainable, self.hyper, self.ranks, self.stage = trainable, hyper, ranks, stage
        ranks.spread([p.data for _, p in trainable])
        self.optimizer = optim.make_optimizer(trainable, hyper)
        self.scoring = _Scoring(model, score)
        self.engine: Any = deepspeed.initialize(
            model=self.scoring,
            optimizer=self.optimizer,
            config=_config(trainable, hyper, stage),
            dist_init_required=False,
        )[0]
        self.zero: Any = self.engine.optimizer
        self._begin()

    def _begin(self) -> None:
        """Make zero moments for all partitions: at its first step, DeepSpeed links only those of the first group."""
        whole = self.stage < 3
        for partition in self.zero.single_partition_of_fp32_groups if whole else self.zero.fp32_partitioned_groups_flat:
            moments = {key: torch.zeros_like(partition) for key in _MOMENTS}
            self.optimizer.state[partition] = {"step": torch.zeros((), device=partition.device), **moments}
        if whole:
            self.zero._lazy_init_hp_params_optimizer_state()  # noqa: SLF001 - as above

    def score(self, batch: Batch) -> BatchLoss:
        total = self.engine(batch)
        scored, self.scoring.scored = self.scoring.scored, None  # its graph keeps copies of weights
        assert scored is not None, "just made"
        return scored._replace(total=total)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        # DeepSpeed takes the mean over the ranks; losses are divided by the count of all ranks already.
        self.engine.set_gradient_accumulation_boundary(last)
        self.engine.backward(loss * self.ranks.count, scale_wrt_gas=False)

    def reduce(self) -> Tensor:
        """Return the norm of the gradients; DeepSpeed clips them in its step."""
        if self.stage < 3:
            return self.zero.scaled_global_norm()
        return combine_grad_norm_groups(self.zero._get_norm_groups())  # noqa: SLF001 - public only after the step

    def step(self, rate: float) -> None:
        optim.set_rate(self.optimizer, rate)
        self.engine.step()

    def clear(self) -> None:
        self.zero.zero_grad()
        for group in self.zero.averaged_gradients:
            self.zero.averaged_gradients[group] = None

    def state(self) -> OptimizerState:
        """Return the state of this rank's partition, as views of it."""
        state: OptimizerState = {}
        steps = next(iter(self.optimizer.state.values()))["step"].to(HOME)
        for name, weight in self.trainable:
            if (cut := self._cut(weight)).length:
                shape = tuple(getattr(weight, "ds_shape", weight.shape))  # stage 3 keeps the shape there
                moments = {key: self._held(weight, key)[: cut.length].to(HOME) for key in _MOMENTS}
                state[name] = {"step": steps} | {key: Piece(shape, cut, held) for key, held in moments.items()}
        return state

    def _cut(self, weight: Any) -> Cut:
        """Return which of a weight's numbers this rank holds the state of."""
        if self.stage < 3:
            linked = weight._hp_mapping  # noqa: SLF001 - DeepSpeed has no public name for it
            place = linked and linked.lp_fragment_address
            return Cut(None, place.start, place.numel) if place else Cut(None, 0, 0)
        size = weight.partition_numel()
        start = self.ranks.rank * size
        return Cut(None, start, max(0, min(size, weight.ds_numel - start)))

    def _held(self, weight: Any, key: str) -> Tensor:
        """Return a view of the optimizer's state; in stage 3 the last partition is padded behind its numbers."""
        if self.stage < 3:
            return weight._hp_mapping.get_optim_state_fragment(key)  # noqa: SLF001 - as above
        return self.zero._get_fp32_opt_state_partition(weight, True, key)[0]  # noqa: SLF001 - as above

    def restore(self, state: Stored) -> None:
        steps = next(iter(state.values()))["step"] if state else 0
        for held in self.optimizer.state.values():
            held["step"].fill_(float(steps))
        for name, weight in self.trainable if state else ():
            if (cut := self._cut(weight)).length:
                for key in _MOMENTS:
                    self._held(weight, key)[: cut.length].copy_(state[name].cut(cut)[key])

    def weights(self) -> dict[str, Tensor]:
        if self.stage < 3 and not self.ranks.leads:
            return {}
        if self.stage < 3:
            return named_state(
                self.scoring.model, {id(weight): weight.detach().to(HOME) for _, weight in self.trainable}
            )
        fetched: dict[int, Tensor] = {}
        for _, weight in self.trainable:
            with deepspeed.zero.GatheredParameters([weight]):
                if self.ranks.leads:
                    fetched[id(weight)] = weight.detach().to(HOME, copy=True)
        return named_state(self.scoring.model, fetched)


def _config(trainable: Trainable, hyper: Hyperparameters, stage: int) -> dict[str, Any]:
    sizes = [weight.numel() for _, weight in trainable]
    bucket = bucket_numbers(sum(sizes), max(sizes))
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_clipping": hyper.max_grad_norm,
        "zero_optimization": {
            "stage": stage,
            "overlap_comm": False,
            "reduce_bucket_size": bucket,
            "allgather_bucket_size": bucket,
            "reduce_scatter": trainable[0][1].is_cuda,
            "stage3_param_persistence_threshold": _WHOLE_UP_TO,
        },
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }
