"""The hidden images of a round: an organiser's own, or drawn from what the track never shows.

They lie in the store as one file, named by its SHA-256, and are served to nobody. Their ids are
new, so that not even a report tells which images they are.
"""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.errors import InfrastructureError, UserError

if TYPE_CHECKING:
    from bench.datasets.types import Dataset
    from bench.tracks.types import Track

    from .storage import Store

PREFIX: Final = "hidden:"
"""What the split of a round's track begins with; the SHA-256 of the images follows."""


def drawn(track: Track, count: int, seed: int) -> Dataset:
    """Images of the public test split that the track does not show, classes in turn.

    Whoever knows the data set knows these images too, though not which of them are played. Where
    that matters, use images of your own (`from_file`).

    Raises:
        UserError: fewer images are left than asked for.
    """
    import bench
    from bench.datasets.types import interleaved, select

    data = bench.dataset(track.dataset, split="test")
    left = len(data) - track.images
    if not 1 <= count <= left:
        raise UserError(
            f"{track.dataset} has {max(0, left)} test images that its tracks do not show, and "
            f"{count} were asked for; ask for fewer, or give images of your own (--images-file)"
        )
    rest = range(track.images, len(data))
    order = interleaved([f"{seed}:{data.ids[row]}" for row in rest], data.labels[track.images :])
    chosen = [track.images + place for place in order[:count]]
    found = select(
        chosen,
        name=data.name,
        split=data.split,
        ids=data.ids,
        pixels=data.pixels,
        labels=data.labels,
        class_names=data.class_names,
    )
    return _renamed(found)


def from_file(track: Track, file: Path, count: int | None = None) -> Dataset:
    """An organiser's own images: an .npz with `images` uint8 (N,H,W,C) and `labels` int (N,).

    Raises:
        UserError: no such file, other arrays, shapes, types or labels than the track's.
    """
    import numpy as np

    import bench
    from bench.datasets.types import Dataset

    try:
        with np.load(file, allow_pickle=False) as arrays:
            parts = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError) as error:
        raise UserError(
            f"can't read {file}: {error}; wanted an .npz file that np.savez wrote"
        ) from error
    missing = {"images", "labels"} - set(parts)
    if missing:
        raise UserError(
            f"{file} holds {', '.join(sorted(parts)) or 'nothing'}; wanted the arrays images, "
            "uint8 (N,H,W,C), and labels, whole numbers (N,)"
        )
    images, labels = parts["images"], parts["labels"]
    if images.dtype != np.uint8 or images.shape[1:] != track.image_shape or not len(images):
        shape = ",".join(map(str, track.image_shape))
        raise UserError(
            f"{file}: images are {images.dtype} {images.shape}; wanted uint8 (N,{shape})"
        )
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise UserError(
            f"{file}: labels are {labels.dtype} {labels.shape}; wanted one whole number an image"
        )
    if labels.min() < 0 or labels.max() >= track.classes:
        raise UserError(
            f"{file}: labels go from {labels.min()} to {labels.max()}; wanted 0 to "
            f"{track.classes - 1}"
        )
    if count is not None and not 1 <= count <= len(images):
        raise UserError(f"{file} has {len(images)} images, and {count} were asked for")
    names = bench.dataset(track.dataset, split="test").class_names
    made = Dataset(
        name=track.dataset,
        split="test",
        ids=tuple(str(i) for i in range(len(images))),
        pixels=np.ascontiguousarray(images),
        labels=labels.astype(np.int64),
        class_names=names,
    )
    return _renamed(made if count is None else made.take(count))


def put(store: Store, data: Dataset) -> str:
    """Store the images; returns the SHA-256 that names them."""
    import numpy as np

    buffer = io.BytesIO()
    names = np.array(data.class_names)
    np.savez(buffer, ids=np.array(data.ids), pixels=data.pixels, labels=data.labels, names=names)
    return store.put(buffer.getvalue())


def split_of(sha256: str) -> str:
    """The split of a round's tracks."""
    return PREFIX + sha256


def load(store: Store, track: Track) -> Dataset:
    """The images of a round's track. Raises InfrastructureError when they are gone."""
    sha256 = track.split.removeprefix(PREFIX)
    return _load(str(store.path(sha256)), store, sha256, track.dataset, track.split)


@lru_cache(maxsize=4)
def _load(path: str, store: Store, sha256: str, name: str, split: str) -> Dataset:
    import numpy as np

    from bench.datasets.types import Dataset

    try:
        data = store.get(sha256)
    except FileNotFoundError as error:
        raise InfrastructureError(
            f"the hidden images of {name} are not in the store any more ({path}); restore it from "
            "its backup"
        ) from error
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return Dataset(
            name=name,
            split=split,
            ids=tuple(map(str, arrays["ids"])),
            pixels=arrays["pixels"],
            labels=arrays["labels"],
            class_names=tuple(map(str, arrays["names"])),
        )


def _renamed(data: Dataset) -> Dataset:
    from dataclasses import replace

    return replace(data, ids=tuple(f"hidden-{row:05d}" for row in range(len(data))))
