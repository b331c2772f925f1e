"""Textures and what is cut out of them: procedural families, a user's folder, collages, characters."""

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
