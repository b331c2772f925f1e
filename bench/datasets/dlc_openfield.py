"""DeepLabCut's open-field frames: a mouse from above with four labelled joints (1804.03142)."""

from __future__ import annotations

from ..errors import UserError
from .cache import own_folder
from .task_sets import TaskSet

NAME = "dlc-openfield"
TRAINING = 80
WIDTH, HEIGHT = 160, 120
TOLERANCE = 10.0
"""Pixels of the original frame: the width of the mouse's nose."""


def create(*, split: str = "test") -> TaskSet:
    """The labelled frames of the project in `$TILTYARD_DATA/dlc-openfield`, made 160x120.

    `train` is 80 of them drawn at random, `test` the others: of the same video, so that both share
    its light and its mouse. Targets as of `generated-mice`, without `second` and `exact`, in pixels
    of 160x120. Raises `UserError` for another split, a project that isn't there or is damaged, and
    one with too few frames.
    """
    import numpy as np
    import torch
    from PIL import Image, UnidentifiedImageError

    from ..poses import read_project

    if split not in ("train", "test"):
        raise UserError(f"{NAME} has no split {split!r}; wanted 'train' or 'test'")
    project = read_project(
        own_folder(
            NAME,
            "DeepLabCut project",
            "put the folder examples/openfield-Pranav-2018-10-30 of DeepLabCut's repository "
            "there, or a project of your own with one animal a frame",
        )
    )
    if len(project.pictures) < TRAINING + 2:
        raise UserError(
            f"the project of {NAME} has {len(project.pictures)} labelled frames; wanted at least "
            f"{TRAINING + 2}, of which {TRAINING} are trained on"
        )
    order = np.random.default_rng(0).permutation(len(project.pictures))
    rows = sorted(order[:TRAINING] if split == "train" else order[TRAINING:])
    frames, joints, tolerances = [], [], []
    for row in rows:
        try:
            with Image.open(project.pictures[row]) as opened:
                wide, high = opened.size
                small = opened.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BOX)
        except UnidentifiedImageError as error:
            raise UserError(f"{project.pictures[row]} is not a picture ({error})") from error
        frames.append(np.asarray(small))
        joints.append(np.array(project.joints[row]) * (WIDTH / wide, HEIGHT / high))
        tolerances.append(TOLERANCE * WIDTH / wide)
    pixels = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    return TaskSet(
        name=NAME,
        split=split,
        ids=tuple(
            f"{project.pictures[row].parent.name}/{project.pictures[row].stem}" for row in rows
        ),
        images=pixels.float() / 255,
        contexts=None,
        targets={
            "joints": torch.from_numpy(np.stack(joints)).float(),
            "tolerance": torch.tensor(tolerances),
        },
    )
