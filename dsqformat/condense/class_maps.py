"""GradCAM++ maps of classes, and the importance of patches they give (Zhou et al. 2023, 6.2)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from dsqformat.commands.progress import OnProgress
from dsqformat.condense.pictures import PictureSet
from dsqformat.condense.proxy import Proxy, evaluating, first_pictures
from dsqformat.condense.reproducibility import DEFAULT_THREADS, reproducible
from dsqformat.errors import ModelError
from dsqformat.quantize.mask import patch_grid
from dsqformat.select.patch_importance import patch_means

Alpha = Literal["paper", "compat_cubed"]


def patch_scores(
    proxy: Proxy,
    pictures: PictureSet,
    patch: int,
    *,
    target: Literal["label", "argmax"] = "label",
    alpha: Alpha = "paper",
    layer: str | None = None,
    batch_size: int = 64,
    threads: int | None = DEFAULT_THREADS,
    progress: OnProgress | None = None,
) -> NDArray[np.float32]:
    """Return how much each patch of each picture speaks for its class (Zhou, Eq. 28 and 29).

    The map of a picture is scaled up bilinearly to its size; a patch scores its mean.

    Args:
        proxy: trained, used in evaluation mode.
        pictures: with labels, unless `target` is "argmax".
        patch: side of a patch at the size of the pictures; edge patches may be smaller.
        target: the class that is asked about: the label, or the network's answer as in the
            published code.
        alpha: "paper": GradCAM++ as published. "compat_cubed": what the published code of DQ
            computes, because its library leaves the division out.
        layer: name of the module whose output is the feature map; None: the last that gives
            one of more than 1x1.
        batch_size: pictures of a forward and backward.
        threads: of one operation on the CPU; None: as torch is set.
        progress: called with a stage, samples done and samples in all.

    Returns:
        float32, shape (n, rows, columns), 0 or more. All 0 where nothing speaks for the class.

    Raises:
        ModelError: no such feature map, or a value is NaN or infinite.
        SourceError: no labels where they are needed, or no pictures.
    """
    if target not in ("label", "argmax") or alpha not in ("paper", "compat_cubed"):
        raise ValueError(
            f"target={target!r}, alpha={alpha!r}: expected label or argmax, paper or compat_cubed"
        )
    labels = proxy.known_labels(pictures) if target == "label" else None
    example = first_pictures(pictures)
    name = find_map_layer(proxy, example) if layer is None else f"network.{layer}"
    height, width = example.shape[1:3]
    scores = np.empty((len(pictures), *patch_grid(height, width, patch)), "f4")
    done = 0
    with reproducible(0, threads), evaluating(proxy):
        for batch in pictures.batches(batch_size):
            rows = slice(done, done + len(batch))
            classes = None if labels is None else torch.from_numpy(labels[rows]).to(proxy.device)
            maps = class_maps(proxy, proxy.tensor(batch), classes, name, alpha)
            scores[rows] = patch_means(_scaled_up(maps, height, width), patch)
            _check_finite(scores[rows], done)
            done += len(batch)
            if progress is not None:
                progress("class maps", done, len(pictures))
    return scores


def class_maps(
    proxy: Proxy,
    values: torch.Tensor,
    classes: torch.Tensor | None,
    layer: str,
    alpha: Alpha = "paper",
) -> torch.Tensor:
    """Return the GradCAM++ map of each picture for its class.

    With feature maps A_k and g = d score / d A: alpha = g^2 / (2 g^2 + (sum A_k) g^3), 0 where g
    is; the weight of map k is the sum of alpha ReLU(g); the map is ReLU(sum of weights x A_k).

    Args:
        proxy: in evaluation mode.
        values: pictures of [0, 1], shape (n, channels, height, width).
        classes: int64, shape (n,); None: the network's answers.
        layer: name of the module inside the proxy whose output A is.
        alpha: see `patch_scores`.

    Returns:
        Shape (n, height of A, width of A).

    Raises:
        ModelError: the module is missing or gives no feature map.
    """
    with _kept_output(proxy, layer) as kept:
        logits = proxy(values.detach().requires_grad_())
    if len(kept) != 1 or kept[0].ndim != 4:
        raise ModelError(
            f"layer {layer.removeprefix('network.')!r} gives no single feature map (n, channels, "
            "height, width); name another with layer="
        )
    chosen = logits.argmax(1) if classes is None else classes
    score = logits.gather(1, chosen.unsqueeze(1)).sum()
    maps, gradient = kept[0].detach(), torch.autograd.grad(score, kept[0])[0]
    return functional.relu((_weights(maps, gradient, alpha)[..., None, None] * maps).sum(1))


def find_map_layer(proxy: Proxy, example: NDArray[Any]) -> str:
    """Return the name of the module that finishes last with a feature map of more than 1x1.

    A feature map has the proportions of the pictures, and nothing after it works on tokens: of
    attention and of channels that come last, gradients per channel and place mean something else.

    Args:
        proxy: the network.
        example: pictures (n, height, width, channels).

    Raises:
        ModelError: no module gives one.
    """
    found: list[str] = []
    size = example.shape[1:3]

    def note(name: str, module: nn.Module, output: Any) -> None:
        if not isinstance(output, torch.Tensor):
            return
        # Not classes derived from these: LayerNorm2d of timm works on feature maps.
        if type(module) in (nn.Linear, nn.LayerNorm) and output.ndim > 2:
            found.clear()
        elif output.ndim == 4 and _is_map(output.shape[2:], size):
            found.append(name)

    handles = [
        module.register_forward_hook(lambda m, _i, output, name=name: note(name, m, output))
        for name, module in proxy.named_modules()
    ]
    try:
        with evaluating(proxy), torch.no_grad():
            proxy(proxy.tensor(example))
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise ModelError(
            f"network {type(proxy.network).__name__}: no module gives a feature map of more than "
            "1x1 near its end, as networks on tokens never do; use importance 'sobel', 'variance' "
            "or 'random', or a convolutional network"
        )
    return found[-1]


def _is_map(shape: torch.Size, size: tuple[int, ...]) -> bool:
    """Return whether this is a grid of more than one place over a picture of a size."""
    (rows, columns), (height, width) = shape, size
    # Strides round either side up or down by less than two places.
    alike = abs(rows * width - columns * height) < 2 * max(height, width)
    return rows * columns > 1 and rows <= height and columns <= width and alike


def _weights(maps: torch.Tensor, gradient: torch.Tensor, alpha: Alpha) -> torch.Tensor:
    positive = functional.relu(gradient)
    if alpha == "compat_cubed":
        return (positive**3).sum((2, 3))
    # g^2 and g^3 share a factor g^2, which would underflow where gradients are small.
    bottom = 2 + maps.sum((2, 3), keepdim=True) * gradient
    # ReLU(g) is 0 where g is, so that alpha matters only elsewhere.
    return torch.where(bottom != 0, positive / bottom, torch.zeros_like(bottom)).sum((2, 3))


@contextmanager
def _kept_output(proxy: Proxy, layer: str) -> Iterator[list[torch.Tensor]]:
    kept: list[torch.Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        kept.append(output)
        # What follows may overwrite it in place.
        return output.clone()

    try:
        handle = proxy.get_submodule(layer).register_forward_hook(keep)
    except AttributeError as error:
        raise ModelError(
            f"layer {layer.removeprefix('network.')!r}: the network has none of this name"
        ) from error
    try:
        yield kept
    finally:
        handle.remove()


def _scaled_up(maps: torch.Tensor, height: int, width: int) -> NDArray[np.float32]:
    scaled = functional.interpolate(
        maps.unsqueeze(1).float(), size=(height, width), mode="bilinear", align_corners=False
    )
    found: NDArray[np.float32] = scaled[:, 0].cpu().numpy()
    return found


def _check_finite(scores: NDArray[np.float32], first: int) -> None:
    finite = np.isfinite(scores).all(axis=(1, 2))
    if not finite.all():
        raise ModelError(
            f"sample {first + int(finite.argmin())}: its class map is NaN or infinite; look at its "
            "values and at the weights of the network"
        )
