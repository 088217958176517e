"""Proof that plain PEFT loads an exported adapter as this engine does, before the run is finished.

Every tensor that PEFT loads must equal the one in the file, and on a small fixed batch PEFT over transformers' own
modules must give the same logits as this engine.
"""

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor

from engine.data.corpus import Batch
from engine.errors import EngineError
from engine.model.forward import backbone_of, decoder_of, head_of, relative_gap
from engine.model.layer_offload import layers_lie_in
from engine.model.load import load_model
from engine.model.quantize import was_quantized
from engine.session import Session

_TOKENS = 24
_WEIGHTS = "adapter_model.safetensors"
TOLERANCE = {"fp32": 2e-3, "bf16": 0.1, "fp16": 0.1}
"""Relative to the largest logit: packed attention and the engine's own layers round differently from transformers'."""


@torch.no_grad()
def prove_in_peft(session: Session, adapter: Path) -> float:
    """Compare the session's subject, loaded from `adapter`, with the model that plain PEFT makes; return the relative gap.

    The subject is dropped: a second base might not fit beside it.

    Raises:
        EngineError: a tensor or the logits differ.
    """
    machine = session.machine
    ids_T = fixed_batch(session.subject.model.get_input_embeddings().weight.shape[0]).to(machine.device)  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    session.subject.model.eval()
    with machine.autocast():
        ours_TV = packed_logits(session.subject.model, ids_T).float().cpu()
    layers_in = layers_lie_in(decoder_of(session.subject.model))
    session.drop_subject()
    in_4bit = was_quantized(adapter)
    base = load_model(
        session.run.base_model(),
        device=machine.device,
        dtype=machine.compute_dtype,
        in_4bit=in_4bit,
        layers_in=layers_in,
    )
    base.set_attn_implementation("eager")
    theirs: Any = PeftModel.from_pretrained(base, str(adapter)).eval()
    _require_same_tensors(theirs, adapter)
    with machine.autocast():
        theirs_TV = theirs(input_ids=ids_T[None], use_cache=False).logits[0].float().cpu()
    gap = relative_gap(ours_TV, theirs_TV)
    most = TOLERANCE[machine.precision]
    if not gap <= most:
        raise _differs(
            f"its logits on {_TOKENS} tokens differ by {gap:.2g} of the largest; rounding explains up to {most:g}"
        )
    message = f"plain PEFT loads the adapter; on {_TOKENS} tokens its logits differ by {gap:.2g} of the largest (limit {most:g})"
    session.journal.log("info", "adapter_proved", message, gap=gap, tolerance=most, tokens=_TOKENS)
    return gap


def fixed_batch(vocabulary: int) -> Tensor:
    """Return the tokens of a row, always the same."""
    return torch.arange(3, 3 + _TOKENS) * 7 % vocabulary


def packed_logits(model: Any, ids_T: Tensor) -> Tensor:
    """Return the logits [T, V] of one row, computed by the packed attention."""
    positions = torch.arange(len(ids_T), device=ids_T.device)
    batch = Batch(ids_T, positions, positions, positions, (len(ids_T),), ())
    return head_of(model)(backbone_of(model, batch))


def _require_same_tensors(theirs: PeftModel, adapter: Path) -> None:
    found = get_peft_model_state_dict(theirs, save_embedding_layers=False)
    for name, saved in load_file(adapter / _WEIGHTS).items():
        if name not in found:
            raise _differs(f"{name} of the file is missing in the model that PEFT makes")
        if not torch.equal(found[name].cpu(), saved.to(found[name].dtype)):
            raise _differs(f"{name} differs from the file")


def _differs(why: str) -> EngineError:
    return EngineError(
        "adapter_differs_in_peft",
        f"plain PEFT loads another adapter than the one that was trained: {why}",
        "Run the job again; tell the maintainers if it happens twice.",
    )
