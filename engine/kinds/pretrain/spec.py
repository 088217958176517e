"""Pre-training: next-token prediction on text, from scratch or from an existing model."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AliasChoices, Discriminator, Field, Tag, model_validator

from engine.parts import TOKEN_METRICS, Auto, FileId, FullTuning, MixedTrainingSpec, Part, Reference, Tuning
from engine.plan.ranks import unfit
from engine.plan.shape import LLAMA, MIXTRAL, Shape
from engine.rows import PURPOSES


def _shape(width: int, layers: int, *, heads: int, key_value_heads: int, intermediate: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_value_heads,
    }


Size = Literal["tiny", "9m", "27m", "124m", "350m", "1b", "3b", "8b"]

SIZES: dict[str, dict[str, Any]] = {
    "tiny": _shape(128, 4, heads=4, key_value_heads=4, intermediate=352),
    "9m": _shape(256, 8, heads=8, key_value_heads=4, intermediate=704),
    "27m": _shape(512, 8, heads=8, key_value_heads=4, intermediate=1408),
    "124m": _shape(768, 12, heads=12, key_value_heads=12, intermediate=2048),
    "350m": _shape(1024, 24, heads=16, key_value_heads=16, intermediate=2816),
    "1b": _shape(2048, 16, heads=32, key_value_heads=8, intermediate=8192),
    "3b": _shape(3072, 28, heads=24, key_value_heads=8, intermediate=8192),
    "8b": _shape(4096, 32, heads=32, key_value_heads=8, intermediate=14_336),
}
"""Shapes by the approximate number of weights, with a vocabulary usual for that size; 1b to 8b are those of Llama 3."""


class Architecture(Part):
    """A Llama-style decoder: RMSNorm, rotary positions, grouped-query attention, SwiGLU.

    With `num_local_experts` its MLPs are mixtures of experts, and the model is a Mixtral.
    """

    type: Literal["llama"] = "llama"
    size: Size | None = Field(default=None, description="A shape by name; fields that are given beside it override it.")
    hidden_size: int = Field(default=256, ge=16, le=32_768)
    intermediate_size: int | None = Field(
        default=None, ge=16, le=131_072, description="8/3 of hidden_size if left out."
    )
    num_hidden_layers: int = Field(default=4, ge=1, le=256)
    num_attention_heads: int = Field(default=4, ge=1, le=256)
    num_key_value_heads: int | None = Field(default=None, ge=1, le=256, description="num_attention_heads if left out.")
    tie_word_embeddings: bool = True
    rope_theta: float = Field(default=10_000.0, ge=1, le=1e9)
    num_local_experts: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Expert MLPs of intermediate_size in each layer, of which every token goes through a few "
        "(Mixtral, arXiv:2401.04088). 1 or left out: one MLP for all tokens.",
    )
    num_experts_per_tok: int = Field(
        default=2,
        ge=1,
        le=64,
        description="How many experts a token goes through: those that the router rates highest.",
    )
    router_aux_loss_coef: float = Field(
        default=0.01,
        ge=0,
        le=100,
        description="Weight of the loss that keeps experts evenly used (Switch Transformer, arXiv:2101.03961), computed "
        "over each document by itself; 0: none. It is not part of the reported loss.",
    )

    @model_validator(mode="before")
    @classmethod
    def _shape_of_size(cls, given: Any) -> Any:
        named = given.get("size") if isinstance(given, dict) else None
        return SIZES[named] | given if isinstance(named, str) and named in SIZES else given

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        if (self.hidden_size // self.num_attention_heads) % 2:
            raise ValueError("hidden_size / num_attention_heads must be even: rotary positions turn pairs")
        if self.num_attention_heads % (self.num_key_value_heads or 1):
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of "
                f"num_key_value_heads {self.num_key_value_heads}"
            )
        if self.experts > 1 and self.num_experts_per_tok > self.experts:
            raise ValueError(
                f"num_experts_per_tok {self.num_experts_per_tok} is more than num_local_experts {self.num_local_experts}"
            )
        return self

    @model_validator(mode="after")
    def _experts_to_choose_from(self) -> Self:
        for name in ("num_experts_per_tok", "router_aux_loss_coef"):
            value = getattr(self, name)
            if self.num_local_experts is None and value != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name} is {value:g}; without num_local_experts it has no effect: set that too, or leave it out"
                )
        return self

    @property
    def experts(self) -> int:
        return self.num_local_experts or 1

    def config(self) -> dict[str, Any]:
        """Return the fields of config.json that the architecture decides."""
        mixture = {
            "num_local_experts": self.experts,
            "num_experts_per_tok": self.num_experts_per_tok,
            "router_aux_loss_coef": self.router_aux_loss_coef,
            "sliding_window": None,
        }
        return {
            "model_type": MIXTRAL if self.experts > 1 else LLAMA,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size or _round_up(self.hidden_size * 8 // 3, 16),
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads or self.num_attention_heads,
            "tie_word_embeddings": self.tie_word_embeddings,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            **(mixture if self.experts > 1 else {}),
        }


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


class TokenizerTraining(Part):
    """A tokenizer trained on the training text; it has the special tokens of chat too."""

    type: Literal["bpe", "char", "byte"] = Field(
        default="bpe", description="bpe: bytes and merges. char: the characters that occur. byte: the 256 bytes."
    )
    vocab_size: int = Field(default=4096, ge=300, le=1_000_000, description="Most tokens it may have; byte has 263.")


def _shape_of_model(value: object) -> str:
    return "reference" if isinstance(value, str) else "architecture"


class PretrainSpec(MixedTrainingSpec):
    """Train a model from scratch (`model` is an architecture) or continue one (`model` is a name)."""

    PURPOSE = "pretrain"
    FORMATS = PURPOSES["pretrain"]
    LEARNING_RATE = 1e-4
    NEW_MODEL_RATE: ClassVar[float] = 1e-3
    METRICS = TOKEN_METRICS

    kind: Literal["pretrain"] = "pretrain"
    model: Annotated[
        Annotated[Architecture, Tag("architecture")] | Annotated[Reference, Tag("reference")],
        Discriminator(_shape_of_model),
    ] = Field(default=Architecture(), validation_alias=AliasChoices("model", "continue_from"))
    tokenizer: TokenizerTraining = Field(
        default=TokenizerTraining(), description="Used with an architecture; an existing model keeps its own tokenizer."
    )
    validation_file: FileId | Auto | None = Field(
        default="auto", description="auto: 5% of the documents, chosen by hash."
    )
    tuning: Tuning = FullTuning()

    @model_validator(mode="after")
    def _texts_go_on(self) -> Self:
        if self.hyperparameters.long_rows == "drop":
            raise ValueError(
                "hyperparameters.long_rows is for conversations; a text over max_length continues in further rows"
            )
        return self

    def full_rate(self) -> float:
        return self.LEARNING_RATE if isinstance(self.model, str) else self.NEW_MODEL_RATE

    @model_validator(mode="after")
    def _something_to_adapt(self) -> Self:
        if isinstance(self.model, Architecture) and not isinstance(self.tuning, FullTuning):
            raise ValueError(  # noqa: TRY004 - pydantic reports ValueError alone as the caller's mistake
                f"tuning.method is {self.tuning.method!r}: an adapter adds to trained weights, and those of a new model are "
                "random; name an existing model, or use 'full'"
            )
        return self

    @model_validator(mode="after")
    def _teams_can_share_a_new_model(self) -> Self:
        """Check a new model; an existing model is checked when it is read."""
        way = self.resources.parallel.way
        if way is not None and isinstance(self.model, Architecture):
            shape = Shape.of(self.model.config() | {"vocab_size": self.tokenizer.vocab_size})
            if (refusal := unfit(*way, shape)) is not None:
                raise ValueError(str(refusal))
        return self
