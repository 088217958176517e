"""QLoRA of a 1B Llama on GSM8K's answers on a GPU, against TRL, PEFT and bitsandbytes: tokens per wall-clock second."""

from benchmarks.harness.gpu_opponent import run_answers

if __name__ == "__main__":
    run_answers("gpu-sft-qlora", "qlora", {"defaults": 1.5})
