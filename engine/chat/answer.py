"""Answers to a conversation, and texts gone on with: parts as they are written."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.chat.spoken import Spoken
from engine.chat.weights import Weights
from engine.data.chat import ensure_chat_template, prompt_tokens
from engine.data.pieces import Detokenizer
from engine.errors import SpecError
from engine.generate import Decoding, Writer, stream
from engine.model.forward import decoder_of
from engine.model.load import Subject
from engine.rundir import RunDirectory
from engine.stop import StopFlag

Parts = Iterator[dict[str, Any]]


def chat(weights: Weights, asked: dict[str, Any], stop: StopFlag) -> Parts:
    """Go on with `messages`, `n` times.

    Raises:
        SpecError: the chat template does not render them, or they leave no room for an answer.
        StopRequested: asked to stop between two tokens.
    """
    subject = weights.of(RunDirectory(Path(asked["run_dir"])), asked["digests"])
    ensure_chat_template(subject.tokenizer)
    prompt = prompt_tokens(asked["messages"], 1, subject.tokenizer)
    yield from _answers(weights, subject, [prompt], asked, stop)


def complete(weights: Weights, asked: dict[str, Any], stop: StopFlag) -> Parts:
    """Go on with each of `prompts`, texts or lists of tokens, `n` times.

    Raises:
        SpecError: a prompt leaves no room.
        StopRequested: asked to stop between two tokens.
    """
    subject = weights.of(RunDirectory(Path(asked["run_dir"])), asked["digests"])
    yield from _answers(weights, subject, [_tokens(subject, prompt) for prompt in asked["prompts"]], asked, stop)


def _tokens(subject: Subject, prompt: str | list[int]) -> list[int]:
    """A text begins with the begin token, as in training; a text of nothing is that alone."""
    tokenizer: Any = subject.tokenizer
    if isinstance(prompt, str):
        begin = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        ids: list[int] = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        prompt = ids if begin is None else [begin, *ids]
    size = decoder_of(subject.model).get_input_embeddings().weight.shape[0]
    if not prompt:
        raise SpecError("invalid_prompt", "a prompt is empty", "Change the prompt.")
    for place, token in enumerate(prompt, start=1):
        if not 0 <= token < size:
            message = f"token {place} of a prompt is {token}, and the model's tokens are 0 to {size - 1}"
            raise SpecError("invalid_prompt", message, "Change the prompt.")
    return prompt


def _answers(
    weights: Weights, subject: Subject, prompts: list[list[int]], asked: dict[str, Any], stop: StopFlag
) -> Parts:
    """First the size of the prompts, then pieces of choices, then the size of the answers."""
    rows = [prompt for prompt in prompts for _ in range(asked["n"])]
    decoding = _decoding(asked, _room(subject, max(map(len, prompts)), asked["max_tokens"]))
    yield {"prompt_tokens": sum(map(len, prompts))}
    spoken = [Spoken(Detokenizer(subject.tokenizer, skip_special_tokens=True), decoding.stop) for _ in rows]
    written = 0
    for writers in stream(subject, rows, decoding, weights.machine, stop):
        written += len(writers)
        for writer in writers:
            yield _part(writer, spoken[writer.row], subject)
    yield {"completion_tokens": written}


def _room(subject: Subject, prompt: int, wanted: int | None) -> int:
    """How many tokens an answer may have.

    Raises:
        SpecError: the prompt leaves none.
    """
    positions = getattr(decoder_of(subject.model).config, "max_position_embeddings", None) or prompt + (wanted or 1024)
    room = positions - prompt
    if room < 1:
        raise SpecError(
            "context_length_exceeded",
            f"the prompt has {prompt} tokens, and the model has {positions} positions for prompt and answer",
            "Shorten the prompt.",
        )
    return room if wanted is None else min(room, wanted)


def _decoding(asked: dict[str, Any], room: int) -> Decoding:
    return Decoding(
        max_new_tokens=room,
        temperature=asked["temperature"],
        stop=tuple(asked["stop"]),
        seed=(asked["seed"],),
        top_p=asked["top_p"],
        logprobs=asked["logprobs"],
    )


def _part(writer: Writer, spoken: Spoken, subject: Subject) -> dict[str, Any]:
    """What the newest token adds to a choice."""
    token = writer.ids[-1]
    text = "" if token in writer.ends else spoken.add(token)
    if writer.ended:
        text += spoken.rest()
    part: dict[str, Any] = {"index": writer.row, "text": text, "finish_reason": None}
    if writer.ended:
        part["finish_reason"] = "stop" if writer.finished else "length"
    if writer.scores:
        logprob, likeliest = writer.scores[-1]
        pairs = [(token, logprob), *likeliest]
        told = [{"token": str(subject.tokenizer.decode([one])), "logprob": score} for one, score in pairs]
        part["logprobs"] = told[0] | {"top": told[1:]}
    return part
