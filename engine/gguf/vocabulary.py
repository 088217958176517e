"""BPE tokenizers in GGUF."""

import json
from pathlib import Path
from typing import Any

import gguf

from engine.imports import ImportFault

_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PATTERNS = {_LLAMA_3: "llama-bpe", _LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}"): "qwen2"}
"""Patterns by which texts are split before pairs are merged, and llama.cpp's names for them."""


def add_vocabulary(writer: gguf.GGUFWriter, folder: Path, size: int) -> None:
    """Write tokens, merges, special tokens and the chat template.

    Raises:
        ImportFault: the tokenizer is of a kind that is not supported.
    """
    tokenizer = _read(folder / "tokenizer.json")
    settings = _read(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
    model = tokenizer["model"]
    pre = _pre_tokenizer(tokenizer.get("pre_tokenizer"))
    if model.get("type") != "BPE" or pre is None or model.get("byte_fallback"):
        raise _unwritten("is not a byte-level BPE tokenizer that GGUF has a name for")
    if not model.get("merges"):
        raise _unwritten("has no merges, which llama.cpp does not read")
    if _changes_text(tokenizer.get("normalizer")):
        raise _unwritten("normalizes texts in a way that GGUF has no name for")
    tokens, kinds = _tokens(model["vocab"], tokenizer.get("added_tokens", []), size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]])
    _add_special(writer, tokenizer, settings, {token: number for number, token in enumerate(tokens)})
    if template := _template(folder, settings):
        writer.add_chat_template(template)


def _add_special(
    writer: gguf.GGUFWriter, tokenizer: dict[str, Any], settings: dict[str, Any], numbers: dict[str, int]
) -> None:
    """Write the ids of the special tokens, and whether texts begin and end with one.

    As in transformers, settings for this in tokenizer_config.json replace the template of tokenizer.json.
    """
    explicit = "add_bos_token" in settings or "add_eos_token" in settings
    first, last = _framing(tokenizer.get("post_processor"))
    for name, framing, add, add_framing in (
        ("bos_token", first, writer.add_bos_token_id, writer.add_add_bos_token),
        ("eos_token", last, writer.add_eos_token_id, writer.add_add_eos_token),
        ("pad_token", None, writer.add_pad_token_id, None),
    ):
        value = settings.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        known = text in numbers
        if known:
            add(numbers[text])
        if add_framing is not None:
            framed = settings.get(f"add_{name}") if explicit else text == framing
            add_framing(known and bool(framed))


def _tokens(vocabulary: dict[str, int], added: list[dict[str, Any]], size: int) -> tuple[list[str], list[int]]:
    """Return the tokens and their types by id; rows of the embedding without a token are padding.

    Raises:
        ImportFault: a token has no row.
    """
    highest = max([*vocabulary.values(), *(token["id"] for token in added)], default=0)
    if highest >= size:
        raise ImportFault(
            "no_gguf",
            "tokenizer.json",
            f"has a token with id {highest}, and the model's embedding has {size} rows",
            "use the tokenizer that belongs to the model",
        )
    tokens = [f"[PAD{number}]" for number in range(size)]
    kinds = [int(gguf.TokenType.UNUSED)] * size
    for token, number in vocabulary.items():
        tokens[number], kinds[number] = token, int(gguf.TokenType.NORMAL)
    for token in added:
        kind = gguf.TokenType.CONTROL if token["special"] else gguf.TokenType.USER_DEFINED
        tokens[token["id"]], kinds[token["id"]] = token["content"], int(kind)
    return tokens, kinds


def _changes_text(normalizer: Any) -> bool:
    """Whether a normalizer changes texts other than to NFC, in which nearly all texts are written."""
    if normalizer is None:
        return False
    if normalizer.get("type") == "Sequence":
        return any(map(_changes_text, normalizer.get("normalizers", [])))
    return normalizer.get("type") != "NFC"


def _pre_tokenizer(settings: Any) -> str | None:
    """Return llama.cpp's name for how texts are split."""
    parts = settings.get("pretokenizers", [settings]) if isinstance(settings, dict) else []
    if not parts or parts[-1].get("type") != "ByteLevel" or parts[-1].get("add_prefix_space"):
        return None
    if len(parts) == 1:
        return "gpt-2" if parts[0].get("use_regex", True) else None
    if len(parts) != 2 or parts[0].get("type") != "Split" or parts[-1].get("use_regex", True):
        return None
    return _PATTERNS.get(parts[0].get("pattern", {}).get("Regex"))


def _framing(processor: Any) -> tuple[str | None, str | None]:
    """Return the special tokens that tokenizer.json puts before and after a text."""
    if not isinstance(processor, dict):
        return None, None
    parts = processor.get("processors", [processor])
    single = next((part["single"] for part in parts if part.get("type") == "TemplateProcessing"), [])
    ends = [single[at].get("SpecialToken", {}).get("id") for at in (0, -1)] if single else [None, None]
    return ends[0], ends[1]


def _template(folder: Path, settings: dict[str, Any]) -> str | None:
    path = folder / "chat_template.jinja"
    if path.exists():
        return path.read_text(encoding="utf-8")
    template = settings.get("chat_template")
    if isinstance(template, list):
        template = next((each["template"] for each in template if each["name"] == "default"), None)
    return template if isinstance(template, str) else None


def _unwritten(message: str) -> ImportFault:
    mend = "the tokenizers of GPT-2, Llama 3, Qwen and of models pretrained here with bpe can be written"
    return ImportFault("no_gguf", "tokenizer.json", message, mend)


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
