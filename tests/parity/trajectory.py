"""What is compared of two runs: the loss and the gradient norm of every step."""

from typing import NamedTuple


class Trajectory(NamedTuple):
    losses: list[float]
    grad_norms: list[float]

    def distance(self, other: "Trajectory") -> float:
        """The largest relative difference of any step, in loss or gradient norm; `other` is the measure."""
        assert len(self.losses) == len(other.losses) == len(other.grad_norms) == len(self.grad_norms)
        pairs = [*zip(self.losses, other.losses, strict=True), *zip(self.grad_norms, other.grad_norms, strict=True)]
        return max(abs(mine - yours) / abs(yours) for mine, yours in pairs)
