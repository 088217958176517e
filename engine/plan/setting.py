"""How a job computes, as far as its memory is concerned."""

from dataclasses import dataclass
from typing import Literal

from engine import shape_rounding
from engine.errors import SpecError
from engine.parts import AdapterTuning, Hyperparameters, QloraTuning, Tuning, sharing
from engine.plan.beside import EMBEDDING, HEAD, Beside
from engine.plan.shape import NO_PLAN, Linear, Shape

NF4_BLOCK = 64
"""Linear layers whose inputs are no multiple of it stay as they are."""
_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True)
class Setting:
    """`precision` and `device` are those that the engine resolved; nothing is `auto` any more."""

    device: Literal["cpu", "cuda"]
    precision: str
    tuning: Tuning
    hyperparameters: Hyperparameters
    tp_size: int = 1
    cp_size: int = 1
    ep_size: int = 1
    pp_size: int = 1
    frozen: int = 0
    """Copies of the starting model beside the one that learns; each process has all of them."""

    @property
    def bytes(self) -> int:
        """Of a number in the compute type."""
        return _BYTES[self.precision]

    @property
    def step(self) -> int:
        """What lengths are filled up to a multiple of."""
        return shape_rounding.step_of(self.device, self.bytes)

    def filled(self, count: int) -> int:
        """The rows that are worked on in place of so many."""
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
        """Whether engine.model.kernels work in this type on this device."""
        return self.device == "cpu" and self.precision in {"fp32", "bf16"}

    def by_hand(self, shape: Shape) -> bool:
        """Whether layers are computed by engine.model.llama, which keeps less than transformers' own modules."""
        plain = self.checkpointing == "none" and not self.dropout and not self.dora and self.alone
        plain = plain and not self.beside(shape).linears
        return plain and self.kernels and shape.family in {"llama", "mistral", "qwen2"}

    @property
    def moves_layers(self) -> bool:
        """Whether the layers lie elsewhere than where they are used."""
        return sharing.moves_layers(self.hyperparameters, self.device)

    @property
    def alone(self) -> bool:
        """Whether a process computes its layers without others."""
        return self.tp_size == self.cp_size == self.ep_size == 1

    @property
    def team(self) -> int:
        """Processes that work on the same rows."""
        return max(self.tp_size, self.cp_size, self.ep_size, self.pp_size)

    def residual(self, shape: Shape) -> int:
        """Bytes of a number in the residual stream: fp32, or in transformers' modules the type of the embedding."""
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
        """Which of a layer's linear layers get an adapter."""
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
        """What is trained whole beside an adapter.

        Raises:
            SpecError: nothing is planned for that.
        """
        if not (isinstance(self.tuning, AdapterTuning) and self.tuning.modules_to_save):
            return Beside()
        beside = Beside.of(shape, self.tuning.modules_to_save)
        if self.quantized and any(linear.inputs % NF4_BLOCK == 0 for linear in beside.linears):
            told = "no memory plan is made where tuning.modules_to_save names linear layers in 4 bits"
            raise SpecError(NO_PLAN, told, "They cannot be trained; use tuning.method 'lora'.")
        return beside

    def whole(self, shape: Shape) -> set[str]:
        """Embedding and head, as far as they are there and learn; one of the two where they are tied."""
        saved = {EMBEDDING, HEAD}
        if isinstance(self.tuning, AdapterTuning):
            saved &= self.beside(shape).ends
        if shape.tied and saved:
            saved = {HEAD if shape.ends else EMBEDDING} if shape.starts or shape.ends else set()
        return saved & {name for name, there in ((EMBEDDING, shape.starts), (HEAD, shape.ends)) if there}

    def head_learns(self, shape: Shape) -> bool:
        return HEAD in self.whole(shape)
