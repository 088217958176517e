"""The modules that are trained whole beside an adapter (tuning.modules_to_save), found by the ends of their names."""

from collections.abc import Iterable
from typing import NamedTuple

from engine.errors import SpecError
from engine.plan.shape import GPT2, NO_PLAN, Linear, Shape

EMBEDDING, HEAD = "embed_tokens", "lm_head"


class Beside(NamedTuple):
    """Modules trained whole beside an adapter; linear layers, norms and biases are those of a single layer."""

    ends: frozenset[str] = frozenset()
    """The embedding and the head, as far as they are named."""
    linears: tuple[Linear, ...] = ()
    norms: int = 0
    """The numbers in the norms."""
    biases: int = 0
    """The numbers in the biases of the linear layers."""
    others: int = 0
    """The numbers outside of layers, without embedding and head: the last norm, and positions."""

    @classmethod
    def of(cls, shape: Shape, names: Iterable[str]) -> "Beside":
        """Find the modules. Raises SpecError for modules that no plan knows, or of single layers."""
        ends = dict(zip(_ends_of(shape), (EMBEDDING, HEAD), strict=True))
        linears = {linear.name: linear for linear in shape.linears}
        others = shape.other_vectors
        known = (*ends, *linears, *shape.norms, *others)
        asked = tuple(names)
        for name in asked:
            if not any(f".{module}".endswith(f".{name}") for module in known):
                message = f"no memory plan is made where tuning.modules_to_save names {name}"
                raise SpecError(
                    NO_PLAN, message, "Plans know embeddings, heads, norms and the linear layers of all layers."
                )
        # PEFT does not require a dot ahead of a name: `norm` matches a layer's input_layernorm too.
        named = {module for module in known if module.endswith(asked)}
        whole = tuple(linear for name, linear in linears.items() if name in named)
        return cls(
            ends=frozenset(end for module, end in ends.items() if module in named),
            linears=whole,
            norms=sum(size for name, size in shape.norms.items() if name in named),
            biases=sum(map(shape.bias, whole)),
            others=sum(size for name, size in others.items() if name in named),
        )

    @property
    def of_layer(self) -> int:
        """The numbers in each layer."""
        return sum(linear.size for linear in self.linears) + self.norms + self.biases


def _ends_of(shape: Shape) -> tuple[str, str]:
    return ("transformer.wte", HEAD) if shape.family == GPT2 else (f"model.{EMBEDDING}", HEAD)
