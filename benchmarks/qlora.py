"""QLoRA (rank 16, NF4 with double quantization) of a 28M Llama, against TRL, PEFT and bitsandbytes (see answers.py)."""

import answers
from material import LORA


def main() -> None:
    answers.run("qlora", {"method": "qlora", **LORA}, {"defaults": 8.0, "best": 2.0})


if __name__ == "__main__":
    main()
