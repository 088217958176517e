"""Estimates of training a model of a known size on many GPUs: memory, operations and time."""

from engine.estimate.estimate import PUBLISHED_MFU, Estimate, Question, estimate
from engine.estimate.known import GPUS, MODELS, GpuName, ModelName

__all__ = ["GPUS", "MODELS", "PUBLISHED_MFU", "Estimate", "GpuName", "ModelName", "Question", "estimate"]
