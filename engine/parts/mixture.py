"""The files that a job trains on: one, or several with their shares of the tokens."""

from typing import Self

from pydantic import Field, model_validator

from engine.parts.part import FileId, Part
from engine.parts.training import TrainingSpec


class FileShare(Part):
    """A file of a mixture."""

    file: FileId
    weight: float = Field(
        default=1.0, gt=0, le=1e6, description="Its share of the tokens is its part of the sum of all weights."
    )


class MixedTrainingSpec(TrainingSpec):
    """A job that trains on one file, or on a mixture of several, and may end on another one."""

    training_file: FileId | None = Field(default=None, description="Either this or a mixture.")
    mixture: tuple[FileShare, ...] = Field(
        default=(),
        max_length=64,
        description="Several files: each row comes from the file that is furthest behind its share. Needs max_steps.",
    )
    annealing: tuple[FileShare, ...] = Field(
        default=(),
        max_length=64,
        description="The files of the last steps, in which a wsd schedule decays. Needs max_steps.",
    )

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        if (self.training_file is None) == (not self.mixture):
            raise ValueError("training_file or mixture is required, one of the two")
        if self.mixture and self.exclude_rows:
            raise ValueError("exclude_rows are lines of training_file; with a mixture, remove the rows from its files")
        for name, shares in (("mixture", self.mixture), ("annealing", self.annealing)):
            if len({share.file for share in shares}) < len(shares):
                raise ValueError(f"{name} names a file twice; add its weights up")
            if shares and self.hyperparameters.max_steps is None:
                raise ValueError(
                    f"{name} needs hyperparameters.max_steps: the epochs of its files end at different times"
                )
        if self.annealing and self.hyperparameters.lr_scheduler_type != "wsd":
            raise ValueError("annealing needs hyperparameters.lr_scheduler_type 'wsd'; it begins when the rate decays")
        return self
