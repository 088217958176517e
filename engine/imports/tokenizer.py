"""Checks of the tokenizer's files: their sizes, a known class, and no code or paths."""

import json
import re
from collections.abc import Mapping
from typing import Any

from engine.imports.documents import read_document, require_shallow, whole
from engine.imports.fault import ImportFault, shown
from engine.imports.piece import Piece

_MAX_TOKENIZER_BYTES = 32 << 20
_MAX_SETTINGS_BYTES = 1 << 20
_MAX_TEMPLATE_BYTES = 128 << 10
_TOKENIZER_DEPTH = 12
_CLASSES = frozenset(
    {
        "PreTrainedTokenizerFast", "PreTrainedTokenizer", "TokenizersBackend", "GPT2Tokenizer", "GPT2TokenizerFast",
        "LlamaTokenizer", "LlamaTokenizerFast", "Qwen2Tokenizer", "Qwen2TokenizerFast", "CodeLlamaTokenizer",
    }
)  # fmt: skip
_SETTINGS = frozenset(
    {
        "tokenizer_class", "bos_token", "eos_token", "pad_token", "unk_token", "additional_special_tokens",
        "extra_special_tokens", "chat_template", "clean_up_tokenization_spaces", "model_max_length", "padding_side",
        "truncation_side", "added_tokens_decoder", "add_bos_token", "add_eos_token", "add_prefix_space",
        "split_special_tokens", "errors", "model_input_names", "legacy", "backend",
    }
)  # fmt: skip
_TEMPLATE_STATEMENTS = re.compile(r"\{%[-+]?\s*(include|import|from|extends)\b")
_OBJECT = re.compile(rb"\s*+\{")
# tokenizers writes the type first. The pattern skips nothing to find it: a long search takes memory for each step.
_MODEL = re.compile(rb'"model"\s*+:\s*+\{\s*+"type"\s*+:\s*+"(\w{1,20})"')
_MODELS = frozenset({b"BPE", b"Unigram", b"WordPiece", b"WordLevel"})
_MEND = "save the tokenizer again with transformers' save_pretrained"


def check_tokenizer(files: Mapping[str, Piece]) -> dict[str, bytes]:
    """Return the settings files, rewritten with what is kept; tokenizer.json and chat_template.jinja stay as they are.

    Raises:
        ImportFault: one of them is missing, too large or invalid.
    """
    if "tokenizer.json" not in files:
        message = "is missing; only tokenizers in the fast format are read"
        raise ImportFault("tokenizer_missing", "tokenizer.json", message, _MEND)
    _check_fast(files["tokenizer.json"])
    rewritten: dict[str, bytes] = {}
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if name in files:
            given = read_document(name, files[name], _MAX_SETTINGS_BYTES)
            _check_settings(name, given)
            settings = {key: value for key, value in given.items() if key in _SETTINGS}
            rewritten[name] = json.dumps(settings, indent=2).encode()
    if "chat_template.jinja" in files:
        content = whole("chat_template.jinja", files["chat_template.jinja"], _MAX_TEMPLATE_BYTES)
        check_template("chat_template.jinja", content.decode())
    return rewritten


def _check_fast(piece: Piece) -> None:
    """Check that the brackets match and that its model is known. Only a job's own process reads the rest of it."""
    content = whole("tokenizer.json", piece, _MAX_TOKENIZER_BYTES)
    if not _OBJECT.match(content):
        raise ImportFault("not_an_object", "tokenizer.json", "is not a JSON object", _MEND)
    require_shallow("tokenizer.json", content, _TOKENIZER_DEPTH)
    model = _MODEL.search(content)
    if model is None or model[1] not in _MODELS:
        kind = "names no model" if model is None else f"is of the model {model[1].decode()}"
        known = ", ".join(sorted(each.decode() for each in _MODELS))
        raise ImportFault("unknown_tokenizer", "tokenizer.json: model.type", kind, f"known are {known}")


def _check_settings(name: str, settings: dict[str, Any]) -> None:
    if "auto_map" in settings:
        raise ImportFault(
            "remote_code", f"{name}: auto_map", "names code, and code of models is never run", "leave it out"
        )
    kind = settings.get("tokenizer_class")
    if kind is not None and kind not in _CLASSES:
        known = ", ".join(sorted(_CLASSES))
        raise ImportFault("unknown_tokenizer", f"{name}: tokenizer_class", f"is {shown(kind)}", f"known are {known}")
    template = settings.get("chat_template")
    for text in _templates(name, template):
        check_template(f"{name}: chat_template", text)


def _templates(name: str, template: Any) -> list[str]:
    """Return the texts of one template, or of several by name."""
    if template is None:
        return []
    if isinstance(template, str):
        return [template]
    if isinstance(template, list) and all(
        isinstance(each, dict) and each.keys() == {"name", "template"} for each in template
    ):
        texts = [each["template"] for each in template]
        if all(isinstance(text, str) for text in texts):
            return texts
    raise ImportFault(
        "bad_template", f"{name}: chat_template", "is neither a string nor a list of named strings", _MEND
    )


def check_template(place: str, text: str) -> None:
    """Raise ImportFault for a template that is too long or reads other files. Jinja's sandbox renders the others."""
    if len(text.encode(errors="replace")) > _MAX_TEMPLATE_BYTES:
        message = f"is longer than {_MAX_TEMPLATE_BYTES:,} bytes"
        raise ImportFault("too_large", place, message, "send the template that the model came with")
    if statement := _TEMPLATE_STATEMENTS.search(text):
        message = f"has the statement {statement[1]}, which reads another file"
        raise ImportFault("bad_template", place, message, "write the template in one piece")
