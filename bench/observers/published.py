"""Figures to hold the recomputed ones against, and what was compared with what.

`HUMANS` and the following were computed once from the authors' raw data by another program than
ours, and agree with their published plots; `NETWORKS_MAX` likewise.
"""

from __future__ import annotations

NOISE = (0.805, 0.796, 0.781, 0.751, 0.609, 0.456, 0.168, 0.060)
"""Human accuracy under uniform noise, from none to 0.9."""

TRIALS = {
    "colour": (3840, 3),
    "contrast": (6400, 5),
    "contrast-png": (3840, 3),
    "eidolon": (19200, 5),
    "false-colour": (6720, 6),
    "highpass": (7680, 6),
    "lowpass": (7680, 6),
    "noise": (6400, 5),
    "phase-scrambling": (6720, 6),
    "power-equalisation": (6720, 6),
    "rotation": (7680, 6),
}
"""{experiment: human trials, observers}; 82,880 in all."""

_REACHES = (1, 2, 4, 8, 16, 32, 64, 128)


def _eidolon(coherence: int, *cells: float) -> dict[str, float]:
    return {f"{r}-{coherence}-10": c for r, c in zip(_REACHES, cells, strict=True)}


def _levels(text: str, *cells: float) -> dict[str, float]:
    return dict(zip(text.split(), cells, strict=True))


_CONTRASTS = "c100 c50 c30 c15 c10 c05 c03 c01"

HUMANS: dict[str, dict[str, float]] = {
    "colour": _levels("cr bw", 88.5, 86.6),
    "contrast-png": _levels(_CONTRASTS, 91.7, 88.1, 87.5, 81.9, 76.0, 54.6, 31.0, 8.3),
    "contrast": _levels(_CONTRASTS, 86.6, 83.4, 82.6, 76.4, 71.9, 47.6, 20.8, 5.5),
    "noise": _levels(
        "0 0.03 0.05 0.1 0.2 0.35 0.6 0.9", 80.5, 79.6, 78.1, 75.1, 60.9, 45.6, 16.8, 6.0
    ),
    "lowpass": _levels("0 1 3 5 7 10 15 40", 85.9, 80.8, 71.8, 58.3, 48.5, 31.2, 18.5, 7.7),
    "highpass": _levels(
        "inf 3 1.5 1 0.7 0.55 0.45 0.4", 84.7, 81.9, 73.1, 66.2, 49.8, 31.9, 9.7, 6.9
    ),
    "phase-scrambling": _levels("0 30 60 90 120 150 180", 83.6, 81.5, 73.8, 57.4, 30.8, 9.2, 7.0),
    "power-equalisation": _levels("0 pow", 83.2, 70.1),
    "false-colour": _levels("true false", 88.0, 83.2),
    "rotation": _levels("0 90 180 270", 84.8, 78.5, 76.4, 79.1),
    "eidolon": {
        **_eidolon(10, 86.0, 86.1, 83.1, 75.2, 50.2, 29.1, 12.0, 7.4),
        **_eidolon(3, 87.5, 84.4, 79.0, 59.8, 22.5, 12.0, 8.2, 7.2),
        **_eidolon(0, 83.4, 81.2, 68.5, 40.6, 14.0, 7.8, 6.5, 5.8),
    },
}
"""Human accuracy in %, {experiment: {condition: accuracy}}, conditions from mild to strong."""

NETWORKS_MAX = {
    ("noise", "googlenet"): 44.7,
    ("rotation", "googlenet"): 70.8,
    ("noise", "resnet152"): 42.9,
}
"""Accuracy in % over all conditions, by the category of the most probable class."""

RESNET_EIDOLON_MAX = {
    **_eidolon(10, 0.95625, 0.946875, 0.778125, 0.440625, 0.2125, 0.128125, 0.084375, 0.071875),
    **_eidolon(3, 0.940625, 0.915625, 0.746875, 0.321875, 0.146875, 0.08125, 0.059375, 0.059375),
    **_eidolon(0, 0.928125, 0.896875, 0.5875, 0.196875, 0.1, 0.065625, 0.0625, 0.0625),
}
"""Accuracy of ResNet-152 under Eidolon in [0,1], by the category of the most probable class.

The authors' raw-accuracies/TF/eidolon_accuracies_coh_{10,3,0}_TF.csv: their only published
accuracies of pretrained networks by this rule, all others being by sums. The files don't name the
network; it is the one of the three that has these figures.
"""

