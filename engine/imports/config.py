"""config.json of the supported families: only harmless fields, with values within bounds, are accepted."""

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.imports.fault import ImportFault, shown
from engine.rows import did_you_mean

_Size = Annotated[int, Field(ge=1, le=1 << 20, strict=True)]
_Layers = Annotated[int, Field(ge=1, le=512, strict=True)]
_Heads = Annotated[int, Field(ge=1, le=1024, strict=True)]
_Vocabulary = Annotated[int, Field(ge=1, le=1 << 22, strict=True)]
_Positions = Annotated[int, Field(ge=1, le=1 << 24, strict=True)]
_Token = Annotated[int, Field(ge=0, le=1 << 22, strict=True)]
_Tokens: TypeAlias = _Token | Annotated[list[_Token], Field(max_length=16)] | None
_Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Dtype = Literal["float32", "float16", "bfloat16", "float64"] | None
_Activation = Literal["silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu"]
_LayerTypes = Annotated[list[Literal["full_attention", "sliding_attention"]], Field(max_length=512)] | None

NOT_TAKEN = frozenset(
    {
        "_name_or_path", "transformers_version", "architectures", "use_cache", "torchscript", "output_attentions",
        "output_hidden_states", "return_dict", "_attn_implementation", "attn_implementation", "gradient_checkpointing",
        "task_specific_params", "model_max_length", "problem_type", "label2id", "id2label", "chunk_size_feed_forward",
        "is_encoder_decoder", "is_decoder", "add_cross_attention", "tie_encoder_decoder", "n_ctx", "pretraining_tp",
        "_attn_implementation_autoset", "use_bfloat16", "finetuning_task", "tokenizer_class", "prefix",
        "summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj",
        "unsloth_version", "unsloth_fixed",
    }
)  # fmt: skip
"""Fields of many configs that have no effect on what a decoder computes; they are not kept."""
_CODE = ("auto_map", "trust_remote_code", "custom_pipelines", "custom_objects")
_QUANTIZED = ("quantization_config", "compression_config")


class _Config(BaseModel):
    """The fields that all families share. A field that a config leaves out has transformers' default."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())
    MADE_BY: ClassVar[str]

    vocab_size: _Vocabulary
    initializer_range: _Share = 0.02
    dtype: _Dtype = None
    torch_dtype: _Dtype = None
    bos_token_id: _Token | None = None
    eos_token_id: _Tokens = None
    pad_token_id: _Token | None = None
    unk_token_id: _Token | None = None


class Rope(BaseModel):
    """Rotary position embeddings: `rope_parameters`, or `rope_scaling` in older configs."""

    model_config = ConfigDict(extra="forbid", strict=True)

    rope_type: Literal["default", "linear", "dynamic", "yarn", "llama3"] | None = None
    type: Literal["default", "linear", "dynamic", "yarn", "llama3"] | None = None
    rope_theta: _Positive | None = None
    factor: _Positive | None = None
    low_freq_factor: _Positive | None = None
    high_freq_factor: _Positive | None = None
    original_max_position_embeddings: _Positions | None = None
    attention_factor: _Positive | None = None
    beta_fast: _Positive | None = None
    beta_slow: _Positive | None = None
    mscale: _Positive | None = None
    mscale_all_dim: _Positive | None = None
    partial_rotary_factor: Annotated[float, Field(ge=1, le=1)] | None = None


class Decoder(_Config):
    """Llama's fields, which Mistral and Qwen share."""

    hidden_size: _Size
    intermediate_size: _Size
    num_hidden_layers: _Layers
    num_attention_heads: _Heads
    num_key_value_heads: _Heads | None = None
    head_dim: Annotated[int, Field(ge=1, le=4096, strict=True)] | None = None
    max_position_embeddings: _Positions = 2048
    hidden_act: _Activation = "silu"
    rms_norm_eps: _Share = 1e-6
    rope_theta: _Positive | None = None
    rope_scaling: Rope | None = None
    rope_parameters: Rope | None = None
    attention_dropout: _Share = 0.0
    tie_word_embeddings: bool = False

    @property
    def head_size(self) -> int:
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def key_value_heads(self) -> int:
        return self.num_key_value_heads or self.num_attention_heads

    def flaw(self) -> tuple[str, str] | None:
        """Return the field whose value does not fit the others, and why."""
        if self.head_dim is None and self.hidden_size % self.num_attention_heads:
            return "hidden_size", f"is not a multiple of num_attention_heads, {self.num_attention_heads}"
        if self.head_size % 2:
            return "head_dim", f"is {self.head_size}; rotary positions need an even number"
        if self.num_attention_heads % self.key_value_heads:
            return "num_key_value_heads", f"does not divide num_attention_heads, {self.num_attention_heads}"
        types = getattr(self, "layer_types", None)
        if types is not None and len(types) != self.num_hidden_layers:
            return "layer_types", f"names {len(types)} layers of {self.num_hidden_layers}"
        return None


