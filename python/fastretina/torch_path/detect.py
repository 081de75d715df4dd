"""Room detect in PyTorch: upsample, then nms. Fusing them is the compiled core's business."""

from __future__ import annotations

from typing import Any

import torch

from fastretina.torch_path.nms import nms
from fastretina.torch_path.upsample import upsample


def detect(
    difference: torch.Tensor, mask: torch.Tensor | None = None, **options: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """(h, w) float32 -> xy (n, 2) in pixels of the (4h, 4w) map and score (n,); options of :func:`nms`."""
    return nms(upsample(difference), mask, **options)
