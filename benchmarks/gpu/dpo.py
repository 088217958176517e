"""DPO with LoRA of a 1B Llama on real pairs on a GPU, against TRL and PEFT: pairs per wall-clock second."""

from benchmarks.harness import gpu_size, material, race
from benchmarks.harness.gpu_opponent import on_gpu
from benchmarks.harness.pairs import contest


def main() -> None:
    how = gpu_size.read()
    pairs = 4 if how.small else 32
    one = contest("gpu-dpo-lora", {"method": "lora", **material.LORA}, {"defaults": 2.0, "best": 1.3}, pairs)
    quick = {"precompute_ref_log_probs": True, "gradient_checkpointing": False}
    race.run(on_gpu(one, how, pairs, {"max_length": material.POSITIONS}, quick), how.rest)


if __name__ == "__main__":
    main()
