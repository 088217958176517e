"""Exit codes, and the exception that ends a command with a message and a code."""

from enum import IntEnum

import click


class Exit(IntEnum):
    """The exit codes; 65 and 69 are EX_DATAERR and EX_UNAVAILABLE of sysexits.h."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    AUTH = 3
    NOT_FOUND = 4
    JOB_FAILED = 5
    JOB_CANCELLED = 6
    TIMED_OUT = 7
    INVALID = 65
    UNREACHABLE = 69
    INTERRUPTED = 130


class CommandError(click.ClickException):
    """End the command: `message` goes to stderr, `code` to the shell, and `mend` says what to do or type."""

    def __init__(self, message: str, code: Exit = Exit.UNEXPECTED, mend: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.mend = mend
