"""Textures: procedural families, photographs, a folder of the user's; what is cut of them."""

from __future__ import annotations

from .collages import Collages, cuts, draw_collages
from .families import FAMILIES, HELD_OUT, TRAINING, make_bank
from .sources import equalise, folder_bank, photograph_bank

__all__ = [
    "FAMILIES",
    "HELD_OUT",
    "TRAINING",
    "Collages",
    "cuts",
    "draw_collages",
    "equalise",
    "folder_bank",
    "make_bank",
    "photograph_bank",
]
