"""A decoder's sizes, as its config.json tells them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from engine.errors import SpecError

GPT2, LLAMA, MIXTRAL = "gpt2", "llama", "mixtral"
NO_PLAN = "plan_unsupported"
"""The code of a SpecError: nothing is planned for such models or tunings."""


class Linear(NamedTuple):
    """A linear layer by its name within the layer."""

    name: str
    source: str
    """What its input is; layers of one source share it."""
    inputs: int
    outputs: int
    experts: int = 1
    """As many lie in one tensor, and a token goes through some of them (`Shape.chosen`)."""

    @property
    def size(self) -> int:
        return self.inputs * self.outputs * self.experts


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder: `inner` is the MLP's width, `vectors` the rest of a layer's weights.

    `waiting` are the numbers that an MLP by modules keeps for each of its width, beside the input of its last layer.
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
    """SiLU keeps the gate, its product with `up` both factors."""
    positions: int = 0
    """Those that have weights of their own."""
    experts: int = 1
    """MLPs of a layer, each `inner` wide."""
    chosen: int = 1
    """Those of them that a token goes through."""
    elsewhere: int = 0
    """More that other ranks hold."""
    starts: bool = True
    """Whether the embedding is there."""
    ends: bool = True
    """Whether the last norm and the head are."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Shape":
        """From config.json.

        Raises:
            SpecError: the config is not one of a Llama-style decoder, nor of GPT-2's.
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
        """A rank's, where so many hold the linear layers or the experts together: fewer heads, a narrower MLP."""
        return replace(
            self,
            heads=self.heads // tp_size,
            kv_heads=self.kv_heads // tp_size,
            inner=self.inner // tp_size,
            experts=self.experts // ep_size,
            elsewhere=self.experts - self.experts // ep_size,
        )

    def stage(self, layers: range) -> "Shape":
        """That of a rank which has these layers alone."""
        return replace(self, layers=len(layers), starts=layers.start == 0, ends=layers.stop == self.layers)

    @property
    def by_formula(self) -> bool:
        """Whether its GELU is taken step by step: the input, its half, the hyperbolic tangent and 1 more than that wait."""
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
        """Of one layer."""
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
        """Numbers of a layer's bias."""
        biased = self.family == GPT2 or (self.family == "qwen2" and linear.source == "norm")
        return linear.outputs if biased else 0

    @property
    def norms(self) -> dict[str, int]:
        """Numbers of each norm of a layer, by its name within the layer."""
        if self.family == GPT2:
            return {"ln_1": 2 * self.hidden, "ln_2": 2 * self.hidden}
        of_heads = {f"self_attn.{name}_norm": self.head_dim for name in "qk"} if self.family == "qwen3" else {}
        return {"input_layernorm": self.hidden, "post_attention_layernorm": self.hidden, **of_heads}

    @property
    def other_vectors(self) -> dict[str, int]:
        """Numbers of what is in no layer, beside embedding and head, by its name."""
        if self.family == GPT2:
            return {"transformer.ln_f": 2 * self.hidden, "transformer.wpe": self.positions * self.hidden}
        return {"model.norm": self.hidden}

    @property
    def linear_weights(self) -> int:
        """Of all layers."""
        return self.layers * sum(linear.size for linear in self.linears)

    @property
    def passed_weights(self) -> int:
        """Those of them that each token is multiplied by: of a mixture of experts, the chosen ones'."""
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
