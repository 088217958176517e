"""Requests of completions as OpenAI's clients send them. Fields that would be silently ignored are refused."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from api.numbers import WHOLE
from engine.parts import Text as Storable

_MOST_ANSWERS = 16
Stop = Annotated[str, Field(min_length=1, max_length=200)]
_Few = Field(min_length=1, max_length=_MOST_ANSWERS)
_Tokens = Annotated[list[Annotated[int, Field(strict=True), WHOLE]], Field(min_length=1, fail_fast=True)]
"""Only the first item that is no token is reported; there may be very many."""


def _listed(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


def _not_done(given: Any) -> Any:
    if given not in (None, [], {}):
        raise ValueError("this is not supported; leave it out")


_NOTHING = [{"type": "null"}, {"type": "array", "maxItems": 0}, {"type": "object", "maxProperties": 0}]
NotDone = Annotated[
    None,
    BeforeValidator(_not_done),
    WithJsonSchema({"anyOf": _NOTHING}),
    Field(description="Not supported; must be null, empty or left out."),
]
"""Clients send null or an empty list or object for arguments that are unset, and for fields that an answer lacks when it is
sent back as a turn."""


class Text(BaseModel):
    """A text part of a message, the only type of part that is supported."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """A turn of a conversation; `developer` means the same as `system`."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[Text], Field(fail_fast=True)] | None = Field(
        description="The text of the message; only an assistant's may be null."
    )
    name: str | None = Field(default=None, description="The name of the speaker, for chat templates that use it.")
    refusal: NotDone = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    audio: NotDone = None
    function_call: NotDone = None
    tool_calls: NotDone = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.content is None and self.role != "assistant":
            raise ValueError("only an assistant's content may be null")
        return self

    def plain(self) -> dict[str, str]:
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content or ())
        named = {} if self.name is None else {"name": self.name}
        return {"role": "system" if self.role == "developer" else self.role, "content": text} | named


class StreamOptions(BaseModel):
    """What a stream contains in addition to the text."""

    model_config = ConfigDict(extra="ignore")

    include_usage: bool = False


class ResponseFormat(BaseModel):
    """The format of the answer; only text is supported."""

    type: Literal["text"] = "text"


_NULL_TOO = ("temperature", "top_p", "n", "num_beams", "length_penalty", "max_tokens")
"""Fields for which null means the default."""


def _or_null(schema: dict[str, Any]) -> None:
    """Allow null in the JSON schema of a field."""
    about = {name: schema.pop(name) for name in ("default", "title", "description") if name in schema}
    own = dict(schema)
    schema.clear()
    schema |= {"anyOf": [own, {"type": "null"}]} | about


