"""`python -m engine.merge_offline MODEL ADAPTER OUT [auto|original|dequantized]` merges an adapter into its model, as one folder.

This needs no job and no rows: the merged model's logits are compared with those of the applied adapter. An adapter that
was trained over 4 bits is merged into the dequantized model, unless the original is asked for. Prints a line of JSON.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError

import engine.bnb_import  # noqa: F401 - before what imports peft
from engine.errors import EngineError
from engine.generation.writer import save_ends
from engine.model.adapters import merged
from engine.model.config import stored_dtype
from engine.model.forward import relative_gap
from engine.model.load import load_model, tokenizer_of
from engine.model.merged import applied_model
from engine.model.quantize import was_quantized
from engine.precision import Machine
from engine.proof import fixed_batch, packed_logits

BASES = ("auto", "original", "dequantized")
_INVALID = 65


class Whole(NamedTuple):
    """A merged model on disk: the base it was merged into, its stored type, and the gap of its logits before rounding."""

    into: str
    dtype: str
    gap: float


_ROUNDING = 2e-3
"""The largest gap, relative to the largest logit, in fp32."""
_OF_EFFECT, _LEAST = 0.05, 1e-5
"""An adapter may move logits by less than that: the gap must also be a small share of its effect."""


@torch.no_grad()
def write_whole(model: Path, adapter: Path, out: Path, into: str = "auto") -> Whole:
    """Merge in fp32, round once to the type that the model is stored in, and write to `out` once it reads back equal.

    Raises:
        EngineError: model or adapter does not load, they do not belong together, or what is read back differs.
        FileExistsError: `out` exists.
        OSError: the merged model cannot be written.
    """
    if out.exists():
        raise FileExistsError(f"{out} is there already")
    machine = Machine.choose("auto", "fp32")
    chosen = into if into != "auto" else "dequantized" if was_quantized(adapter) else "original"
    applied: Any = applied_model(model, adapter, machine, dequantized=chosen == "dequantized").eval()
    ids_T = fixed_batch(applied.get_input_embeddings().weight.shape[0]).to(machine.device)
    expected_TV = packed_logits(applied, ids_T)
    with applied.disable_adapter():
        effect = relative_gap(packed_logits(applied, ids_T), expected_TV)
    whole: Any = merged(applied)
    gap = relative_gap(packed_logits(whole, ids_T), expected_TV)
    if not gap <= min(_ROUNDING, _OF_EFFECT * effect + _LEAST):
        raise _differs(f"its logits are off by {gap:.2g} of the largest; the adapter moves them by {effect:.2g}")
    dtype = stored_dtype(model)
    writing = out.with_name(f".{out.name}.writing")
    try:
        tokenizer = tokenizer_of(model, adapter)
        save_ends(whole, tokenizer)
        try:
            whole.to(dtype).save_pretrained(writing)
        except SafetensorError as error:  # a full disk, for one: it is no OSError
            raise OSError(f"the merged model cannot be written to {out.parent}/: {error}") from error
        tokenizer.save_pretrained(writing)
        read = load_model(writing, device=machine.device, dtype=dtype).state_dict()
        for name, tensor in whole.state_dict().items():
            if not torch.equal(tensor, read[name]):
                raise _differs(f"{name} as it is read back is not what was written")
        writing.rename(out)
    finally:
        shutil.rmtree(writing, ignore_errors=True)
    return Whole(chosen, str(dtype).removeprefix("torch."), gap)


def _differs(why: str) -> EngineError:
    return EngineError(
        "merge_differs",
        f"the merged model is not the adapter applied: {why}",
        "Tell the maintainers, with the adapter.",
    )


def main(arguments: list[str]) -> int:
    """Return the exit code: 65 if the two cannot be merged."""
    if len(arguments) not in {3, 4} or (len(arguments) == 4 and arguments[3] not in BASES):
        sys.stderr.write(f"{__doc__}\n")
        return 2
    model, adapter, out = map(Path, arguments[:3])
    try:
        whole = write_whole(model, adapter, out, *arguments[3:])
    except EngineError as error:
        sys.stderr.write(f"{error.message}. {error.mend}\n")
        return _INVALID
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return _INVALID
    sys.stdout.write(json.dumps({"folder": str(out), **whole._asdict()}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
