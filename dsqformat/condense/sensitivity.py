"""How much quantization turns the gradient of each sample (Yu & Yu, section 4.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from dsqformat.commands.progress import OnProgress
from dsqformat.condense.gradient_engines import (
    full_pairs,
    input_pairs,
    last_layer_pairs,
    layer_names,
    layer_pairs,
)
from dsqformat.condense.gradient_pairs import GradientPairs, joined_pairs
from dsqformat.condense.pictures import PictureSet
from dsqformat.condense.proxy import Proxy, evaluating
from dsqformat.condense.proxy_training import Weights
from dsqformat.condense.reproducibility import DEFAULT_THREADS, reproducible
from dsqformat.condense.round_trips import RoundTrip
from dsqformat.errors import SourceError

Engine = Literal["full", "layers", "last_layer"]

ENGINES: Final = ("full", "layers", "last_layer")
# Gradients of one chunk of samples, of original and quantized pictures together.
_MEMORY_NBYTES: Final = 512 << 20
_MOST_AT_ONCE: Final = 64


def gradient_pairs(
    proxy: Proxy,
    pictures: PictureSet,
    degraded: RoundTrip | PictureSet,
    *,
    engine: Engine = "full",
    layers: Sequence[str] | None = None,
    wrt: Literal["parameters", "input"] = "parameters",
    batch_size: int = 64,
    memory_nbytes: int = _MEMORY_NBYTES,
    threads: int | None = DEFAULT_THREADS,
    progress: OnProgress | None = None,
) -> GradientPairs:
    """Compare the gradient of the loss at each picture with that at what quantization leaves.

    The loss is the cross-entropy of one sample; the network is in evaluation mode and sees no
    augmentation.

    Args:
        proxy: of an early checkpoint, say of 10 epochs: in a fully fitted network the residuals
            are noise.
        pictures: with labels below the number of classes.
        degraded: turns a batch into what a trainer would see, or a picture set that holds it
            (masked and reconstructed, decoded from a dataset) in the same order.
        engine: "full": all parameters, any network. "layers": chosen layers, from one backward
            per batch; two to four times faster even with all layers. "last_layer": closed form
            without a backward; a different ranking.
        layers: for engine "layers": their names; None: all that have parameters, which is the
            same as "full".
        wrt: "parameters" as in equations 8 and 9, or "input" as in the caption of Fig. 3, for
            which no engine is chosen.
        batch_size: pictures of a forward and backward.
        memory_nbytes: for the gradients of single samples.
        threads: of one operation on the CPU; None: as torch is set.
        progress: called with a stage, samples done and samples in all.

    Returns:
        Pairs of the n samples, in order; `cosine_distance()` of them is S.

    Raises:
        ModelError: labels do not fit the network, or a layer is not known.
        SourceError: no labels, or `degraded` has other pictures than `pictures`.
        ValueError: an option that does not exist.
    """
    labels = proxy.known_labels(pictures)
    compare = _engine(proxy, engine, layers, wrt, memory_nbytes)
    parts: list[GradientPairs] = []
    done = 0
    with reproducible(0, threads), evaluating(proxy):
        for batch, other in _both(pictures, degraded, batch_size):
            one, two = proxy.tensor(batch), proxy.tensor(other)
            classes = torch.from_numpy(labels[done : done + len(batch)]).to(proxy.device)
            parts.append(compare(one, two, classes))
            done += len(batch)
            if progress is not None:
                progress("sensitivity", done, len(labels))
    return joined_pairs(parts)


def sensitivity(
    proxy: Proxy,
    pictures: PictureSet,
    degraded: RoundTrip | PictureSet,
    *,
    checkpoints: Sequence[Weights] = (),
    **options: Any,
) -> NDArray[np.float64]:
    """Return S = 1 - cos(g_original, g_quantized) of each sample, averaged over checkpoints.

    Args:
        proxy: as for `gradient_pairs`.
        pictures: likewise.
        degraded: likewise.
        checkpoints: weights of the proxy (`TrainedProxy.checkpoints`) to average over; none: the
            weights it has. Its own weights are put back afterwards.
        options: those of `gradient_pairs`.

    Returns:
        float64, shape (n,), of [0, 2].

    Raises:
        ModelError: also where a gradient is NaN or infinite.
    """
    if not checkpoints:
        return gradient_pairs(proxy, pictures, degraded, **options).cosine_distance()
    own = {name: value.clone() for name, value in proxy.state_dict().items()}
    total: NDArray[np.float64] = np.zeros(len(pictures))
    try:
        for weights in checkpoints:
            proxy.load_state_dict(weights)
            total += gradient_pairs(proxy, pictures, degraded, **options).cosine_distance()
    finally:
        proxy.load_state_dict(own)
    return total / len(checkpoints)


_Compare = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], GradientPairs]


def _engine(
    proxy: Proxy, engine: Engine, layers: Sequence[str] | None, wrt: str, memory_nbytes: int
) -> _Compare:
    if engine not in ENGINES or wrt not in ("parameters", "input"):
        raise ValueError(
            f"engine={engine!r}, wrt={wrt!r}: expected one of {', '.join(ENGINES)}, and parameters "
            "or input"
        )
    if layers is not None and (engine != "layers" or wrt == "input"):
        raise ValueError("layers= goes with engine='layers' and gradients in the parameters")
    if wrt == "input":
        return lambda one, two, y: input_pairs(proxy, one, two, y)
    if engine == "last_layer":
        return lambda one, two, y: last_layer_pairs(proxy, one, two, y)
    if engine == "layers":
        # The network sits in the proxy under this name; users know it by itself.
        names = layer_names(proxy) if layers is None else [f"network.{name}" for name in layers]
        own = [_parameter_nbytes(proxy, name) for name in names if name in layer_names(proxy)]
        chunk = _chunk(max(own, default=1), memory_nbytes)
        return lambda one, two, y: layer_pairs(proxy, one, two, y, names, chunk)
    chunk = _chunk(sum(_parameter_nbytes(proxy, n) for n in layer_names(proxy)), memory_nbytes)
    return lambda one, two, y: full_pairs(proxy, one, two, y, chunk)


def _parameter_nbytes(proxy: Proxy, name: str) -> int:
    parameters = proxy.get_submodule(name).parameters(recurse=False)
    return sum(p.numel() * p.element_size() for p in parameters)


def _chunk(gradient_nbytes: int, memory_nbytes: int) -> int:
    return max(1, min(_MOST_AT_ONCE, memory_nbytes // (2 * max(1, gradient_nbytes))))


def _both(
    pictures: PictureSet, degraded: RoundTrip | PictureSet, batch_size: int
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield batches of original and degraded pictures."""
    if callable(degraded):
        for batch in pictures.batches(batch_size):
            yield batch, _same_shape(batch, degraded(batch))
        return
    if len(degraded) != len(pictures):
        raise SourceError(f"{len(degraded)} degraded pictures for {len(pictures)} pictures")
    for batch, other in zip(
        pictures.batches(batch_size), degraded.batches(batch_size), strict=True
    ):
        yield batch, _same_shape(batch, other)


def _same_shape(batch: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    if batch.shape != other.shape:
        raise SourceError(f"degraded pictures {other.shape} for pictures {batch.shape}")
    return other
