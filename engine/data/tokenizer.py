"""Tokenizers trained on the job's texts, with the special tokens and the template that chat needs."""

import hashlib
from collections import Counter
from collections.abc import Iterable

import tokenizers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
_PAD = "<|pad|>"
_UNKNOWN = "<|unknown|>"
_MARKERS = ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>")

# The answer ends with the eos token, so whatever generates with the model knows where to stop.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|' + message['role'] + '|>\n' -}}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{- message['content'] + eos_token -}}{%- endgeneration -%}{{- '\n' -}}"
    "{%- else -%}"
    "{{- message['content'] + '<|end|>\n' -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>\n' -}}{%- endif -%}"
)


def new_tokenizer(kind: str, texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Return a new tokenizer of kind `bpe`, `char` or `byte`, with at most `vocab_size` tokens."""
    if kind == "char":
        return character_tokenizer(texts, vocab_size)
    return train_tokenizer((), 0) if kind == "byte" else train_tokenizer(texts, vocab_size)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train byte-level BPE: 256 bytes, the special tokens, and merges as long as the text has pairs of tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT, _PAD, *_MARKERS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _with_markers(tokenizer)


def character_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer of the special tokens and the most frequent characters; any other is the unknown token."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    special = [END_OF_TEXT, _PAD, *_MARKERS, _UNKNOWN]
    characters = sorted(counts, key=lambda character: (-counts[character], character))[: vocab_size - len(special)]
    vocabulary = {token: number for number, token in enumerate((*special, *characters))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=_UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")  # type: ignore[assignment]
    tokenizer.decoder = decoders.Fuse()  # type: ignore[assignment]
    return _with_markers(tokenizer, unk_token=_UNKNOWN)


def _with_markers(tokenizer: Tokenizer, **more: str) -> PreTrainedTokenizerFast:
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=_PAD,
        additional_special_tokens=list(_MARKERS),
        clean_up_tokenization_spaces=False,
        **more,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def digest_of(tokenizer: PreTrainedTokenizerFast) -> str:
    """Return a digest that is equal only for tokenizers that tokenize all rows alike."""
    parts = (tokenizers.__version__, tokenizer.backend_tokenizer.to_str(), tokenizer.chat_template)
    special = sorted(tokenizer.special_tokens_map.items(), key=str)
    return hashlib.sha256(repr((parts, special)).encode()).hexdigest()
