"""The error of a row that cannot be graded."""


class GraderError(ValueError):
    """A row cannot be graded; `kind` is OpenAI's name of the reason."""

    def __init__(self, message: str, kind: str = "other_error") -> None:
        super().__init__(message)
        self.kind = kind
