"""LoRA of a 1B Llama on GSM8K's answers on a GPU, against TRL and PEFT: tokens per wall-clock second."""

from benchmarks.harness.gpu_opponent import run_answers

if __name__ == "__main__":
    run_answers("gpu-sft-lora", "lora", {"defaults": 2.0, "best": 1.3})
