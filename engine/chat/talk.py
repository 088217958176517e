"""A talk: one question to a model, a conversation or texts to continue, and its answers while they are generated."""

from typing import Any

from engine.chat.spelling import Spelling
from engine.chat.spoken import Spoken
from engine.data.answers import prompt_text
from engine.data.chat import ensure_chat_template
from engine.data.pieces import Detokenizer
from engine.errors import SpecError
from engine.generation.writer import Decoding, Writer
from engine.model.forward import decoder_of
from engine.model.load import Subject
from engine.stop import StopFlag

Part = dict[str, Any]
LONGEST_ANSWER = 1024
"""The most tokens for which memory is reserved when an answer begins. It may be longer, as far as max_tokens and the
model's positions allow; without either of them, this is the limit."""
_PIECE = 1 << 16
"""Characters that are tokenized at once to find out whether a long text has more tokens than the model has positions."""


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

    Nearly all answers end long before a large max_tokens or the model's positions do. The length of a beam search is
    not known while it runs, so all is reserved for it.
    """
    return room if asked.get("num_beams", 1) > 1 else min(room, LONGEST_ANSWER)


def rows_of(asked: dict[str, Any]) -> int:
    """Return how many sequences the answers to a question take."""
    return len(asked.get("prompts", [""])) * max(asked["n"], asked.get("num_beams", 1))


def _prompts(subject: Subject, asked: dict[str, Any]) -> list[list[int]]:
    if asked["ask"] == "chat":
        ensure_chat_template(subject.tokenizer)
        text = prompt_text(asked["messages"], "the messages", subject.tokenizer)
        return [_checked(subject, _tokenized(subject, text))]
    return [_checked(subject, _tokens(subject, prompt)) for prompt in asked["prompts"]]


def _tokens(subject: Subject, prompt: str | list[int]) -> list[int]:
    """Tokenize a prompt that is a text; like in training, it begins with the begin token, even if it is empty."""
    if not isinstance(prompt, str):
        return prompt
    tokenizer: Any = subject.tokenizer
    begin = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    ids = _tokenized(subject, prompt)
    return ids if begin is None else [begin, *ids]


def _tokenized(subject: Subject, text: str) -> list[int]:
    """Tokenize a text, unless it has far more tokens than the model has positions: the other answers wait meanwhile.

    Raises:
        SpecError: it has, or the tokenizer fails.
    """
    positions = _positions(subject)
    if positions is not None and _is_far_longer(text, positions, subject.tokenizer):
        raise _too_long(f"more than {positions}", positions)
    return _ids(subject.tokenizer, text)


def _is_far_longer(text: str, positions: int, tokenizer: Any) -> bool:
    """Whether a text has over twice as many tokens as there are positions; its pieces may have a few more than it has."""
    if len(text) <= max(_PIECE, 4 * positions):
        return False
    count = 0
    for start in range(0, len(text), _PIECE):
        count += len(_ids(tokenizer, text[start : start + _PIECE]))
        if count > 2 * positions:
            return True
    return False


def _ids(tokenizer: Any, text: str) -> list[int]:
    try:
        return tokenizer(text, add_special_tokens=False)["input_ids"]
    except Exception as error:  # an uploaded tokenizer: those in Rust raise Exception itself
        message = f"the model's tokenizer fails on a prompt: {error}"
        raise SpecError("prompt_not_tokenized", message, "Check the model's tokenizer.json.") from error


def _checked(subject: Subject, prompt: list[int]) -> list[int]:
    """Return the tokens of a prompt if there are any, and the model has an embedding of each."""
    size = decoder_of(subject.model).get_input_embeddings().weight.shape[0]
    if not prompt:
        raise SpecError("invalid_prompt", "a prompt is empty", "Change the prompt.")
    for place, token in enumerate(prompt, start=1):
        if not 0 <= token < size:
            message = f"token {place} of a prompt is {token}, and the model's tokens are 0 to {size - 1}"
            raise SpecError("invalid_prompt", message, "Change the prompt.")
    return prompt


def _positions(subject: Subject) -> int | None:
    return getattr(decoder_of(subject.model).config, "max_position_embeddings", None)


def _room(subject: Subject, prompt: int, wanted: int | None) -> int:
    """Return how many tokens an answer may have.

    Raises:
        SpecError: the prompt leaves no room for one.
    """
    positions = _positions(subject) or prompt + (wanted or LONGEST_ANSWER)
    room = positions - prompt
    if room < 1:
        raise _too_long(str(prompt), positions)
    return room if wanted is None else min(room, wanted)


def _too_long(tokens: str, positions: int) -> SpecError:
    return SpecError(
        "context_length_exceeded",
        f"the prompt has {tokens} tokens, and the model has {positions} positions for prompt and answer",
        "Shorten the prompt.",
    )


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
