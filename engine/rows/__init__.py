"""Rows of training files: what the formats are, what is wrong with a row, and the one reading of a right one."""

from engine.rows.checker import MAX_LINE_BYTES, Report, RowChecker, RowFault, format_of_name, read_line
from engine.rows.choice import MultipleChoice
from engine.rows.depth import MAX_DEPTH, is_too_deep
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
    "format_of_name",
    "is_too_deep",
    "parse_row",
    "read_line",
]