HUMAN_ENTROPY = {
    ("noise", "0.2"): 3.88,
    ("noise", "0.35"): 3.81,
    ("noise", "0.9"): 3.31,
    ("contrast", "c05"): 3.80,
    ("lowpass", "7"): 3.80,
    ("highpass", "0.7"): 3.69,
    ("phase-scrambling", "120"): 3.55,
    ("rotation", "90"): 3.96,
    ("eidolon", "16-10-10"): 3.80,
}
"""Of the human answers, in bits."""

NETWORK_FILES = {
    "A1": "sixteen01v4",
    "A2": "sixteen26--grayscale",
    "A3": "sixteen07--grayscale-contrast-multiple",
    "A4": "sixteen08--low-pass-multiple",
    "A5": "sixteen11--high-pass-multiple",
    "A6": "sixteen16--phase-scrambling-multiple",
    "A7": "sixteen09--rotation-multiple",
    "A8": "sixteen21--salt-and-pepper-noise-multiple",
    "A9": "sixteen03--uniform-noise-multiple",
    "B1": "sixteen30--color--uniform-noise-multiple--200epochs",
    "B2": "sixteen31--grayscale--uniform-noise-multiple--200epochs",
    "B3": "sixteen32--grayscale-contrast-multiple--uniform-noise-multiple--200epochs",
    "B4": "sixteen33--low-pass-multiple--uniform-noise-multiple--200epochs",
    "B5": "sixteen34--high-pass-multiple--uniform-noise-multiple--200epochs",
    "B6": "sixteen35--phase-scrambling-multiple--uniform-noise-multiple--200epochs",
    "B7": "sixteen36--rotation-multiple--uniform-noise-multiple--200epochs",
    "B8": "sixteen22--salt-and-pepper-noise-multiple--uniform-noise-multiple--200epochs",
    "B9": "sixteen27--uniform-noise-multiple--200epochs",
    "C1": "sixteen19--color--grayscale-contrast--high-pass--low-pass--rotation"
    "--phase-scrambling--salt-and-pepper-noise--200epochs",
    "C2": "sixteen18--color--grayscale-contrast--high-pass--low-pass--rotation"
    "--phase-scrambling--uniform-noise--200epochs",
}
"""The paper's names of its trained networks -> the authors' (figure 4)."""

TESTS: dict[str, tuple[str, str, str | None]] = {
    "colour": ("colour-png", "cr", "colour"),
    "greyscale": ("colour-png", "bw", "colour"),
    "contrast 5 %": ("contrast-png", "c05", "contrast"),
    "low-pass 7": ("lowpass", "7", "lowpass"),
    "high-pass 0.7": ("highpass", "0.7", "highpass"),
    "phase noise 90": ("phase-scrambling", "90", "phase-scrambling"),
    "rotation 90": ("rotation", "90", "rotation"),
    "salt-and-pepper 0.2": ("salt-and-pepper-png", "0.2", None),
    "uniform noise 0.35": ("noise-png", "0.35", "noise"),
}
"""{row of figure 4: the networks' experiment, the condition, the humans' experiment}."""

