"""What a model's folder says of it, without its weights."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from engine.errors import SpecError


def config_of(folder: Path) -> Any:
    """Its config.json, read by transformers.

    Raises:
        SpecError: there is none, or of no known architecture.
    """
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise SpecError(
            "model_not_loaded", f"the model in {folder.name}/ does not load: {error}", "Check the model's files."
        ) from error


def positions_of(folder: Path) -> int | None:
    """How many positions the model was made for, if it says so."""
    return getattr(config_of(folder), "max_position_embeddings", None)


def stored_dtype(folder: Path) -> torch.dtype:
    """The type that its weights are stored in; fp32 where it does not say."""
    dtype = config_of(folder).dtype
    return dtype if isinstance(dtype, torch.dtype) else torch.float32
