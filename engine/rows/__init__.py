"""Rows of data files: their formats, the checks of a row, and its reading. Both the service and the CLI use this."""

from engine.rows.checker import MAX_LINE_BYTES, Report, RowChecker, RowFault, format_of_name, read_line
from engine.rows.choice import MultipleChoice
from engine.rows.depth import MAX_DEPTH, is_too_deep
from engine.rows.flaw import did_you_mean
from engine.rows.formats import FORMATS, PURPOSES, Message, Row, RowError, parse_row
from engine.rows.preference import Preference

__all__ = [
    "FORMATS",
    "MAX_DEPTH",
    "MAX_LINE_BYTES",
    "PURPOSES",
    "Message",
    "MultipleChoice",
    "Preference",
    "Report",
    "Row",
    "RowChecker",
    "RowError",
    "RowFault",
    "did_you_mean",
    "format_of_name",
    "is_too_deep",
    "parse_row",
    "read_line",
]
