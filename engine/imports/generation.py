"""generation_config.json: the tokens that end an answer, and how the model's authors sample from it."""

from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.imports.config import Family
from engine.imports.fault import ImportFault, shown

_Token = Annotated[int, Field(ge=0, le=1 << 22, strict=True)]
_Tokens: TypeAlias = _Token | Annotated[list[_Token], Field(max_length=16)] | None
_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None
_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
_OF_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "typical_p")
"""Not kept without `do_sample`: they have no effect then, and transformers refuses to save such a config."""


class _Generation(BaseModel):
    """The fields that are kept. Others, such as lengths, caches and assistants, are matters of the software used."""

    model_config = ConfigDict(extra="ignore", strict=True)

    bos_token_id: _Token | None = None
    eos_token_id: _Tokens = None
    pad_token_id: _Token | None = None
    do_sample: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = None
    top_p: _Share = None
    top_k: Annotated[int, Field(ge=0, le=1 << 22, strict=True)] | None = None
    min_p: _Share = None
    typical_p: _Share = None
    repetition_penalty: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] | None = None


def kept_generation(given: dict[str, Any], config: Family) -> dict[str, Any]:
    """Return the generation_config.json that is kept; tokens that it does not name are those of config.json.

    Raises:
        ImportFault: a field has a value of another type, or out of bounds.
    """
    try:
        fields = _Generation.model_validate(given).model_dump(exclude_none=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(shown(str(part)) for part in first["loc"])
        message = f"is {shown(first['input'])}: {first['msg']}"
        mend = "correct it, or leave the file out"
        raise ImportFault("bad_generation_config", f"generation_config.json: {path}", message, mend) from error
    if not fields.get("do_sample"):
        fields = {name: value for name, value in fields.items() if name not in _OF_SAMPLING}
    named = {name: getattr(config, name) for name in _TOKENS}
    return {name: value for name, value in named.items() if value is not None} | fields
