"""Load what the demo pulled with plain transformers and PEFT, and generate text; nothing of Trainyard is used.

    python examples/load_adapter.py [ADAPTER_FOLDER] [BASE_FOLDER]

The defaults are ./demo-out and ./demo-out/base, the folders of `make demo`.
"""

import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

QUESTION = "Tom has 3 boxes with 12 apples in each. He gives 6 apples away. How many apples does he have left?"


def generate(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, prompt: str) -> str:
    """Return up to 60 tokens of the likeliest answer to a user's question."""
    messages = [{"role": "user", "content": prompt}]
    tokens = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        written = model.generate(
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
            max_new_tokens=60,
            do_sample=False,
            repetition_penalty=1.3,  # a model this small would otherwise repeat its likeliest word
        )
    return tokenizer.decode(written[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True)


def main() -> None:
    adapter_dir = Path(sys.argv[1] if len(sys.argv) > 1 else "demo-out")
    base_dir = Path(sys.argv[2]) if len(sys.argv) > 2 else adapter_dir / "base"
    tokenizer = AutoTokenizer.from_pretrained(adapter_dir)
    base = AutoModelForCausalLM.from_pretrained(base_dir)
    parameters = base.num_parameters()
    print(f"base    {base_dir}: {parameters:,} parameters")
    print(f"  {generate(base, tokenizer, QUESTION)!r}")
    tuned = PeftModel.from_pretrained(base, adapter_dir)
    # PEFT wraps the base in place; the additional parameters are the adapter's.
    print(f"adapter {adapter_dir}: {tuned.num_parameters() - parameters:,} parameters more")
    print(f"  {generate(tuned, tokenizer, QUESTION)!r}")


if __name__ == "__main__":
    main()
