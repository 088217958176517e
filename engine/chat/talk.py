"""A talk: one question to a model, a conversation or texts to continue, and its answers while they are generated."""

from typing import Any

from engine.chat.spelling import Spelling
from engine.chat.spoken import Spoken
from engine.data.answers import prompt_tokens
from engine.data.chat import ensure_chat_template
from engine.data.pieces import Detokenizer
from engine.errors import SpecError
from engine.generation.writer import Decoding, Writer
from engine.model.forward import decoder_of
from engine.model.load import Subject
from engine.stop import StopFlag

Part = dict[str, Any]
LONGEST_ANSWER = 1024
"""Tokens for which memory is reserved for an answer without max_tokens. It may be longer, as far as the model has
positions; if the model does not say how many it has, this is the limit."""


class Talk:
    """`n` answers to `messages` or to each of `prompts`; `stop` ends them early.

    Raises:
        SpecError: the chat template does not render the messages; a prompt is empty, has a token that the model
            does not know, or leaves no room for an answer.
    """

    def __init__(self, number: int, subject: Subject, asked: dict[str, Any], stop: StopFlag) -> None:
        self.number = number
        self.stop = stop
        self._spelling = Spelling(subject.tokenizer)
        self.prompts = _prompts(subject, asked)
        self._longest = max(map(len, self.prompts))
        decoding = _decoding(asked, _room(subject, self._longest, asked["max_tokens"]))
        self._reserved = self._longest + reserved(asked, decoding.max_new_tokens)
        self.searches = decoding.num_beams > 1
        self.writers = [Writer(subject, decoding, row) for row in range(len(self.prompts) * asked["n"])]
        self._spoken = [
            Spoken(Detokenizer(subject.tokenizer, skip_special_tokens=True), decoding.stop) for _ in self.writers
        ]

    @property
    def ended(self) -> bool:
        return all(writer.ended for writer in self.writers)

    @property
    def grown(self) -> int:
        """Current length of the longest answer under way, in tokens with its prompt."""
        return self._longest + max((len(writer.ids) for writer in self.writers if not writer.ended), default=0)

    @property
    def width(self) -> int:
        """Tokens for which the longest answer has memory reserved, with its prompt."""
        return max(self._reserved, self.grown)

    @property
    def has_outgrown(self) -> bool:
        """Whether an answer is longer than what was reserved for it."""
        return self.grown > self._reserved

    def cut(self) -> None:
        """Let each of the answers end with its next token."""
        for writer in self.writers:
            if not writer.ended:
                writer.decoding = writer.decoding._replace(max_new_tokens=len(writer.ids) + 1)

    def opening(self) -> Part:
        """Return the first part of the stream: the number of prompt tokens."""
        return {"prompt_tokens": sum(map(len, self.prompts))}

    def part(self, writer: Writer) -> Part:
        """Return what the newest token adds to an answer."""
        spoken, token = self._spoken[writer.row], writer.ids[-1]
        text = "" if token in writer.ends else spoken.add(token)
        if writer.ended:
            text += spoken.rest()
        part: Part = {"index": writer.row, "text": text, "finish_reason": None}
        if writer.ended:
            part["finish_reason"] = "stop" if writer.finished else "length"
        if writer.scores:
            logprob, likeliest = writer.scores[-1]
            first = len(writer.ids) == 1
            pairs = [(token, logprob), *likeliest]
            chosen, *top = (self._spelling.spell(one, first=first) | {"logprob": score} for one, score in pairs)
            part["logprobs"] = chosen | {"top": top}
        return part

    def closing(self) -> Part:
        """Return the last part of the stream: the number of generated tokens."""
        return {"completion_tokens": sum(len(writer.ids) for writer in self.writers)}


def reserved(asked: dict[str, Any], room: int) -> int:
    """Return for how many of the `room` tokens that an answer may have memory is reserved when it begins.

    Nearly all answers without max_tokens end long before the model's positions do. The length of a beam search is not
    known while it runs, so all is reserved for it.
    """
    is_limited = asked["max_tokens"] is not None or asked.get("num_beams", 1) > 1
    return room if is_limited else min(room, LONGEST_ANSWER)


def rows_of(asked: dict[str, Any]) -> int:
    """Return how many sequences the answers to a question take."""
    return len(asked.get("prompts", [""])) * max(asked["n"], asked.get("num_beams", 1))


def _prompts(subject: Subject, asked: dict[str, Any]) -> list[list[int]]:
    if asked["ask"] == "chat":
        ensure_chat_template(subject.tokenizer)
        return [prompt_tokens(asked["messages"], "the messages", subject.tokenizer)]
    return [_tokens(subject, prompt) for prompt in asked["prompts"]]


def _tokens(subject: Subject, prompt: str | list[int]) -> list[int]:
    """Tokenize a prompt that is a text; like in training, it begins with the begin token, even if it is empty."""
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


def _room(subject: Subject, prompt: int, wanted: int | None) -> int:
    """Return how many tokens an answer may have.

    Raises:
        SpecError: the prompt leaves no room for one.
    """
    positions = getattr(decoder_of(subject.model).config, "max_position_embeddings", None) or prompt + (
        wanted or LONGEST_ANSWER
    )
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
        num_beams=asked.get("num_beams", 1),
        length_penalty=asked.get("length_penalty", 1.0),
    )
