"""The tokenizer's files: capped, of a known class, and free of names of code and of paths."""

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
# The type comes first as tokenizers writes it. Nothing is skipped to find it: who looks far takes memory for each step.
_MODEL = re.compile(rb'"model"\s*+:\s*+\{\s*+"type"\s*+:\s*+"(\w{1,20})"')
_MODELS = frozenset({b"BPE", b"Unigram", b"WordPiece", b"WordLevel"})
_MEND = "save the tokenizer again with transformers' save_pretrained"


def check_tokenizer(files: Mapping[str, Piece]) -> dict[str, bytes]:
    """The settings that are kept, rewritten, by file; tokenizer.json and chat_template.jinja are kept as they are.

    Raises:
        ImportFault: one of them is missing, too large, or not what it must be.
    """
    if "tokenizer.json" not in files:
        message = "is missing; tokenizers are read in the fast format alone"
        raise ImportFault("tokenizer_missing", "tokenizer.json", message, _MEND)
    _check_fast(files["tokenizer.json"])
    rewritten: dict[str, bytes] = {}
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if name in files:
            told = read_document(name, files[name], _MAX_SETTINGS_BYTES)
            _check_settings(name, told)
            settings = {key: value for key, value in told.items() if key in _SETTINGS}
            rewritten[name] = json.dumps(settings, indent=2).encode()
    if "chat_template.jinja" in files:
        content = whole("chat_template.jinja", files["chat_template.jinja"], _MAX_TEMPLATE_BYTES)
        check_template("chat_template.jinja", content.decode())
    return rewritten


def _check_fast(piece: Piece) -> None:
    """Its brackets match and it says its model. What it means is read where a crash is one job's alone."""
    content = whole("tokenizer.json", piece, _MAX_TOKENIZER_BYTES)
    if not _OBJECT.match(content):
        raise ImportFault("not_an_object", "tokenizer.json", "is no JSON object", _MEND)
    require_shallow("tokenizer.json", content, _TOKENIZER_DEPTH)
    model = _MODEL.search(content)
    if model is None or model[1] not in _MODELS:
        kind = "names no model" if model is None else f"is of the model {model[1].decode()}"
        known = ", ".join(sorted(each.decode() for each in _MODELS))
        raise ImportFault("unknown_tokenizer", "tokenizer.json: model.type", kind, f"known are {known}")


def _check_settings(name: str, told: dict[str, Any]) -> None:
    if "auto_map" in told:
        raise ImportFault(
            "remote_code", f"{name}: auto_map", "names code, and none of a model's is ever run", "leave it out"
        )
    kind = told.get("tokenizer_class")
    if kind is not None and kind not in _CLASSES:
        known = ", ".join(sorted(_CLASSES))
        raise ImportFault("unknown_tokenizer", f"{name}: tokenizer_class", f"is {shown(kind)}", f"known are {known}")
    template = told.get("chat_template")
    for text in _templates(name, template):
        check_template(f"{name}: chat_template", text)


def _templates(name: str, template: Any) -> list[str]:
    """One template, or several by name."""
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
    raise ImportFault("bad_template", f"{name}: chat_template", "is neither a text nor texts by name", _MEND)


def check_template(place: str, text: str) -> None:
    """Raises ImportFault for a template that is too long or asks for other files; it is rendered in Jinja's sandbox."""
    if len(text.encode(errors="replace")) > _MAX_TEMPLATE_BYTES:
        message = f"is longer than {_MAX_TEMPLATE_BYTES:,} bytes"
        raise ImportFault("too_large", place, message, "send the template that the model came with")
    if statement := _TEMPLATE_STATEMENTS.search(text):
        message = f"has the statement {statement[1]}, which reads another file"
        raise ImportFault("bad_template", place, message, "write the template in one piece")
