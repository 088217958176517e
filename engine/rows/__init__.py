"""Rows of training files: what the formats are, what is wrong with a row, and the one reading of a right one."""

from engine.rows.checker import Report, RowChecker, RowFault, format_of_name, read_line
from engine.rows.choice import MultipleChoice
from engine.rows.formats import FORMATS, PURPOSES, Message, Row, RowError, parse_row
from engine.rows.preference import Preference

__all__ = [
    "FORMATS",
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
    "parse_row",
    "read_line",
]