class Llama(Decoder):
    MADE_BY = "LlamaForCausalLM"

    model_type: Literal["llama"]
    attention_bias: bool = False
    mlp_bias: bool = False


class Mistral(Decoder):
    MADE_BY = "MistralForCausalLM"

    model_type: Literal["mistral"]
    max_position_embeddings: _Positions = 131_072
    sliding_window: _Positions | None = 4096


class Qwen2(Decoder):
    MADE_BY = "Qwen2ForCausalLM"

    model_type: Literal["qwen2"]
    max_position_embeddings: _Positions = 32_768
    sliding_window: _Positions | None = None
    use_sliding_window: bool = False
    max_window_layers: Annotated[int, Field(ge=0, le=512, strict=True)] = 28
    layer_types: _LayerTypes = None
    use_mrope: Literal[False] = False


class Qwen3(Qwen2):
    MADE_BY = "Qwen3ForCausalLM"

    model_type: Literal["qwen3"]  # type: ignore[assignment] - another family of the same fields
    attention_bias: bool = False

    @property
    def head_size(self) -> int:
        return self.head_dim or 128  # transformers' own default, whatever the width


class Gpt2(_Config):
    MADE_BY = "GPT2LMHeadModel"

    model_type: Literal["gpt2"]
    # Bounded, as transformers holds a mask of positions x positions in memory.
    n_positions: Annotated[int, Field(ge=1, le=8192, strict=True)] = 1024
    n_embd: _Size = 768
    n_layer: _Layers = 12
    n_head: _Heads = 12
    n_inner: _Size | None = None
    activation_function: _Activation = "gelu_new"
    resid_pdrop: _Share = 0.1
    embd_pdrop: _Share = 0.1
    attn_pdrop: _Share = 0.1
    layer_norm_epsilon: _Share = 1e-5
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    reorder_and_upcast_attn: bool = False
    tie_word_embeddings: bool = True

    def flaw(self) -> tuple[str, str] | None:
        if self.n_embd % self.n_head:
            return "n_embd", f"is not a multiple of n_head, {self.n_head}"
        return None


Family: TypeAlias = Llama | Mistral | Qwen2 | Qwen3 | Gpt2
_FAMILIES: dict[str, type[Family]] = {
    "llama": Llama, "mistral": Mistral, "qwen2": Qwen2, "qwen3": Qwen3, "gpt2": Gpt2,
}  # fmt: skip


def read_config(given: dict[str, Any]) -> Family:
    """Validate a config.json.

    Raises:
        ImportFault: it names another family or code, or has a field that is unknown or out of bounds.
    """
    name = given.get("model_type")
    family = _FAMILIES.get(name) if isinstance(name, str) else None
    if family is None:
        message = f"is {shown(name)}" if name is not None else "is missing"
        raise _fault("unknown_family", "model_type", message, f"known are {', '.join(_FAMILIES)}")
    for field in _CODE:
        if field in given:
            raise _fault("remote_code", field, "names code, and code of models is never run", "leave it out")
    for field in _QUANTIZED:
        if field in given:
            raise _fault("quantized", field, "means that the weights are quantized", "save them in 16 or 32 bits")
    made_by = given.get("architectures")
    if made_by is not None and made_by != [family.MADE_BY]:
        message = f"is {shown(made_by)}"
        raise _fault("wrong_architecture", "architectures", message, f"a decoder with its head is {family.MADE_BY}")
    try:
        config = family.model_validate({key: value for key, value in given.items() if key not in NOT_TAKEN})
    except ValidationError as error:
        raise _invalid(error, family) from error
    if flaw := config.flaw():
        raise _fault("bad_config", flaw[0], flaw[1], "send the config.json that the model came with")
    return config


def kept(config: Family) -> dict[str, Any]:
    """Return the config.json that is kept, without the weights' type, which their own files have."""
    fields = config.model_dump(mode="json", exclude_unset=True, exclude={"dtype", "torch_dtype"})
    return {"architectures": [config.MADE_BY], **fields}


def _invalid(error: ValidationError, family: type[Family]) -> ImportFault:
    first = error.errors(include_url=False)[0]
    path = ".".join(shown(str(part)) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        near = did_you_mean(path[:100], list(family.model_fields))
        return _fault("unknown_field", path, "is not known", f"did you mean {near}?" if near else "leave it out")
    message = f"is {shown(first['input'])}: {first['msg']}" if first["type"] != "missing" else "is missing"
    return _fault("bad_config", path, message, "send the config.json that the model came with")


def _fault(code: str, field: str, message: str, mend: str) -> ImportFault:
    return ImportFault(code, f"config.json: {field}", message, mend)
