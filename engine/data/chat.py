"""Conversations as documents, rendered by the chat template; only the assistant's tokens carry loss."""

import numpy as np
from transformers import PreTrainedTokenizerFast

from engine.data.answers import masked, turns_of
from engine.data.corpus import Corpus, Document
from engine.data.cut import Cut
from engine.data.source import SourceRow
from engine.data.text import batches
from engine.data.tokenizer import CHAT_TEMPLATE, digest_of
from engine.errors import DataError, NoTrainedToken, SpecError


def ensure_chat_template(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Set the default chat template where a tokenizer has none; returns whether it had none."""
    if tokenizer.chat_template is not None:
        return False
    if tokenizer.eos_token_id is None:
        raise SpecError(
            "no_eos_token",
            "the model's tokenizer has neither a chat template nor an end-of-text token, so an answer has no end",
            "Choose a model whose tokenizer has an eos_token.",
        )
    tokenizer.chat_template = CHAT_TEMPLATE
    return True


class ChatRecipe:
    """Conversations of at most `max_length` tokens; longer ones are cut at the end or dropped."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, max_length: int, long_rows: str) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.long_rows = long_rows
        # "one by one" versions how answers are found (engine.data.answers): what older code cached is not read.
        self.key = f"chat one by one {digest_of(tokenizer)}"

    def encode(self, rows: list[SourceRow]) -> Corpus:
        """Tokenize each conversation whole, and mark the tokens to train.

        Raises:
            DataError: a row is a pair of answers, or the template does not render it.
        """
        pair = next((row for row in rows if isinstance(row.row, dict)), None)
        if pair is not None:
            raise DataError(
                "wrong_file_format",
                f"line {pair.line} is a pair of answers, not a conversation",
                "Tune on pairs with a job of kind dpo.",
            )
        documents: list[Document] = []
        for part in batches(rows):
            for row, (ids, mask) in zip(part, masked(part, self.tokenizer), strict=True):
                answers = (turn for turn in turns_of(row) if turn["role"] == "assistant" and turn.get("weight", 1))
                size_bytes = sum(len(turn["content"].encode()) for turn in answers)
                documents.append(Document(row.line, np.array(ids, np.int32), np.array(mask, np.bool_), size_bytes))
        return Corpus.of(documents)

    def cut(self, encoded: Corpus, follows: list[bool], ends: list[bool]) -> Cut:  # noqa: ARG002 - of running texts
        made = Cut(Corpus.of([]), [], [], [])
        documents: list[Document] = []
        for document in encoded.documents():
            kept = document
            if len(document.ids) > self.max_length:
                (made.truncated if self.long_rows == "truncate" else made.dropped).append(document.line)
                if self.long_rows == "drop":
                    continue
                kept = self._truncated(document)
            if kept.trained[1:].any():
                documents.append(kept)
            else:
                made.untrained.append(document.line)
        return made._replace(corpus=Corpus.of(documents))

    def require(self, made: Cut, rows: int) -> None:
        if not len(made.corpus):
            raise NoTrainedToken(
                f"none of the {rows} rows has a token to train on within max_length {self.max_length}",
                "Raise max_length, use long_rows 'truncate', or check that the rows have assistant answers.",
            )

    def _truncated(self, document: Document) -> Document:
        ids, trained = document.ids[: self.max_length], document.trained[: self.max_length]
        answer = str(self.tokenizer.decode(ids[trained].tolist(), skip_special_tokens=True))
        return Document(document.line, ids, trained, len(answer.encode()))