class Sampling(BaseModel):
    """What both kinds of request share. Temperature 0 is greedy decoding; the same seed samples the same tokens."""

    model_config = ConfigDict(extra="forbid")

    model: Storable = Field(
        min_length=1,
        max_length=200,
        description="The model, adapter or checkpoint that answers: its name, name/version, name@alias, id or "
        "fine-tuned name.",
    )
    temperature: float = Field(default=1.0, ge=0, le=2, allow_inf_nan=False, json_schema_extra=_or_null)
    top_p: float = Field(default=1.0, gt=0, le=1, json_schema_extra=_or_null)
    n: Annotated[int, Field(ge=1, le=_MOST_ANSWERS, strict=True, json_schema_extra=_or_null), WHOLE] = 1
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1, strict=True), WHOLE] | None = None
    stop: Annotated[list[Stop], BeforeValidator(_listed), Field(max_length=4)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    frequency_penalty: Literal[0] | None = Field(
        default=None, description="Not supported; must be 0, null or left out."
    )
    presence_penalty: Literal[0] | None = Field(default=None, description="Not supported; must be 0, null or left out.")
    logit_bias: NotDone = None
    user: str | None = None
    num_beams: Annotated[int, Field(ge=1, le=_MOST_ANSWERS, strict=True), WHOLE] = Field(
        default=1,
        json_schema_extra=_or_null,
        description="The number of beams. Above 1, the `n` likeliest answers are found by beam search instead of sampling; "
        "temperature must then be 0 or left out, and a stream starts when the search has ended.",
    )
    length_penalty: float = Field(
        default=1.0,
        ge=-10,
        le=10,
        allow_inf_nan=False,
        json_schema_extra=_or_null,
        description="The exponent of beam search's length penalty: answers are compared by log-probability / length**x.",
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_left_out(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if value is not None or name not in _NULL_TOO}

    @model_validator(mode="after")
    def _searched_or_drawn(self) -> Self:
        given = self.model_fields_set
        if self.num_beams == 1:
            if "length_penalty" in given:
                raise ValueError("length_penalty belongs to beam search; set num_beams too")
            return self
        if self.n > self.num_beams:
            raise ValueError(f"n is {self.n}, but num_beams {self.num_beams} finds only as many answers")
        for name, neutral in (("temperature", 0), ("top_p", 1)):
            if name in given and getattr(self, name) != neutral:
                raise ValueError(f"{name} must be {neutral} or left out with num_beams: beam search does not sample")
        return self

    def decoding(self) -> dict[str, Any]:
        """Return the parameters of decoding for the engine, except the seed."""
        return {
            "n": self.n,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "stop": self.stop or [],
            "num_beams": self.num_beams,
            "length_penalty": self.length_penalty,
        }


class ChatRequest(Sampling):
    """A conversation to answer."""

    messages: list[Message] = Field(min_length=1, max_length=4096)
    max_completion_tokens: Annotated[int, Field(ge=1, le=2**20, strict=True), WHOLE] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=2**20, strict=True), WHOLE] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20, strict=True), WHOLE] | None = None
    response_format: ResponseFormat | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    tools: NotDone = None
    tool_choice: NotDone = None
    parallel_tool_calls: NotDone = None
    functions: NotDone = None
    function_call: NotDone = None
    modalities: NotDone = None
    audio: NotDone = None
    prediction: NotDone = None
    reasoning_effort: NotDone = None
    service_tier: NotDone = None
    verbosity: NotDone = None
    web_search_options: NotDone = None
    safety_identifier: NotDone = None
    prompt_cache_key: NotDone = None
    prompt_cache_retention: NotDone = None

    @model_validator(mode="after")
    def _logprobs_asked_for(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs to be true")
        return self

    def question(self) -> dict[str, Any]:
        return self.decoding() | {
            "ask": "chat",
            "messages": [message.plain() for message in self.messages],
            "max_tokens": self.max_completion_tokens or self.max_tokens,
            "logprobs": (self.top_logprobs or 0) if self.logprobs else None,
        }


class CompletionRequest(Sampling):
    """Prompts to continue, as texts or as tokens."""

    prompt: str | Annotated[list[str], _Few] | _Tokens | Annotated[list[_Tokens], _Few]
    max_tokens: Annotated[int, Field(ge=1, le=2**20, strict=True), WHOLE] | None = 16
    logprobs: Annotated[int, Field(ge=0, le=20, strict=True), WHOLE] | None = None
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None
    suffix: NotDone = None

    @field_validator("prompt", mode="before")
    @classmethod
    def _a_few_prompts(cls, given: Any) -> Any:
        """Check the number of prompts in one place, where each member of the union would report it."""
        if isinstance(given, list) and not 1 <= len(_prompts(given)) <= _MOST_ANSWERS:
            raise ValueError(f"1 to {_MOST_ANSWERS} prompts can be answered at once")
        return given

    def prompts(self) -> list[Any]:
        return _prompts(self.prompt)

    def question(self) -> dict[str, Any]:
        return self.decoding() | {
            "ask": "complete",
            "prompts": self.prompts(),
            "max_tokens": self.max_tokens,
            "logprobs": self.logprobs,
        }


def _prompts(prompt: Any) -> list[Any]:
    """Return the prompts: a text or a list of tokens is one, a list of either is several."""
    one = isinstance(prompt, str) or (prompt and not isinstance(prompt[0], str | list))
    return [prompt] if one else list(prompt)
