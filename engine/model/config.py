"""The config of a model's folder, read without its weights."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from engine.errors import SpecError


def config_of(folder: Path) -> Any:
    """Return the config.json of a model, read by transformers.

    Raises:
        SpecError: there is none, or its architecture is unknown.
    """
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise SpecError(
            "model_not_loaded", f"the model in {folder.name}/ does not load: {error}", "Check the model's files."
        ) from error


def positions_of(folder: Path) -> int | None:
    """Return the number of positions that the model was made for, if its config has it."""
    return getattr(config_of(folder), "max_position_embeddings", None)


def stored_dtype(folder: Path) -> torch.dtype:
    """Return the type that the weights are stored in by the config, fp32 if it does not have it.

    Imports write it there from the headers of the weights.
    """
    dtype = config_of(folder).dtype
    return dtype if isinstance(dtype, torch.dtype) else torch.float32
