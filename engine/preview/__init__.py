"""What a job will train on, shown before it runs: by the code that trains, with no weights loaded."""

from engine.preview.preview import preview

__all__ = ["preview"]
