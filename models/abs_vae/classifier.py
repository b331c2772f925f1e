"""ABS as a classifier: logits with exact gradients, reconstructions, confidences, certificates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from ..elu_network import binarised
from ..errors import UsageError
from ..wrappers import check_images
from .certificate import certificates
from .confidence import modified_softmax
from .decoder import PIXELS
from .inference import Explanation, Inference
from .network import IMAGE_SHAPE
from .public_algorithm import PublicAlgorithm


@dataclass(frozen=True, eq=False)
class AnalysisBySynthesis:
    """Ten generative models; the class that explains an image at the lowest cost is its label.

    Attributes:
        inference: finds the explanations.
        class_scales: (C,), what each class's cost is multiplied by.
        scale: logits are -scale * class scale * cost / 784.
        floor: of the modified softmax.
        binary: binarise images at 0.5 first (Binary ABS).
    """

    inference: Inference | PublicAlgorithm
    class_scales: Tensor
    scale: float
    floor: float
    binary: bool = False

    @property
    def bounds(self) -> tuple[float, float]:
        """Every value of an image lies in [0, 1]."""
        return (0.0, 1.0)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return IMAGE_SHAPE

    @property
    def classes(self) -> int:
        """K."""
        return len(self.class_scales)

    def __call__(self, images: Tensor, /) -> Tensor:
        """Logits (N, K) of images (N, 1, 28, 28) float32; `UsageError` for any other shape or type.

        Gradients by the images are exact where the search has found the minimum: by the envelope
        theorem the latents' change does not matter, and that of a cost is 2 (x - G(z)). One
        inference gives those of all classes. With `binary` they pass the threshold as if it were
        not there (1802.00420). They can't be differentiated again.
        """
        check_images(images, IMAGE_SHAPE)
        return cast("Tensor", _Logits.apply(images, self))

    def explain(self, images: Tensor) -> Explanation:
        """Costs in nats, latents and reconstructions of every class, for images (N, 1, 28, 28)."""
        check_images(images, IMAGE_SHAPE)
        return self.inference.explain(self._seen(images))

    def reconstruct(self, images: Tensor, /) -> tuple[Tensor, Tensor]:
        """Logits (N, K) and each class's best reconstruction (N, K, 1, 28, 28)."""
        found = self.explain(images)
        return self._logits(found), found.images.unflatten(2, IMAGE_SHAPE)

    def confidences(self, images: Tensor) -> Tensor:
        """Probabilities (N, K) by the modified softmax; about 1 / K where no class explains."""
        return modified_softmax(self(images), self.floor)

    def certificates(self, images: Tensor, labels: Tensor) -> Tensor:
        """Estimated lower bounds (N,) on the L2 distance to an adversarial; see `certificate`.

        Raises:
            UsageError: the model binarises (a change of length 0 may flip a pixel at 0.5), or its
                inference does not refine all classes.
        """
        check_images(images, IMAGE_SHAPE)
        if self.binary:
            raise UsageError("the certificate holds for ABS; Binary ABS has none: its input jumps")
        if not isinstance(self.inference, Inference) or self.inference.margin is not None:
            raise UsageError("the certificate needs every class refined; wanted inference=full")
        return certificates(self.inference, images.flatten(1), labels, self.class_scales)

    def _seen(self, images: Tensor) -> Tensor:
        flat = images.detach().reshape(len(images), PIXELS)
        return binarised(flat) if self.binary else flat

    def _logits(self, found: Explanation) -> Tensor:
        return found.costs * self.class_scales * (-self.scale / PIXELS)


class _Logits(torch.autograd.Function):
    """Logits by inference; on the way back the envelope theorem."""

    @staticmethod
    def forward(context: Any, images: Tensor, model: AnalysisBySynthesis) -> Tensor:
        seen = model._seen(images)
        found = model.inference.explain(seen)
        context.save_for_backward(seen, found.images)
        context.model = model
        return model._logits(found)

    @staticmethod
    def backward(context: Any, *changes: Tensor) -> tuple[Tensor, None]:
        seen, pictures = context.saved_tensors
        model = context.model
        weights = changes[0] * model.class_scales * (-2 * model.scale / PIXELS)  # (N, K)
        total = weights.sum(1, keepdim=True) * seen
        gradient = total - torch.bmm(weights.unsqueeze(1), pictures).squeeze(1)
        return gradient.view(-1, *IMAGE_SHAPE), None
