"""Previews of what a job will train on, made by the code that trains, without loading weights."""

from engine.preview.preview import preview

__all__ = ["preview"]
