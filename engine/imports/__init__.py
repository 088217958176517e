"""Checks of uploaded models, which may be hostile. Torch-free: nothing here loads them."""

from engine.imports.fault import ImportFault
from engine.imports.model import Checked, check_model
from engine.imports.piece import Piece
from engine.imports.tar import members

__all__ = ["Checked", "ImportFault", "Piece", "check_model", "members"]
