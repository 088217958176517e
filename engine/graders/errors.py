"""What keeps a row from being graded."""


class GraderError(ValueError):
    """A row cannot be graded; `kind` is what OpenAI's answers call that."""

    def __init__(self, message: str, kind: str = "other_error") -> None:
        super().__init__(message)
        self.kind = kind
