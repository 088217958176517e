"""What is asked of a model, as OpenAI's clients send it. A field that would be passed over in silence is refused."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from api.numbers import WHOLE

_MOST_ANSWERS = 16
Stop = Annotated[str, Field(min_length=1, max_length=200)]
_Few = Field(min_length=1, max_length=_MOST_ANSWERS)
_Tokens = Annotated[list[int], Field(min_length=1, fail_fast=True)]
"""The first that is none is told; there may be very many."""


def _listed(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


def _not_done(given: Any) -> Any:
    if given is not None:
        raise ValueError("this is not done here; leave it out")
    return given


NotDone = Annotated[None, BeforeValidator(_not_done), Field(description="Not done here, so nothing but null.")]
"""OpenAI's clients send null for what their caller passes as None, and for what an answer that goes back as a turn has not."""


class Text(BaseModel):
    """A part of a message; there are no others."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """A turn of a conversation; `developer` is `system` by another name."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[Text], Field(fail_fast=True)] | None = Field(
        description="Null, which is no text, in an assistant's turn alone."
    )
    name: str | None = Field(default=None, description="Of who speaks, for chat templates that write it.")
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
    """What a stream tells beside the text."""

    model_config = ConfigDict(extra="ignore")

    include_usage: bool = False


class ResponseFormat(BaseModel):
    """Text alone is written."""

    type: Literal["text"] = "text"


_NULL_TOO = ("temperature", "top_p", "n", "num_beams", "length_penalty", "max_tokens")
"""Null is what is left out, and never reaches a field."""


def _or_null(schema: dict[str, Any]) -> None:
    """The document says so."""
    about = {name: schema.pop(name) for name in ("default", "title", "description") if name in schema}
    told = dict(schema)
    schema.clear()
    schema |= {"anyOf": [told, {"type": "null"}]} | about


class Sampling(BaseModel):
    """What both kinds of request have. At temperature 0 the likeliest token is taken; the same seed draws the same."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1, max_length=200, description="name, name/version, an id, or a fine-tuned name.")
    temperature: float = Field(default=1.0, ge=0, le=2, allow_inf_nan=False, json_schema_extra=_or_null)
    top_p: float = Field(default=1.0, gt=0, le=1, json_schema_extra=_or_null)
    n: Annotated[int, Field(ge=1, le=_MOST_ANSWERS, strict=True, json_schema_extra=_or_null), WHOLE] = 1
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1, strict=True), WHOLE] | None = None
    stop: Annotated[list[Stop], BeforeValidator(_listed), Field(max_length=4)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    frequency_penalty: Literal[0] | None = Field(default=None, description="Not applied, so nothing but 0.")
    presence_penalty: Literal[0] | None = Field(default=None, description="Not applied, so nothing but 0.")
    logit_bias: NotDone = None
    user: str | None = None
    num_beams: Annotated[int, Field(ge=1, le=_MOST_ANSWERS, strict=True), WHOLE] = Field(
        default=1,
        json_schema_extra=_or_null,
        description="Over 1: beam search for the `n` likeliest answers, at most so many, instead of drawing; "
        "temperature is 0 then, or left out. A stream has them when the search has ended.",
    )
    length_penalty: float = Field(
        default=1.0,
        ge=-10,
        le=10,
        allow_inf_nan=False,
        json_schema_extra=_or_null,
        description="Of beam search: answers are compared by their log-probability over their length to this power.",
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
                raise ValueError("length_penalty belongs to beam search; give num_beams too")
            return self
        if self.n > self.num_beams:
            raise ValueError(f"n is {self.n}, and num_beams {self.num_beams} finds no more than that")
        for name, neutral in (("temperature", 0), ("top_p", 1)):
            if name in given and getattr(self, name) != neutral:
                raise ValueError(f"{name} must be {neutral} or left out beside num_beams: a search draws nothing")
        return self

    def decoding(self) -> dict[str, Any]:
        """For the engine, but for the seed."""
        return {
            "n": self.n,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "stop": self.stop or [],
            "num_beams": self.num_beams,
            "length_penalty": self.length_penalty,
        }


class ChatRequest(Sampling):
    """A conversation to go on with."""

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
        if self.top_logprobs is not None and not self.logprobs:
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
    """Texts to go on with, as text or as tokens."""

    prompt: str | Annotated[list[str], _Few] | _Tokens | Annotated[list[_Tokens], _Few]
    max_tokens: Annotated[int, Field(ge=1, le=2**20, strict=True), WHOLE] | None = 16
    logprobs: Annotated[int, Field(ge=0, le=20, strict=True), WHOLE] | None = None
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None
    suffix: NotDone = None

    @field_validator("prompt", mode="before")
    @classmethod
    def _a_few_prompts(cls, given: Any) -> Any:
        """In one sentence, where each member of the union would have one."""
        if isinstance(given, list) and not 1 <= len(_prompts(given)) <= _MOST_ANSWERS:
            raise ValueError(f"1 to {_MOST_ANSWERS} prompts can be answered at once")
        return given

    def prompts(self) -> list[Any]:
        return _prompts(self.prompt)

    def question(self) -> dict[str, Any]:
        told = {"ask": "complete", "prompts": self.prompts(), "max_tokens": self.max_tokens, "logprobs": self.logprobs}
        return self.decoding() | told


def _prompts(prompt: Any) -> list[Any]:
    """Text or tokens are one; a list of either is as many as it has."""
    one = isinstance(prompt, str) or (prompt and not isinstance(prompt[0], str | list))
    return [prompt] if one else list(prompt)
