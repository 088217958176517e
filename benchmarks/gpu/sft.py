"""LoRA of a 1B Llama on GSM8K's answers on a GPU, against TRL and PEFT: tokens per second of the clock."""

import material
import race
import scale
from answers import contest
from opponent import on_gpu

STEPS = 10


def run(name: str, method: str, goals: dict[str, float]) -> None:
    how = scale.read()
    rows = 4 if how.small else 64
    one = contest(name, {"method": method, **material.LORA}, goals, file_rows=rows * (STEPS + 1))
    race.run(on_gpu(one, how, rows, {"max_length": material.POSITIONS}, {"gradient_checkpointing": False}), how.rest)


if __name__ == "__main__":
    run("gpu-sft-lora", "lora", {"defaults": 2.0, "best": 1.3})
