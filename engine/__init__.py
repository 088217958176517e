"""The training engine: a run directory in, `events.jsonl`, checkpoints and an export out."""
