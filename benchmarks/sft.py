"""Full fine-tuning of a 28M Llama on instructions, against TRL (see harness/answers.py): tokens per CPU-second."""

from benchmarks.harness import answers


def main() -> None:
    answers.run("sft", {"method": "full"}, {"defaults": 8.0, "best": 2.5})


if __name__ == "__main__":
    main()
