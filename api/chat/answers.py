"""Completions as OpenAI's clients read them; `weights` identifies the weights that wrote them."""

from typing import Literal

from pydantic import BaseModel

FinishReason = Literal["stop", "length"]


class Weights(BaseModel):
    """The artifact that answered, and the `base` of an adapter. A digest covers all files of an artifact."""

    id: str
    reference: str
    digest: str
    base: "Weights | None"


class Usage(BaseModel):
    """Numbers of tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Likely(BaseModel):
    """A token that could have been written. `bytes` is null for one that adds no text, such as an end token."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(Likely):
    """A token that was written, with the likeliest ones in its place."""

    top_logprobs: list[Likely]


class ChatLogprobs(BaseModel):
    """Log-probabilities, token by token."""

    content: list[TokenLogprob]
    refusal: None = None


class AssistantMessage(BaseModel):
    """The message that the model wrote."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """One of `n` answers."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(BaseModel):
    """The completion of a conversation."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str
    weights: Weights


class Delta(BaseModel):
    """What a chunk adds to a message."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChunkChoice(BaseModel):
    """A chunk of one of `n` answers."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatCompletionChunk(BaseModel):
    """A chunk of the completion of a conversation; the last one of a stream with usage has no choices."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    system_fingerprint: str
    weights: Weights


class TextLogprobs(BaseModel):
    """Log-probabilities of tokens, in lists of equal length; `text_offset` counts characters of the answer."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(BaseModel):
    """A continuation of a prompt; those of the first prompt come first."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishReason | None


class Completion(BaseModel):
    """Continuations of prompts; in a stream, each object has a chunk of one."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage | None
    system_fingerprint: str
    weights: Weights
