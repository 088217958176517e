"""Models and GPUs by name, with their published sizes."""

from typing import Any, Literal, NamedTuple

from engine.plan import Shape

ModelName = Literal["llama-2-7b", "llama-2-13b", "llama-2-70b", "llama-3.1-8b", "llama-3.1-70b", "llama-3.1-405b"]
GpuName = Literal["a100-40gb", "a100-80gb", "h100", "h200"]


class Gpu(NamedTuple):
    """A GPU: `memory_bytes` as sold, `tflops` of dense bf16 matmuls by the data sheet."""

    memory_bytes: int
    tflops: float


def _llama(width: int, layers: int, *, heads: int, kv_heads: int, inner: int, vocabulary: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
    }


_CONFIGS: dict[ModelName, dict[str, Any]] = {
    "llama-2-7b": _llama(4096, 32, heads=32, kv_heads=32, inner=11_008, vocabulary=32_000),
    "llama-2-13b": _llama(5120, 40, heads=40, kv_heads=40, inner=13_824, vocabulary=32_000),
    "llama-2-70b": _llama(8192, 80, heads=64, kv_heads=8, inner=28_672, vocabulary=32_000),
    "llama-3.1-8b": _llama(4096, 32, heads=32, kv_heads=8, inner=14_336, vocabulary=128_256),
    "llama-3.1-70b": _llama(8192, 80, heads=64, kv_heads=8, inner=28_672, vocabulary=128_256),
    "llama-3.1-405b": _llama(16_384, 126, heads=128, kv_heads=8, inner=53_248, vocabulary=128_256),
}
"""Touvron et al. 2023, arXiv:2307.09288, and Grattafiori et al. 2024, arXiv:2407.21783, table 3."""

MODELS: dict[ModelName, Shape] = {name: Shape.of(config) for name, config in _CONFIGS.items()}

GPUS: dict[GpuName, Gpu] = {
    "a100-40gb": Gpu(40 * 10**9, 312),
    "a100-80gb": Gpu(80 * 10**9, 312),
    "h100": Gpu(80 * 10**9, 989),
    "h200": Gpu(141 * 10**9, 989),
}
"""NVIDIA's data sheets of the SXM modules."""
