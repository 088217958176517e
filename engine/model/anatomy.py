"""The names of a decoder's parts in each family of models."""

from typing import Any, NamedTuple


class Names(NamedTuple):
    """The names of the parts within the backbone."""

    embedding: str
    layers: str
    norm: str
    """The norm after the last layer."""


_USUAL, _OTHERS = Names("embed_tokens", "layers", "norm"), {"gpt2": Names("wte", "h", "ln_f")}


def names_in(decoder: Any) -> Names:
    return _OTHERS.get(decoder.config.model_type, _USUAL)


def backbone_in(decoder: Any) -> Any:
    return getattr(decoder, decoder.base_model_prefix)


def layers_in(decoder: Any) -> Any:
    return getattr(backbone_in(decoder), names_in(decoder).layers)
