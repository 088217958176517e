"""A decoder's sizes, from its config.json."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from engine.errors import SpecError

GPT2, LLAMA, MIXTRAL = "gpt2", "llama", "mixtral"
NO_PLAN = "plan_unsupported"
"""The code of a SpecError for models and tunings that no plan is made for."""


class Linear(NamedTuple):
    """A linear layer, by its name within the decoder layer."""

    name: str
    source: str
    """The name of its input; layers with the same source share it."""
    inputs: int
    outputs: int
    experts: int = 1
    """How many experts are in the tensor; a token goes through some of them (`Shape.chosen`)."""

    @property
    def size(self) -> int:
        return self.inputs * self.outputs * self.experts


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder: `inner` is the width of the MLP, `vectors` are the other weights of a layer.

    `waiting` are the numbers that an MLP by modules keeps per unit of its width, beside the input of its last layer.
    """

    family: str
    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    vectors: int
    waiting: int = 3
    """SiLU keeps the gate; the product of its result with `up` keeps both factors."""
    positions: int = 0
    """The number of learned positions."""
    experts: int = 1
    """The number of MLPs in a layer, each `inner` wide."""
    chosen: int = 1
    """How many of them a token goes through."""
    elsewhere: int = 0
    """How many further experts other ranks hold."""
    starts: bool = True
    """Whether the embedding is present."""
    ends: bool = True
    """Whether the last norm and the head are present."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Shape":
        """Read the sizes from the contents of config.json.

        Raises:
            SpecError: the model is neither a decoder of the Llama family nor a GPT-2.
        """
        kind = str(config.get("model_type", LLAMA))
        if kind == GPT2:
            return cls._of_gpt2(config)
        if kind not in _FAMILY:
            raise SpecError(
                NO_PLAN,
                f"no memory plan is made for models of type {kind!r}",
                f"Plans are made for {', '.join(sorted((*_FAMILY, GPT2)))}.",
            )
        heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
        kv_heads = int(config.get("num_key_value_heads") or heads)
        head_dim = int(config.get("head_dim") or hidden // heads)
        biases = (heads + 2 * kv_heads) * head_dim if kind == "qwen2" else 0
        norms = 2 * hidden + (2 * head_dim if kind == "qwen3" else 0)
        return cls(
            family=kind,
            hidden=hidden,
            inner=int(config["intermediate_size"]),
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            vocabulary=int(config["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", False)),
            vectors=biases + norms,
            experts=int(config["num_local_experts"]) if kind == MIXTRAL else 1,
            chosen=int(config["num_experts_per_tok"]) if kind == MIXTRAL else 1,
        )

    @classmethod
    def _of_gpt2(cls, config: Mapping[str, Any]) -> "Shape":
        heads, hidden = int(config["n_head"]), int(config["n_embd"])
        inner = int(config.get("n_inner") or 4 * hidden)
        norms, biases = 4 * hidden, 5 * hidden + inner
        return cls(
            family=GPT2,
            hidden=hidden,
            inner=inner,
            layers=int(config["n_layer"]),
            heads=heads,
            kv_heads=heads,
            head_dim=hidden // heads,
            vocabulary=int(config["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", True)),
            vectors=norms + biases,
            waiting=_BY_FORMULA if config.get("activation_function", "gelu_new") == "gelu_new" else _IN_ONE,
            positions=int(config["n_positions"]),
        )

    def part(self, *, tp_size: int, ep_size: int) -> "Shape":
        """Return the part of a rank that divides linear layers or experts: fewer heads, a narrower MLP, fewer experts."""
        return replace(
            self,
            heads=self.heads // tp_size,
            kv_heads=self.kv_heads // tp_size,
            inner=self.inner // tp_size,
            experts=self.experts // ep_size,
            elsewhere=self.experts - self.experts // ep_size,
        )

    def stage(self, layers: range) -> "Shape":
        """Return the part of a rank that has only these layers."""
        return replace(self, layers=len(layers), starts=layers.start == 0, ends=layers.stop == self.layers)

    @property
    def by_formula(self) -> bool:
        """Whether GELU is computed step by step, keeping the input, its half, the hyperbolic tangent and 1 plus that."""
        return self.waiting == _BY_FORMULA

    @property
    def query(self) -> int:
        return self.heads * self.head_dim

    @property
    def key(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def embedding(self) -> int:
        return self.vocabulary * self.hidden

    @property
    def linears(self) -> tuple[Linear, ...]:
        """The linear layers of one decoder layer."""
        if self.family == GPT2:
            return (
                Linear("attn.c_attn", "norm", self.hidden, self.query + 2 * self.key),
                Linear("attn.c_proj", "attention", self.query, self.hidden),
                Linear("mlp.c_fc", "second norm", self.hidden, self.inner),
                Linear("mlp.c_proj", "product", self.inner, self.hidden),
            )
        attention = (
            Linear("self_attn.q_proj", "norm", self.hidden, self.query),
            Linear("self_attn.k_proj", "norm", self.hidden, self.key),
            Linear("self_attn.v_proj", "norm", self.hidden, self.key),
            Linear("self_attn.o_proj", "attention", self.query, self.hidden),
        )
        if self.family == MIXTRAL:
            return (
                *attention,
                Linear("mlp.gate", "second norm", self.hidden, self.experts + self.elsewhere),
                Linear("mlp.experts.gate_up_proj", "second norm", self.hidden, 2 * self.inner, self.experts),
                Linear("mlp.experts.down_proj", "product", self.inner, self.hidden, self.experts),
            )
        return (
            *attention,
            Linear("mlp.gate_proj", "second norm", self.hidden, self.inner),
            Linear("mlp.up_proj", "second norm", self.hidden, self.inner),
            Linear("mlp.down_proj", "product", self.inner, self.hidden),
        )

    def bias(self, linear: Linear) -> int:
        """Return the numbers in a layer's bias."""
        biased = self.family == GPT2 or (self.family == "qwen2" and linear.source == "norm")
        return linear.outputs if biased else 0

    @property
    def norms(self) -> dict[str, int]:
        """The numbers in each norm of a layer, by its name within the layer."""
        if self.family == GPT2:
            return {"ln_1": 2 * self.hidden, "ln_2": 2 * self.hidden}
        of_heads = {f"self_attn.{name}_norm": self.head_dim for name in "qk"} if self.family == "qwen3" else {}
        return {"input_layernorm": self.hidden, "post_attention_layernorm": self.hidden, **of_heads}

    @property
    def other_vectors(self) -> dict[str, int]:
        """The numbers in modules outside of layers, without embedding and head, by their names."""
        if self.family == GPT2:
            return {"transformer.ln_f": 2 * self.hidden, "transformer.wpe": self.positions * self.hidden}
        return {"model.norm": self.hidden}

    @property
    def linear_weights(self) -> int:
        """The weights of all layers' linear layers."""
        return self.layers * sum(linear.size for linear in self.linears)

    @property
    def passed_weights(self) -> int:
        """Those of them that each token is multiplied by: of experts, only the chosen ones."""
        parts = (linear.size * (self.chosen if linear.experts > 1 else 1) // linear.experts for linear in self.linears)
        return self.layers * sum(parts)

    @property
    def other_weights(self) -> int:
        """Embeddings, head, norms and biases."""
        last_norm = (2 if self.family == GPT2 else 1) * self.hidden if self.ends else 0
        there = (self.starts or self.ends) if self.tied else self.starts + self.ends
        embeddings = self.embedding * there + (self.positions * self.hidden if self.starts else 0)
        return embeddings + self.layers * self.vectors + last_norm


_BY_FORMULA, _IN_ONE = 4, 1
_FAMILY = frozenset({LLAMA, "mistral", "qwen2", "qwen3", MIXTRAL})
