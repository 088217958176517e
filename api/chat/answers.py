"""Answers of models as OpenAI's clients read them; `weights` says which weights gave them."""

from typing import Literal

from pydantic import BaseModel

FinishReason = Literal["stop", "length"]


class Weights(BaseModel):
    """The artifact that answered; an adapter answers over a `base`. A digest covers all files of an artifact."""

    id: str
    reference: str
    digest: str
    base: "Weights | None"


class Usage(BaseModel):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Likely(BaseModel):
    """A token that might have been written. `bytes` are null of one that adds nothing to the text, as an end does."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(Likely):
    """A token that was written, and the likeliest ones."""

    top_logprobs: list[Likely]


class ChatLogprobs(BaseModel):
    """Token by token."""

    content: list[TokenLogprob]
    refusal: None = None


class AssistantMessage(BaseModel):
    """What was written."""

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
    """The answer to a conversation."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str
    weights: Weights


class Delta(BaseModel):
    """What a piece adds to a message."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChunkChoice(BaseModel):
    """A piece of one of `n` answers."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatCompletionChunk(BaseModel):
    """A piece of the answer to a conversation; the last one of a stream that tells usage has no choice."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    system_fingerprint: str
    weights: Weights


class TextLogprobs(BaseModel):
    """Token by token, side by side; `text_offset` counts characters of the answer."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(BaseModel):
    """A text that goes on from a prompt: answers of the first prompt come first."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishReason | None


class Completion(BaseModel):
    """Texts that go on from prompts; of a stream each has a piece of one."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage | None
    system_fingerprint: str
    weights: Weights
