"""QLoRA of a 1B Llama on GSM8K's answers on a GPU, against TRL, PEFT and bitsandbytes (see sft.py)."""

from sft import run

if __name__ == "__main__":
    run("gpu-sft-qlora", "qlora", {"defaults": 1.5})
