"""Quantization of batches of arrays as the refinement of tensors sees it."""

from __future__ import annotations

import torch

from dsqformat.condense.refinement import FakeQuantizer
from dsqformat.condense.round_trips import RoundTrip


def through_arrays(round_trip: RoundTrip) -> FakeQuantizer:
    """Return quantization and back on tensors (n, channels, height, width), without a gradient.

    Args:
        round_trip: on arrays (n, height, width, channels).
    """

    def quantize(values: torch.Tensor) -> torch.Tensor:
        batch = values.detach().permute(0, 2, 3, 1).contiguous().cpu().numpy()
        back = torch.from_numpy(round_trip(batch)).permute(0, 3, 1, 2)
        return back.to(values.device)

    return quantize
