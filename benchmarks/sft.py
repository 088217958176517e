"""Full fine-tuning of a 28M Llama on GSM8K's answers, against TRL (see answers.py): tokens per CPU-second."""

import race
from answers import contest


def main() -> None:
    race.run(contest("sft", {"method": "full"}, {"defaults": 8.0, "best": 2.5}))


if __name__ == "__main__":
    main()
