"""LoRA (rank 16, every linear layer) of a 28M Llama on instructions, against TRL and PEFT (see answers.py)."""

import answers
from material import LORA


def main() -> None:
    answers.run("lora", {"method": "lora", **LORA}, {"defaults": 9.0, "best": 2.5})


if __name__ == "__main__":
    main()
