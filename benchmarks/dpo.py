"""Direct preference optimization of a 28M Llama on real pairs, against TRL (see harness/pairs.py): pairs per CPU-second."""

from benchmarks.harness import race
from benchmarks.harness.pairs import contest


def main() -> None:
    race.run(contest("dpo", {"method": "full"}, {"defaults": 8.0, "like for like": 5.0}))


if __name__ == "__main__":
    main()
