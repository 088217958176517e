"""The settings of a job that its memory depends on."""

from dataclasses import dataclass
from typing import Literal

from engine import shape_rounding
from engine.errors import SpecError
from engine.parts import AdapterTuning, Hyperparameters, QloraTuning, Tuning, sharing
from engine.plan.beside import EMBEDDING, HEAD, Beside
from engine.plan.shape import NO_PLAN, Linear, Shape

NF4_BLOCK = 64
"""Linear layers whose inputs are not a multiple of this are not quantized."""
_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True)
class Setting:
    """How a job computes. `precision` and `device` are resolved; nothing is `auto`."""

    device: Literal["cpu", "cuda"]
    precision: str
    tuning: Tuning
    hyperparameters: Hyperparameters
    tp_size: int = 1
    cp_size: int = 1
    ep_size: int = 1
    pp_size: int = 1
    frozen: int = 0
    """The number of copies of the starting model beside the one that learns; each process has all of them."""

    @property
    def bytes(self) -> int:
        """The bytes of a number in the compute type."""
        return _BYTES[self.precision]

    @property
    def step(self) -> int:
        """Lengths are rounded up to multiples of this."""
        return shape_rounding.step_of(self.device, self.bytes)

    def filled(self, count: int) -> int:
        """Return `count` rounded up to the rows that are computed."""
        return shape_rounding.rows(count, self.step)

    @property
    def adapter(self) -> bool:
        return isinstance(self.tuning, AdapterTuning)

    @property
    def quantized(self) -> bool:
        return isinstance(self.tuning, QloraTuning)

    @property
    def rank(self) -> int:
        return self.tuning.r if isinstance(self.tuning, AdapterTuning) else 0

    @property
    def kernels(self) -> bool:
        """Whether engine.model.kernels support this type on this device."""
        return self.device == "cpu" and self.precision in {"fp32", "bf16"}

    def by_hand(self, shape: Shape) -> bool:
        """Return whether layers are computed by engine.model.llama, which keeps less than transformers' own modules."""
        plain = self.checkpointing == "none" and not self.dropout and not self.dora and self.alone
        plain = plain and not self.beside(shape).linears
        return plain and self.kernels and shape.family in {"llama", "mistral", "qwen2"}

    @property
    def moves_layers(self) -> bool:
        """Whether the layers are offloaded from where they are used."""
        return sharing.moves_layers(self.hyperparameters, self.device)

    @property
    def alone(self) -> bool:
        """Whether each process computes its layers without others."""
        return self.tp_size == self.cp_size == self.ep_size == 1

    @property
    def team(self) -> int:
        """The number of processes that work on the same rows."""
        return max(self.tp_size, self.cp_size, self.ep_size, self.pp_size)

    def residual(self, shape: Shape) -> int:
        """Return the bytes of a number in the residual stream: fp32, or in modules the type of the embedding."""
        whole = self.beside(shape).ends
        learns = EMBEDDING in whole or (shape.tied and bool(whole))
        return self.bytes if self.adapter and not learns and not self.by_hand(shape) else 4

    @property
    def checkpointing(self) -> str:
        how = self.hyperparameters.activation_checkpointing
        assert isinstance(how, str), "specs say it in words"
        return how

    @property
    def dropout(self) -> bool:
        return isinstance(self.tuning, AdapterTuning) and self.tuning.lora_dropout > 0

    @property
    def dora(self) -> bool:
        return isinstance(self.tuning, AdapterTuning) and self.tuning.use_dora

    def adapted(self, shape: Shape) -> list[Linear]:
        """Return which of a layer's linear layers have an adapter."""
        if not isinstance(self.tuning, AdapterTuning):
            return []
        targets, whole = self.tuning.target_modules, self.beside(shape).linears
        return [
            linear
            for linear in shape.linears
            if linear not in whole
            and (targets == "all-linear" or any(f".{linear.name}".endswith(f".{target}") for target in targets))
        ]

    def beside(self, shape: Shape) -> Beside:
        """Return the modules that are trained whole beside an adapter.

        Raises:
            SpecError: no plan is made for them.
        """
        if not (isinstance(self.tuning, AdapterTuning) and self.tuning.modules_to_save):
            return Beside()
        beside = Beside.of(shape, self.tuning.modules_to_save)
        if self.quantized and any(linear.inputs % NF4_BLOCK == 0 for linear in beside.linears):
            message = "no memory plan is made where tuning.modules_to_save names linear layers in 4 bits"
            raise SpecError(NO_PLAN, message, "They cannot be trained; use tuning.method 'lora'.")
        return beside

    def whole(self, shape: Shape) -> set[str]:
        """Return which of embedding and head are present and learn; only one of the two if they are tied."""
        saved = {EMBEDDING, HEAD}
        if isinstance(self.tuning, AdapterTuning):
            saved &= self.beside(shape).ends
        if shape.tied and saved:
            saved = {HEAD if shape.ends else EMBEDDING} if shape.starts or shape.ends else set()
        return saved & {name for name, there in ((EMBEDDING, shape.starts), (HEAD, shape.ends)) if there}

    def head_learns(self, shape: Shape) -> bool:
        return HEAD in self.whole(shape)
