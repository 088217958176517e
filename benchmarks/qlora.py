"""QLoRA (rank 16, NF4 with double quantization) of a 28M Llama, against TRL, PEFT and bitsandbytes (see harness/answers.py)."""

from benchmarks.harness import answers
from benchmarks.harness.material import LORA


def main() -> None:
    answers.run("qlora", {"method": "qlora", **LORA}, {"defaults": 8.0, "best": 2.0})


if __name__ == "__main__":
    main()
