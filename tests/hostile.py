"""Models that mean harm, and archives of such: what an import must refuse without any effect."""

import io
import json
import struct
import tarfile
from collections.abc import Callable, Mapping
from typing import Any

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 16,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}
_LAYER = "model.layers.0."
SHAPES: dict[str, list[int]] = {
    "model.embed_tokens.weight": [16, 8],
    _LAYER + "self_attn.q_proj.weight": [8, 8],
    _LAYER + "self_attn.k_proj.weight": [4, 8],
    _LAYER + "self_attn.v_proj.weight": [4, 8],
    _LAYER + "self_attn.o_proj.weight": [8, 8],
    _LAYER + "mlp.gate_proj.weight": [12, 8],
    _LAYER + "mlp.up_proj.weight": [12, 8],
    _LAYER + "mlp.down_proj.weight": [8, 12],
    _LAYER + "input_layernorm.weight": [8],
    _LAYER + "post_attention_layernorm.weight": [8],
    "model.norm.weight": [8],
}
TOKENIZER = json.dumps({"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "vocab": {"a": 0}}})


def header(shapes: Mapping[str, list[int]] = SHAPES, dtype: str = "F32") -> dict[str, Any]:
    told, at = {}, 0
    for name, shape in shapes.items():
        size = 4
        for length in shape:
            size *= length
        told[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    return told


def safetensors(told: Mapping[str, Any] | bytes, data_bytes: int | None = None, length: int | None = None) -> bytes:
    text = told if isinstance(told, bytes) else json.dumps(told).encode()
    size = max((each["data_offsets"][1] for each in told.values() if "data_offsets" in each), default=0) if (
        isinstance(told, Mapping)
    ) else 0  # fmt: skip
    return (
        struct.pack("<Q", len(text) if length is None else length)
        + text
        + bytes(size if data_bytes is None else data_bytes)
    )


def model(**changes: bytes | None) -> dict[str, bytes]:
    """A sound model's files; a change to None takes one away. Dots of names are written `__`."""
    files = {
        "config.json": json.dumps(CONFIG).encode(),
        "tokenizer.json": TOKENIZER.encode(),
        "tokenizer_config.json": b'{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "a"}',
        "model.safetensors": safetensors(header()),
    }
    for name, content in changes.items():
        if content is None:
            files.pop(name.replace("__", "."), None)
        else:
            files[name.replace("__", ".")] = content
    return files


def config(**changes: Any) -> dict[str, bytes]:
    return model(config__json=json.dumps(CONFIG | changes).encode())


def weights(content: bytes) -> dict[str, bytes]:
    return model(model__safetensors=content)


def changed(name: str, **changes: Any) -> dict[str, bytes]:
    """The weights with another entry for one of the tensors."""
    told = header()
    told[name] = told[name] | changes
    return weights(safetensors(told, sum(_bytes(shape) for shape in SHAPES.values())))


def _bytes(shape: list[int]) -> int:
    size = 4
    for length in shape:
        size *= length
    return size


_NORM = "model.norm.weight"
_END = sum(_bytes(shape) for shape in SHAPES.values())
_DEEP = b'{"a":' * 5000 + b"1" + b"}" * 5000

MODELS: dict[str, dict[str, bytes]] = {
    "a pickle in place of safetensors": weights(b"\x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system"),
    "a zip of torch.save": weights(b"PK\x03\x04" + bytes(100)),
    "a pickle beside the weights": model(pytorch_model__bin=b"\x80\x04."),
    "a script": model(**{"modeling_evil.py": b"import os"}),
    "a shared library": model(**{"kernels.so": b"\x7fELF"}),
    "an empty file": weights(b""),
    "a header over the cap": weights(struct.pack("<Q", 9 << 20) + b"{}"),
    "a header of 2**63 bytes": weights(safetensors(b"{}", length=2**63)),
    "a header longer than the file": weights(safetensors(b"{}", length=1000)),
    "a header that is no JSON": weights(safetensors(b"{hello}")),
    "a header of nested lists": weights(safetensors(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")),
    "a header of nested objects": weights(safetensors(_DEEP)),
    "a header full of empty lists": weights(safetensors(b'{"a":[' + b"[]," * 1_000_000 + b"[]]}")),
    "a header full of commas": weights(safetensors(b'{"a":{' + b"," * (8_000_000) + b"}}")),
    "a header full of strings": weights(safetensors(b'{"a":{' + b'"",' * (2_500_000) + b'""}}')),
    "a header of backslashes": weights(safetensors(b'{"' + b"\\" * 1_000_001 + b'":{}}')),
    "a string without an end": weights(safetensors(b'{"' + b"a" * 1_000_000)),
    "over 50,000 tensors": weights(
        safetensors(b"{" + b",".join(b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % n for n in range(50_001)) + b"}")
    ),
    "a tensor twice": weights(
        safetensors(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', 8)
    ),
    "something after the header": weights(safetensors(json.dumps(header()).encode() + b'{"b":1}', _END)),
    "overlapping tensors": changed(_NORM, data_offsets=[_END - 64, _END - 32]),
    "a gap between tensors": changed(_NORM, shape=[4], data_offsets=[_END - 16, _END]),
    "offsets behind the file": changed(_NORM, data_offsets=[_END + 2**40, _END + 2**40 + 32]),
    "negative offsets": changed(_NORM, data_offsets=[-32, 0]),
    "offsets the wrong way round": changed(_NORM, data_offsets=[_END, _END - 32]),
    "offsets that are floats": changed(_NORM, data_offsets=[float(_END - 32), float(_END)]),
    "an enormous shape": changed(_NORM, shape=[2**52, 2**52, 2**52]),
    "a negative shape": changed(_NORM, shape=[-8]),
    "a shape of twelve dimensions": changed(_NORM, shape=[1] * 11 + [8]),
    "a shape that is not its bytes": changed(_NORM, shape=[9]),
    "an unknown dtype": changed(_NORM, dtype="PICKLE"),
    "whole numbers for weights": weights(safetensors(header(dtype="I32"))),
    "bytes that are no tensor's": weights(safetensors(header(), _END + 4096)),
    "a tensor too few": weights(safetensors(header({n: s for n, s in SHAPES.items() if n != _NORM}))),
    "a tensor too many": weights(safetensors(header({**SHAPES, "model.extra": [4]}))),
    "weights of another shape": weights(safetensors(header({**SHAPES, _NORM: [16]}))),
    "one shard of two": model(model__safetensors=None, **{"model-00001-of-00002.safetensors": safetensors(header())}),
    "a shard beside the whole": model(**{"model-00001-of-00001.safetensors": safetensors(header())}),
    "code by auto_map": config(auto_map={"AutoModelForCausalLM": "evil--modeling.Evil"}),
    "trust_remote_code": config(trust_remote_code=True),
    "an unknown family": config(model_type="deepseek_v3"),
    "a family that is a list": config(model_type=["llama"]),
    "an architecture with another head": config(architectures=["LlamaForSequenceClassification"]),
    "an unknown field": config(exec="rm -rf /"),
    "a quantized model": config(quantization_config={"quant_method": "bitsandbytes"}),
    "a billion layers": config(num_hidden_layers=10**9),
    "no layers": config(num_hidden_layers=0),
    "true for a number": config(hidden_size=True),
    "a width that no heads divide": config(num_attention_heads=3),
    "a vocabulary of 2**70": config(vocab_size=2**70),
    "a head of odd width": config(head_dim=3),
    "positions whose mask fills the memory": config(model_type="gpt2", architectures=["GPT2LMHeadModel"], n_positions=10**6),
    "a rope that is a path": config(rope_scaling={"rope_type": "/etc/passwd"}),
    "an activation that is code": config(hidden_act="__import__('os').system('id')"),
    "NaN in the config": model(config__json=json.dumps(CONFIG | {"rms_norm_eps": float("nan")}).encode()),
    "a config that says a thing twice": model(config__json=b'{"model_type":"llama","model_type":"gpt2"}'),
    "a config nested 5,000 deep": model(config__json=_DEEP),
    "a config that is a list": model(config__json=b"[]"),
    "a config of another encoding": model(config__json=json.dumps(CONFIG).encode("utf-16")),
    "a number of a million digits": model(config__json=b'{"vocab_size":' + b"9" * 200_000 + b"}"),
    "a config of a megabyte": model(config__json=b'{"a":"' + b"x" * (1 << 20) + b'"}'),
    "no config": model(config__json=None),
    "no tokenizer": model(tokenizer__json=None),
    "a tokenizer over the cap": model(tokenizer__json=b'{"model":{"type":"BPE","vocab":{"' + b"a" * (33 << 20) + b'":0}}}'),
    "a tokenizer of one emoji and millions of letters": model(tokenizer__json=b'{"a":"\xf0\x9f\x98\x80' + b"a" * (31 << 20)),
    "a tokenizer whose type is far away": model(tokenizer__json=b'{"model":{' + b"," * (1 << 20) + b'"type":"BPE"}}'),
    "a tokenizer of millions of brackets": model(tokenizer__json=b'{"model":[' + b"[]," * (3 << 20) + b"[]]}"),
    "a tokenizer nested deep": model(tokenizer__json=_DEEP),
    "a tokenizer cut off": model(tokenizer__json=TOKENIZER.encode()[:-3]),
    "a tokenizer of an unknown model": model(tokenizer__json=TOKENIZER.replace("WordLevel", "Evil").encode()),
    "a tokenizer's code by auto_map": model(tokenizer_config__json=b'{"auto_map": {"AutoTokenizer": ["evil.Evil", null]}}'),
    "a tokenizer of an unknown class": model(tokenizer_config__json=b'{"tokenizer_class": "EvilTokenizer"}'),
    "a temperature that is code": model(generation_config__json=b'{"temperature": "__import__(\'os\')"}'),
    "an end token of 2**70": model(generation_config__json=b'{"eos_token_id": [%d]}' % 2**70),
    "a temperature without a bound": model(generation_config__json=b'{"temperature": 1e999}'),
    "a chat template that reads a file": model(chat_template__jinja=b"{% include '/etc/passwd' %}"),
    "a chat template of a megabyte": model(chat_template__jinja=b"x" * (1 << 20)),
    "a chat template that is a number": model(tokenizer_config__json=b'{"chat_template": 7}'),
}  # fmt: skip


def tar(files: Mapping[str, bytes] | None = None, *, before: Callable[[tarfile.TarFile], None] | None = None) -> bytes:
    """An archive of a sound model, with something put before it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        if before is not None:
            before(archive)
        for name, content in (model() if files is None else files).items():
            _add(archive, name, content)
    return out.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes = b"", **changes: Any) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in changes.items():
        setattr(info, field, value)
    archive.addfile(info, io.BytesIO(content))


def _named(name: str, content: bytes = b"harm") -> bytes:
    return tar(before=lambda archive: _add(archive, name, content))


def _typed(kind: bytes, **changes: Any) -> bytes:
    return tar(before=lambda archive: _add(archive, "config.json", type=kind, **changes))


def _pax(records: dict[str, str]) -> bytes:
    return tar(before=lambda archive: _add(archive, "README.md", b"x", pax_headers=records))


def _packed(how: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{how}") as archive:
        _add(archive, "model.safetensors", bytes(64 << 20))
    return out.getvalue()


def _sized(field: bytes) -> bytes:
    """A member whose header says another size."""
    block = bytearray(tar()[:512])
    block[124:136] = field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + tar()[512:]


def _zipped() -> bytes:
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../etc/passwd", bytes(1 << 20))
    return out.getvalue()


_WHOLE = tar()
ARCHIVES: dict[str, bytes] = {
    "a name that leads up": _named("../evil.json"),
    "a name that leads up from within": _named("model/../../evil.json"),
    "an absolute name": _named("/etc/cron.d/evil"),
    "a name of a home": _named("/root/.ssh/authorized_keys"),
    "a name with backslashes": _named("..\\..\\evil.json"),
    "a Windows drive": _named("C:\\evil.json"),
    "a name in a folder of a folder": _named("a/b/config.json"),
    "a name with a line's end": _named("config\n.json"),
    "a name with a bell": _named("\x07config.json"),
    "a name that is two dots": _named(".."),
    "a name with an empty part": _named("a//config.json"),
    "a name turned around": _named("\u202enosj.gifnoc"),
    "a name of 300 characters": _named("a" * 300 + ".json"),
    "a path by pax of 60,000 characters": _pax({"path": "a" * 60_000 + ".md"}),
    "files of two folders": _named("other/README.md"),
    "the same name twice": _named("config.json"),
    "a symbolic link": _typed(tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a symbolic link to a folder above": _typed(tarfile.SYMTYPE, linkname="../../"),
    "a hard link": _typed(tarfile.LNKTYPE, linkname="tokenizer.json"),
    "a hard link out of it": _typed(tarfile.LNKTYPE, linkname="../../../etc/shadow"),
    "a device of characters": _typed(tarfile.CHRTYPE, devmajor=1, devminor=3),
    "a device of blocks": _typed(tarfile.BLKTYPE, devmajor=8),
    "a pipe": _typed(tarfile.FIFOTYPE),
    "a contiguous file": _typed(tarfile.CONTTYPE),
    "a sparse file of GNU": _typed(tarfile.GNUTYPE_SPARSE),
    "a member of an unknown kind": _typed(b"Z"),
    "a sparse file by pax": _pax({"GNU.sparse.major": "1", "GNU.sparse.realsize": str(2**50)}),
    "a path by pax that leads up": _pax({"path": "../../evil.json"}),
    "a size by pax beyond the archive": _pax({"size": str(2**50)}),
    "a size by pax that is no number": _pax({"size": "-1"}),
    "an extended header of a megabyte": _pax({"comment": "x" * (1 << 20)}),
    "a size beyond the archive": _sized(b"77777777777\0"),
    "a size of 2**88": _sized(b"\x80" + b"\xff" * 11),
    "a negative size": _sized(b"\xff" * 12),
    "a size that is no number": _sized(b"evil        "),
    "a bomb of gzip": _packed("gz"),
    "a bomb of bzip2": _packed("bz2"),
    "a bomb of xz": _packed("xz"),
    "a zip": _zipped(),
    "no archive at all": b"hello" * 1000,
    "an archive cut within a header": _WHOLE[:700],
    "an archive cut within a member": _WHOLE[: len(_WHOLE) // 3],
    "an empty archive": bytes(10240),
    "a header whose sum is wrong": b"\0x" + _WHOLE[2:],
    "3,000 members": tar({f"README.{n}": b"" for n in range(3000)}),
    "a script among the files": _named("modeling.py", b"import os"),
    "a pickle among the files": _named("pytorch_model.bin", b"\x80\x04."),
}  # fmt: skip
