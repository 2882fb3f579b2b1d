"""Moves pictures so that what quantization leaves of them still looks the same to a network.

Tran and Bae (2026), the refinement module: minimise ||f(x) - f(deq(Q(x_ft)))||^2 over x_ft by
gradient descent, before patches are grouped and coded. Rounding has no gradient, so that of the
identity stands for it (straight-through).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from dsqformat.commands.progress import OnProgress
from dsqformat.condense.proxy import Proxy, evaluating
from dsqformat.condense.reproducibility import DEFAULT_THREADS, reproducible
from dsqformat.errors import ModelError, SampleError

# Tensors (n, channels, height, width) in and out, differentiable or without any gradient; the
# latter is taken straight through.
FakeQuantizer = Callable[[torch.Tensor], torch.Tensor]
Features = Callable[[torch.Tensor], torch.Tensor]

PAPER_PATCH: Final = 5
PAPER_BITS: Final = 2


@dataclass(frozen=True)
class RefinementOptions:
    """How pictures are refined.

    Attributes:
        iterations: 0 or more; 500 in the paper for CIFAR, 2,000 for ImageNet subsets.
        learning_rate: of Adam, in units of the values; made for those of [0, 1].
        bounds: refined values stay within; None for distilled pictures that are normalised.
        batch_size: pictures at a time.
        threads: of one operation on the CPU; None: as torch is set.
    """

    iterations: int = 500
    learning_rate: float = 0.001
    bounds: tuple[float, float] | None = None
    batch_size: int = 64
    threads: int | None = DEFAULT_THREADS

    def __post_init__(self) -> None:
        if self.iterations < 0 or self.batch_size < 1 or not self.learning_rate > 0:
            raise ValueError(
                f"iterations={self.iterations}, batch_size={self.batch_size}, "
                f"learning_rate={self.learning_rate}: expected at least 0 and 1, and above 0"
            )


@dataclass(frozen=True)
class Refinement:
    """Refined pictures.

    Attributes:
        pictures: float32, the shape of the originals; to be quantized in their place.
        loss_before: float64, shape (n,), ||f(x) - f(deq(Q(x)))||^2.
        loss_after: float64, shape (n,), of the refined ones; never above `loss_before`.
    """

    pictures: NDArray[np.float32]
    loss_before: NDArray[np.float64]
    loss_after: NDArray[np.float64]


def refine_pictures(
    pictures: NDArray[Any],
    features: Proxy | nn.Module | Features,
    quantizer: FakeQuantizer | None = None,
    options: RefinementOptions | None = None,
    *,
    device: str = "cpu",
    progress: OnProgress | None = None,
) -> Refinement:
    """Refine pictures one by one; each keeps the best state it was in, its own to begin with.

    Args:
        pictures: uint8 (then [0, 1], and kept within) or floating point, finite,
            shape (n, height, width, channels).
        features: f: a proxy, of which the hidden features count; or any module or function of
            tensors (n, channels, height, width) that treats pictures separately.
        quantizer: Q and back; None: each 5x5 patch between its smallest and largest value at 2
            bits, as in the paper.
        options: None for the defaults.
        device: where to work; the network must be there.
        progress: called with a stage, iterations done and iterations in all.

    Raises:
        ModelError: a feature is NaN or infinite.
        SampleError: likewise a value.
    """
    options = options or RefinementOptions()
    bounds = options.bounds
    originals: NDArray[np.float32] = pictures.astype("f4")
    if pictures.dtype == np.uint8:
        originals, bounds = originals / np.float32(255), bounds or (0.0, 1.0)
    if pictures.ndim != 4:
        raise ValueError(f"pictures {pictures.shape}: expected (n, height, width, channels)")
    finite = np.isfinite(originals).all(axis=(1, 2, 3))
    if not finite.all():
        raise SampleError(f"sample {int(finite.argmin())}: a value is NaN or infinite")
    refined = originals.copy()
    before, after = np.zeros((2, len(pictures)))
    network = features if isinstance(features, nn.Module) else nn.Module()
    batches = range(0, len(pictures), options.batch_size)
    with reproducible(0, options.threads), evaluating(network), _frozen(network):
        for number, begin in enumerate(batches):
            rows = slice(begin, begin + options.batch_size)
            start = torch.from_numpy(originals[rows]).to(device).permute(0, 3, 1, 2)
            work = _Refining(
                start.contiguous(),
                features.hidden if isinstance(features, Proxy) else features,
                quantizer or patch_affine(PAPER_BITS, PAPER_PATCH),
                bounds,
                begin,
            )
            shift, total = number * options.iterations, len(batches) * options.iterations
            best, before[rows], after[rows] = work.run(options, progress, shift, total)
            refined[rows] = best.permute(0, 2, 3, 1).cpu().numpy()
    return Refinement(refined, before, after)


def patch_affine(bits: int, patch: int) -> FakeQuantizer:
    """Return quantization of each patch of each picture between its smallest and largest value.

    All channels of a patch share scale and offset; edge patches are smaller.

    Args:
        bits: 1 to 16.
        patch: side of a patch.
    """
    if not 1 <= bits <= 16 or patch < 1:
        raise ValueError(f"bits={bits}, patch={patch}: expected 1 to 16, and at least 1")
    top = (1 << bits) - 1

    @torch.no_grad()
    def quantize(values: torch.Tensor) -> torch.Tensor:
        count, channels, height, width = values.shape
        down, across = -height % patch, -width % patch
        # Repeating the last row and column changes no range.
        padded = functional.pad(values, (0, across, 0, down), "replicate")
        rows, columns = (height + down) // patch, (width + across) // patch
        cells = padded.reshape(count, channels, rows, patch, columns, patch)
        low = cells.amin((1, 3, 5), keepdim=True)
        scale = (cells.amax((1, 3, 5), keepdim=True) - low) / top
        steps = torch.where(scale > 0, scale, torch.ones_like(scale))
        codes = ((cells - low) / steps).round().clamp(0, top)
        back = (codes * scale + low).reshape(padded.shape)
        return back[:, :, :height, :width]

    return quantize


def straight_through(values: torch.Tensor, quantized: torch.Tensor) -> torch.Tensor:
    """Return `quantized` with the gradient of `values`."""
    through: torch.Tensor = _StraightThrough.apply(values, quantized)  # type: ignore[no-untyped-call]
    return through


class _Refining:
    """One batch on its way."""

    def __init__(
        self,
        start: torch.Tensor,
        features: Features,
        quantizer: FakeQuantizer,
        bounds: tuple[float, float] | None,
        first: int,
    ) -> None:
        self.start, self.features, self.quantizer = start, features, quantizer
        self.bounds, self.first = bounds, first
        with torch.no_grad():
            self.goal = features(start)

    def run(
        self, options: RefinementOptions, progress: OnProgress | None, done: int, total: int
    ) -> tuple[torch.Tensor, NDArray[np.float64], NDArray[np.float64]]:
        """Return the best pictures, and the losses before and after."""
        current = self.start.clone().requires_grad_()
        adam = torch.optim.Adam([current], options.learning_rate)
        best = self.start.clone()
        before = np.zeros(len(best))
        least = torch.full((len(best),), torch.inf, dtype=torch.float64, device=best.device)
        for step in range(options.iterations + 1):
            adam.zero_grad()
            loss = self._loss(current)
            found = loss.detach().double()
            if step == 0:
                before = found.cpu().numpy()
            better = found < least
            least = torch.where(better, found, least)
            best[better] = current.detach()[better]
            if step == options.iterations:
                break
            loss.sum().backward()  # type: ignore[no-untyped-call]
            adam.step()
            if self.bounds is not None:
                with torch.no_grad():
                    current.clamp_(*self.bounds)
            if progress is not None:
                progress("refining", done + step + 1, total)
        return best, before, least.cpu().numpy()

    def _loss(self, current: torch.Tensor) -> torch.Tensor:
        """Return ||f(x) - f(deq(Q(x_ft)))||^2 of each picture, shape (n,)."""
        quantized = self.quantizer(current)
        if not quantized.requires_grad:
            quantized = straight_through(current, quantized)
        loss = (self.features(quantized) - self.goal).flatten(1).square().sum(1)
        finite = torch.isfinite(loss.detach())
        if not bool(finite.all()):
            row = self.first + int((~finite).nonzero()[0])
            raise ModelError(
                f"sample {row}: features are NaN or infinite; use a smaller learning rate, or look "
                "at its values and at the weights of the network"
            )
        return loss


class _StraightThrough(torch.autograd.Function):
    """The value of the second, the gradient of the first."""

    @staticmethod
    def forward(_context: Any, _values: torch.Tensor, quantized: torch.Tensor) -> torch.Tensor:
        return quantized.clone()

    @staticmethod
    def backward(_context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient, None


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Ask for no gradients in the network's own parameters."""
    learning = [p for p in network.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
