"""What is trained whole beside an adapter (tuning.modules_to_save), found by the ends of the modules' names."""

from collections.abc import Iterable
from typing import NamedTuple

from engine.errors import SpecError
from engine.plan.shape import GPT2, NO_PLAN, Linear, Shape

EMBEDDING, HEAD = "embed_tokens", "lm_head"


class Beside(NamedTuple):
    """Linear layers and norms are those of each layer."""

    ends: frozenset[str] = frozenset()
    """Embedding and head, as far as they are meant."""
    linears: tuple[Linear, ...] = ()
    norms: int = 0
    """Numbers of them."""
    biases: int = 0
    """Of the linear layers."""
    others: int = 0
    """Outside of layers, besides the two ends: the last norm, and positions."""

    @classmethod
    def of(cls, shape: Shape, names: Iterable[str]) -> "Beside":
        """Raises SpecError: a name is that of something whose parts no plan knows, or of some layers' alone."""
        ends = dict(zip(_ends_of(shape), (EMBEDDING, HEAD), strict=True))
        linears = {linear.name: linear for linear in shape.linears}
        others = shape.other_vectors
        known = (*ends, *linears, *shape.norms, *others)
        asked = tuple(names)
        for name in asked:
            if not any(f".{module}".endswith(f".{name}") for module in known):
                told = f"no memory plan is made where tuning.modules_to_save names {name}"
                raise SpecError(
                    NO_PLAN, told, "Plans know embeddings, heads, norms and the linear layers of all layers."
                )
        # PEFT asks for no dot ahead of a name: `norm` is a layer's input_layernorm too.
        meant = {module for module in known if module.endswith(asked)}
        whole = tuple(linear for name, linear in linears.items() if name in meant)
        return cls(
            ends=frozenset(end for module, end in ends.items() if module in meant),
            linears=whole,
            norms=sum(size for name, size in shape.norms.items() if name in meant),
            biases=sum(map(shape.bias, whole)),
            others=sum(size for name, size in others.items() if name in meant),
        )

    @property
    def of_layer(self) -> int:
        """Numbers."""
        return sum(linear.size for linear in self.linears) + self.norms + self.biases


def _ends_of(shape: Shape) -> tuple[str, str]:
    return ("transformer.wte", HEAD) if shape.family == GPT2 else (f"model.{EMBEDDING}", HEAD)
