"""A talk: a question to a model, which are conversations or texts to go on with, and its answers as they grow."""

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
"""Tokens that are reserved for an answer where nobody asks for a number: it may go on beyond them, as far as the model has
positions. Where the model does not say how many it has, all that an answer may have."""


class Talk:
    """Answers to `messages`, or to each of `prompts`, `n` of each; `stop` ends them early.

    Raises:
        SpecError: the chat template does not render the messages; a prompt is empty, has a token that the model does not
            know, or leaves no room for an answer.
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
        """Tokens that the longest of those that go on has now, its prompt's among them."""
        return self._longest + max((len(writer.ids) for writer in self.writers if not writer.ended), default=0)

    @property
    def width(self) -> int:
        """Tokens that the longest has room for."""
        return max(self._reserved, self.grown)

    @property
    def has_outgrown(self) -> bool:
        """Whether it has more than was reserved."""
        return self.grown > self._reserved

    def cut(self) -> None:
        """Each of its answers ends with the next token."""
        for writer in self.writers:
            if not writer.ended:
                writer.decoding = writer.decoding._replace(max_new_tokens=len(writer.ids) + 1)

    def opening(self) -> Part:
        """What comes before all answers: the size of the prompts."""
        return {"prompt_tokens": sum(map(len, self.prompts))}

    def part(self, writer: Writer) -> Part:
        """What the newest token adds to an answer."""
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
            told = [self._spelling.told(one, first=first) | {"logprob": score} for one, score in pairs]
            part["logprobs"] = told[0] | {"top": told[1:]}
        return part

    def closing(self) -> Part:
        """What comes after all answers: their size."""
        return {"completion_tokens": sum(len(writer.ids) for writer in self.writers)}


def reserved(asked: dict[str, Any], room: int) -> int:
    """Of the tokens that an answer may have, those that it has room for from the beginning.

    Nearly every answer that nobody limits ends long before the model's positions do. A search is not told how long its
    texts are, so it has room for all.
    """
    is_limited = asked["max_tokens"] is not None or asked.get("num_beams", 1) > 1
    return room if is_limited else min(room, LONGEST_ANSWER)


def rows_of(asked: dict[str, Any]) -> int:
    """How many texts grow for the answers to a question."""
    return len(asked.get("prompts", [""])) * max(asked["n"], asked.get("num_beams", 1))


def _prompts(subject: Subject, asked: dict[str, Any]) -> list[list[int]]:
    if asked["ask"] == "chat":
        ensure_chat_template(subject.tokenizer)
        return [prompt_tokens(asked["messages"], "the messages", subject.tokenizer)]
    return [_tokens(subject, prompt) for prompt in asked["prompts"]]


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


def _room(subject: Subject, prompt: int, wanted: int | None) -> int:
    """How many tokens an answer may have.

    Raises:
        SpecError: the prompt leaves none.
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
