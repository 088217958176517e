"""LoRA (rank 16, every linear layer) of a 28M Llama on instructions, against TRL and PEFT (see harness/answers.py)."""

from benchmarks.harness import answers
from benchmarks.harness.material import LORA


def main() -> None:
    answers.run("lora", {"method": "lora", **LORA}, {"defaults": 9.0, "best": 2.5})


if __name__ == "__main__":
    main()
