"""How fast the distortions are, beside scikit-image an image at a time and `imagecorruptions`.

    python benchmarks/distortions.py [--images 64] [--repeats 3] [--threads 1]

Prints a Markdown table: CPU milliseconds an image at 224x224, ours in one batch, the paper's
definitions with scikit-image, scipy and numpy in float64 an image at a time (written down in
tests/bench/distortions/reference.py), and the nearest kind of the package imagecorruptions, where
it is installed (`pip install imagecorruptions opencv-python-headless 'setuptools<81'`). The fastest
of the repeats counts; they take turns.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage import data

from bench.distortions import ALL, load, seeds

SIDE = 224

LEVELS: dict[str, float] = {
    "colour": 1.0,
    "contrast": 0.1,
    "uniform-noise": 0.2,
    "low-pass": 7.0,
    "high-pass": 0.7,
    "phase-noise": 90.0,
    "power-equalisation": 1.0,
    "opponent-colour": 1.0,
    "rotation": 90.0,
    "eidolon-i": 16.0,
    "eidolon-ii": 16.0,
    "eidolon-iii": 16.0,
    "salt-and-pepper": 0.5,
}

NEAREST = {
    "contrast": "contrast",
    "uniform-noise": "gaussian_noise",
    "low-pass": "gaussian_blur",
    "salt-and-pepper": "impulse_noise",
}
"""The kind of imagecorruptions that is most like it."""


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="Time the distortions.")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pixels = _photographs(options.images)
    images = torch.from_numpy(pixels.transpose(0, 3, 1, 2)).float().contiguous()
    own = seeds([str(number) for number in range(len(images))])
    reference = _reference()
    print("| distortion | ours, ms | scikit-image, ms | ratio | imagecorruptions, ms |")
    print("| --- | ---: | ---: | ---: | ---: |")
    totals = (0.0, 0.0)
    for spec in ALL:
        distortion = load(spec)
        if distortion.needs_references:
            distortion = distortion.prepared(images)
        value = LEVELS[distortion.name]
        theirs = _theirs(reference, distortion.name, value, pixels)
        few = pixels[: 4 if "eidolon" in distortion.name else 16]
        corrupt = _corruption(distortion.name)
        bytes_ = (few * 255).astype(np.uint8)
        distortion(images[:2], value, own[:2])  # tables are made once
        runs: list[Callable[[], Any]] = [
            partial(distortion, images, value, own),
            partial(_each, theirs, few),
        ]
        if corrupt is not None:
            runs.append(partial(_each, corrupt, bytes_))
        counts = (len(images), len(few), len(few))
        times = [float("inf")] * len(runs)
        for _ in range(options.repeats):
            for place, run in enumerate(runs):
                times[place] = min(times[place], _cpu(run) / counts[place])
        ours_time, theirs_time = times[:2]
        totals = (totals[0] + ours_time, totals[1] + theirs_time)
        other_time = times[-1]
        other = f"{1e3 * other_time:.2f} ({NEAREST[distortion.name]})" if corrupt else ""
        print(
            f"| {distortion.name} {value:g} | {1e3 * ours_time:.2f} | {1e3 * theirs_time:.2f} "
            f"| {theirs_time / ours_time:.1f} | {other} |",
            flush=True,
        )
    ours, scikit = totals
    print(f"| all | {1e3 * ours:.2f} | {1e3 * scikit:.2f} | {scikit / ours:.1f} | |")


def _photographs(count: int) -> NDArray[np.float64]:
    """Cuts of scikit-image's photographs (N,224,224,3) in [0,1]."""
    sources = [data.astronaut(), data.coffee(), data.chelsea()]
    rng = np.random.default_rng(0)
    cuts = []
    for number in range(count):
        source = sources[number % len(sources)]
        top, left = (int(rng.integers(0, n - SIDE + 1)) for n in source.shape[:2])
        cuts.append(source[top : top + SIDE, left : left + SIDE])
    return np.stack(cuts) / 255.0


def _theirs(
    reference: ModuleType, name: str, value: float, pixels: NDArray[np.float64]
) -> Callable[[NDArray[np.float64]], Any]:
    """The paper's definition for one image (H,W,3)."""
    rng = np.random.default_rng(0)
    table = np.linspace(0, 1, 256) ** 2.43
    if name == "power-equalisation":
        amplitudes = reference.mean_amplitudes(pixels)
        return lambda image: reference.power_equalisation(image, amplitudes)
    if name == "phase-noise":
        half = (SIDE - 1) ** 2 // 2
        width = np.deg2rad(value)
        return lambda image: reference.phase_noise(
            image, rng.uniform(-width, width, half), symmetric=False
        )
    if name.startswith("eidolon"):
        coherence = {"eidolon-i": 1.0, "eidolon-ii": 0.3, "eidolon-iii": 0.0}[name]
        return lambda image: _eidolon(reference, image, value, coherence, rng)
    of_image: dict[str, Callable[[NDArray[np.float64]], Any]] = {
        "colour": reference.grey,
        "contrast": lambda image: reference.contrast(image, value),
        "uniform-noise": lambda image: reference.uniform_noise(image, value, rng),
        "salt-and-pepper": lambda image: reference.salt_and_pepper(image, value, rng),
        "low-pass": lambda image: reference.low_pass(image, value),
        "high-pass": lambda image: reference.high_pass(image, value),
        "opponent-colour": lambda image: reference.opponent_colour(image, table),
        "rotation": lambda image: reference.rotation(image, int(value)),
    }
    return lambda image: np.dstack([of_image[name](image)] * (1 if "opponent" in name else 3))


def _eidolon(
    reference: ModuleType,
    image: NDArray[np.float64],
    reach: float,
    coherence: float,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    bands, before = reference.scale_space(reference.grey(image))
    torus = bands.shape[-1]
    rows, columns = (
        reference.displacements(SIDE, torus, coherence, 10.0, rng) * reach for _ in range(2)
    )
    place = np.arange(SIDE) + before
    rows = np.clip(rows + place[:, None], 0, torus - 1).astype(int)
    columns = np.clip(columns + place, 0, torus - 1).astype(int)
    total = sum(band[row, column] for band, row, column in zip(bands, rows, columns, strict=True))
    return np.dstack([np.clip(total, 0, 1)] * 3)


def _corruption(name: str) -> Callable[[NDArray[np.uint8]], Any] | None:
    """The nearest kind of imagecorruptions for one image (H,W,3), or None."""
    if name not in NEAREST or importlib.util.find_spec("imagecorruptions") is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from imagecorruptions import corrupt

            corrupt(np.zeros((SIDE, SIDE, 3), np.uint8), corruption_name=NEAREST[name], severity=3)
        except Exception as error:
            print(f"imagecorruptions, {NEAREST[name]}: {type(error).__name__}: {error}")
            return None
    return lambda image: corrupt(image, corruption_name=NEAREST[name], severity=3)


def _reference() -> ModuleType:
    path = Path(__file__).parent.parent / "tests" / "bench" / "distortions" / "reference.py"
    spec = importlib.util.spec_from_file_location("distortions_reference", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"can't read {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _each(change: Callable[[Any], Any], images: NDArray[Any]) -> None:
    for image in images:
        change(image)


def _cpu(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


if __name__ == "__main__":
    main()
