"""Animals whose joints are to be found: generated ones, and DeepLabCut's labelled frames."""

from .mice import JOINTS, LABEL_SD, Mice, draw_mice
from .projects import Frames, read_project

__all__ = ["JOINTS", "LABEL_SD", "Frames", "Mice", "draw_mice", "read_project"]
