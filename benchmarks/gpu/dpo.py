"""DPO with LoRA of a 1B Llama on real pairs on a GPU, against TRL and PEFT: pairs per second of the clock."""

import material
import race
import size
from opponent import on_gpu
from pairs import contest


def main() -> None:
    how = size.read()
    pairs = 4 if how.small else 32
    one = contest("gpu-dpo-lora", {"method": "lora", **material.LORA}, {"defaults": 2.0, "best": 1.3}, pairs)
    quick = {"precompute_ref_log_probs": True, "gradient_checkpointing": False}
    race.run(on_gpu(one, how, pairs, {"max_length": material.POSITIONS}, quick), how.rest)


if __name__ == "__main__":
    main()
