"""`python -m engine.merge_offline MODEL ADAPTER OUT [auto|original|dequantized]` merges an adapter into its model, as one folder.

Without a job and without rows: what comes out is held against the adapter applied, by its logits. An adapter that was
trained over 4 bits is merged into the model as it reads from them, unless the original is asked for. Told as a line of JSON.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import engine.bnb_import  # noqa: F401 - before what imports peft
from engine.errors import EngineError
from engine.generation.writer import say_ends
from engine.model.adapters import merged
from engine.model.config import stored_dtype
from engine.model.load import load_model, tokenizer_of
from engine.model.merged import applied_model
from engine.model.quantize import was_quantized
from engine.precision import Machine
from engine.proof import fixed_batch, packed_logits

BASES = ("auto", "original", "dequantized")
_INVALID = 65


class Whole(NamedTuple):
    """A merged model on disk: into what, as what it is stored, and how far its logits were off before they were rounded."""

    into: str
    dtype: str
    gap: float


_ROUNDING = 2e-3
"""Of the largest logit, in fp32."""
_OF_EFFECT, _LEAST = 0.05, 1e-5
"""An adapter may move logits by less than that: what is off has to be little of it."""


@torch.no_grad()
def write_whole(model: Path, adapter: Path, out: Path, into: str = "auto") -> Whole:
    """Added in fp32 and rounded once, to the type that the model is stored in; in `out` once it has been read back.

    Raises:
        EngineError: one of the two does not load, they do not belong together, or what is read back is another model.
        FileExistsError: something is there.
    """
    if out.exists():
        raise FileExistsError(f"{out} is there already")
    machine = Machine.choose("auto", "fp32")
    chosen = into if into != "auto" else "dequantized" if was_quantized(adapter) else "original"
    applied: Any = applied_model(model, adapter, machine, dequantized=chosen == "dequantized").eval()
    ids_T = fixed_batch(applied.get_input_embeddings().weight.shape[0]).to(machine.device)
    expected_TV = packed_logits(applied, ids_T)
    with applied.disable_adapter():
        effect = _gap(packed_logits(applied, ids_T), expected_TV)
    whole: Any = merged(applied)
    gap = _gap(packed_logits(whole, ids_T), expected_TV)
    if not gap <= min(_ROUNDING, _OF_EFFECT * effect + _LEAST):
        raise _differs(f"its logits are off by {gap:.2g} of the largest; the adapter moves them by {effect:.2g}")
    dtype = stored_dtype(model)
    writing = out.with_name(f".{out.name}.writing")
    try:
        tokenizer = tokenizer_of(model, adapter)
        say_ends(whole, tokenizer)
        whole.to(dtype).save_pretrained(writing)
        tokenizer.save_pretrained(writing)
        read = load_model(writing, device=machine.device, dtype=dtype).state_dict()
        for name, tensor in whole.state_dict().items():
            if not torch.equal(tensor, read[name]):
                raise _differs(f"{name} as it is read back is not what was written")
        writing.rename(out)
    finally:
        shutil.rmtree(writing, ignore_errors=True)
    return Whole(chosen, str(dtype).removeprefix("torch."), gap)


def _gap(found_TV: Tensor, expected_TV: Tensor) -> float:
    return float((found_TV - expected_TV).abs().max() / expected_TV.abs().max().clamp_min(1e-6))


def _differs(why: str) -> EngineError:
    return EngineError(
        "merge_differs",
        f"the merged model is not the adapter applied: {why}",
        "Tell the maintainers, with the adapter.",
    )


def main(arguments: list[str]) -> int:
    """Exit code 65 for what cannot be merged."""
    if len(arguments) not in {3, 4} or (len(arguments) == 4 and arguments[3] not in BASES):
        sys.stderr.write(f"{__doc__}\n")
        return 2
    model, adapter, out = map(Path, arguments[:3])
    try:
        told = write_whole(model, adapter, out, *arguments[3:])
    except EngineError as error:
        sys.stderr.write(f"{error.message}. {error.mend}\n")
        return _INVALID
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return _INVALID
    sys.stdout.write(json.dumps({"folder": str(out), **told._asdict()}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
