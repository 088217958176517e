"""The progress of a running job, gathered from its stream, and its one-line summary."""

from typing import Any

from cli.output import duration


class Progress:
    """The progress of a job: its step, latest figures and loss curve."""

    def __init__(self, total_steps: int = 0) -> None:
        self.step = 0
        self.total_steps = total_steps
        self.train: dict[str, Any] = {}
        self.evals: dict[str, Any] = {}
        self.losses: dict[int, float] = {}
        """Training loss by step; a step that was trained again after a resume counts once."""

    def take(self, record: dict[str, Any]) -> str | None:
        """Record an item of the stream; return the message to print for it, if any."""
        if record["type"] == "metrics":
            return self._take_metrics(record)
        data = record.get("data") or {}
        self.total_steps = data.get("total_steps") or self.total_steps
        message = record.get("message")
        if not message:
            return None
        level = record.get("level", "info")
        return message if level == "info" else f"{level}: {message}"

    def _take_metrics(self, record: dict[str, Any]) -> str | None:
        values = record["values"]
        self.step = record["step"]
        if record["split"] == "train":
            self.train = values
            if values.get("loss") is not None:
                self.losses[self.step] = values["loss"]
            return None
        self.evals = values
        if values.get("eval_loss") is None:
            return None
        at = f"step {self.step}: " if self.total_steps else ""  # an eval job has no steps
        return f"{at}held-out loss {values['eval_loss']:.4f}"

    def line(self) -> str:
        """Return a summary such as `step 40/400  loss 3.2101  12,345 tok/s  ETA 1m20s`."""
        parts = [f"step {self.step}/{self.total_steps}" if self.total_steps else "running"]
        if self.train.get("loss") is not None:
            parts.append(f"loss {self.train['loss']:.4f}")
        if self.evals.get("eval_loss") is not None:
            parts.append(f"eval {self.evals['eval_loss']:.4f}")
        if self.train.get("tokens_per_s"):
            parts.append(f"{self.train['tokens_per_s']:,.0f} tok/s")
        if self.train.get("eta_s") is not None and self.step < (self.total_steps or self.step):
            parts.append(f"ETA {duration(self.train['eta_s'])}")
        return "  ".join(parts)

    def bar(self, width: int = 12) -> str:
        """Draw the finished share of the run as a bar."""
        share = self.step / self.total_steps if self.total_steps else 0.0
        full = round(min(1.0, share) * width)
        return "━" * full + "╌" * (width - full)