MATRIX: dict[str, tuple[float | None, ...]] = {
    "colour": (
        *(88.5, 96.7, 90.6, 50.0, 83.1, 86.1, 84.2, 90.8, 10.4, 8.1),
        *(97.9, 95.4, 72.3, 93.0, 91.1, 92.4, 94.9, 10.2, 11.2, 95.5, 95.9),
    ),
    "greyscale": (
        *(86.6, 87.8, 95.6, 94.1, 86.2, 93.2, 87.8, 90.5, 10.3, 9.8),
        *(94.0, 96.8, 96.2, 93.3, 95.7, 94.3, 90.9, 11.4, 12.8, 94.8, 95.1),
    ),
    "contrast 5 %": (
        *(47.6, 13.1, 14.2, 89.4, 19.6, 39.8, 17.1, 10.2, 28.6, 29.0),
        *(46.3, 51.7, 95.1, 50.5, 79.1, 59.4, 45.2, 34.6, 37.9, 90.9, 88.2),
    ),
    "low-pass 7": (
        *(48.5, 18.9, 16.1, 16.4, 78.4, 11.9, 16.0, 9.8, 6.9, 6.6),
        *(16.0, 18.6, 14.4, 87.2, 20.5, 13.8, 13.5, 7.1, 9.3, 74.7, 74.9),
    ),
    "high-pass 0.7": (
        *(49.8, 21.1, 24.7, 29.9, 11.7, 92.6, 27.7, 8.3, 10.4, 20.6),
        *(25.1, 22.8, 29.2, 25.0, 94.3, 27.5, 28.3, 18.9, 19.8, 91.4, 90.7),
    ),
    "phase noise 90": (
        *(57.4, 23.3, 28.3, 31.2, 27.0, 46.6, 81.4, 24.4, 7.4, 8.9),
        *(30.8, 31.4, 30.6, 31.4, 43.4, 87.4, 24.1, 7.8, 7.6, 82.9, 82.6),
    ),
    "rotation 90": (
        *(78.5, 36.5, 43.3, 39.9, 31.8, 40.4, 37.7, 89.0, 8.5, 8.0),
        *(38.5, 41.9, 40.3, 35.2, 40.1, 40.5, 89.0, 8.3, 8.8, 80.1, 80.5),
    ),
    "salt-and-pepper 0.2": (
        *(None, 6.1, 6.4, 5.8, 7.9, 6.2, 6.2, 6.4, 79.4, 6.2),
        *(6.2, 6.1, 6.3, 5.4, 5.8, 5.7, 6.2, 89.6, 6.2, 78.6, 13.6),
    ),
    "uniform noise 0.35": (
        *(45.6, 6.2, 7.3, 6.9, 9.0, 7.3, 6.2, 6.0, 10.2, 80.3),
        *(84.6, 83.3, 85.0, 84.6, 83.7, 82.5, 83.8, 85.4, 89.8, 11.0, 71.5),
    ),
}
"""Accuracy in %, humans first, then A1 to A9, B1 to B9, C1, C2 (figure 4)."""

KEPT: dict[str, tuple[str, ...] | None] = {
    "colour": ("bw",),
    "contrast": ("c50", "c30", "c15", "c10", "c05"),
    "cue-conflict": None,
    "edge": None,
    "eidolonI": tuple(f"{reach}-10-10" for reach in (2, 4, 8, 16, 32)),
    "eidolonII": tuple(f"{reach}-3-10" for reach in (2, 4, 8, 16)),
    "eidolonIII": tuple(f"{reach}-0-10" for reach in (2, 4, 8)),
    "false-colour": ("false",),
    "high-pass": ("3", "1.5", "1", "0.7"),
    "low-pass": ("1", "3", "5", "7", "10"),
    "phase-scrambling": ("30", "60", "90", "120"),
    "power-equalisation": ("pow",),
    "rotation": ("90", "180", "270"),
    "silhouette": None,
    "sketch": None,
    "stylized": None,
    "uniform-noise": ("0.03", "0.05", "0.1", "0.2", "0.35"),
}
"""Conditions that model-vs-human keeps: neither undistorted, nor those under 20 % for humans."""

AGREEMENT: dict[str, tuple[float, float, float, float]] = {
    "colour": (0.887, 0.0007, 0.883, 0.415),
    "contrast": (0.661, 0.0081, 0.780, 0.437),
    "cue-conflict": (0.776, 0.0116, 0.765, 0.331),
    "edge": (0.871, 0.0204, 0.839, 0.318),
    "eidolonI": (0.608, 0.0089, 0.783, 0.386),
    "eidolonII": (0.583, 0.0040, 0.788, 0.454),
    "eidolonIII": (0.639, 0.0110, 0.779, 0.460),
    "false-colour": (0.874, 0.0033, 0.876, 0.444),
    "high-pass": (0.629, 0.0150, 0.765, 0.440),
    "low-pass": (0.661, 0.0017, 0.791, 0.469),
    "phase-scrambling": (0.688, 0.0008, 0.798, 0.447),
    "power-equalisation": (0.759, 0.0026, 0.820, 0.511),
    "rotation": (0.830, 0.0010, 0.843, 0.439),
    "silhouette": (0.753, 0.0085, 0.803, 0.476),
    "sketch": (0.916, 0.0036, 0.900, 0.370),
    "stylized": (0.471, 0.0085, 0.750, 0.501),
    "uniform-noise": (0.683, 0.0019, 0.782, 0.434),
}
"""Of humans: accuracy, squared accuracy difference, observed consistency, kappa (2106.07411)."""
