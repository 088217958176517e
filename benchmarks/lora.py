"""LoRA (rank 16, every linear layer) of a 28M Llama on GSM8K's answers, against TRL and PEFT (see answers.py)."""

import race
from answers import contest
from material import LORA


def main() -> None:
    race.run(contest("lora", {"method": "lora", **LORA}, {"defaults": 9.0, "best": 2.5}))


if __name__ == "__main__":
    main()
