"""The parts of job specs, with the names of Hugging Face, TRL and PEFT."""

from engine.parts.checkpoints import Checkpoints
from engine.parts.hyperparameters import Hyperparameters
from engine.parts.job import JobPart, Metadata
from engine.parts.mixture import FileShare, MixedTrainingSpec
from engine.parts.part import Auto, FileId, Lines, ModulePattern, Name, Part, Reference, StartingPoint, Text
from engine.parts.resources import Parallel, Resources
from engine.parts.samples import Samples
from engine.parts.training import TOKEN_METRICS, TrainingSpec
from engine.parts.tuning import AdapterTuning, FullTuning, LoraTuning, QloraTuning, Tuning

__all__ = [
    "TOKEN_METRICS",
    "AdapterTuning",
    "Auto",
    "Checkpoints",
    "FileId",
    "FileShare",
    "FullTuning",
    "Hyperparameters",
    "JobPart",
    "Lines",
    "LoraTuning",
    "Metadata",
    "MixedTrainingSpec",
    "ModulePattern",
    "Name",
    "Parallel",
    "Part",
    "QloraTuning",
    "Reference",
    "Resources",
    "Samples",
    "StartingPoint",
    "Text",
    "TrainingSpec",
    "Tuning",
]
