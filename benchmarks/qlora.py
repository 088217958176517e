"""QLoRA (rank 16, NF4 with double quantization) of a 28M Llama, against TRL, PEFT and bitsandbytes (see answers.py)."""

import race
from answers import contest
from material import LORA


def main() -> None:
    race.run(contest("qlora", {"method": "qlora", **LORA}, {"defaults": 8.0, "best": 2.0}))


if __name__ == "__main__":
    main()
