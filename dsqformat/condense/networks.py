"""Networks that look at pictures for us: made here, brought along, of timm, or from a file."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pickle import UnpicklingError  # what torch raises for a file that is not only weights
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional

from dsqformat.errors import ModelError

NETWORK_NAMES: Final = ("small-resnet", "resnet18")
TIMM_PREFIX: Final = "timm:"
# What torch and the makers of networks raise where pictures are too small or of a wrong size.
_MISFITS: Final = (AssertionError, IndexError, RuntimeError, TypeError, ValueError)
# Under these names training scripts put the weights beside other things.
_NESTED: Final = ("state_dict", "model_state_dict", "model", "network", "net")


class _Residual(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al. 2016, the basic block)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        inner = functional.relu(self.norm1(self.conv1(values)))
        return functional.relu(self.norm2(self.conv2(inner)) + self.shortcut(values))


class ResNet(nn.Module):
    """A residual network whose last layer is linear, on the mean of the last feature map.

    Args:
        channels: of the pictures.
        classes: number of outputs.
        widths: channels of each stage; every stage after the first halves the side.
        blocks: residual blocks of each stage.
        stem_stride: of the first convolution; 2 makes everything four times cheaper.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        widths: tuple[int, ...],
        blocks: int,
        stem_stride: int,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, widths[0], 3, stem_stride, 1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        )
        stages = []
        before = widths[0]
        for number, width in enumerate(widths):
            strides = [1 if number == 0 else 2] + [1] * (blocks - 1)
            inputs = [before] + [width] * (blocks - 1)
            stages.append(
                nn.Sequential(
                    *(_Residual(i, width, s) for i, s in zip(inputs, strides, strict=True))
                )
            )
            before = width
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(before, classes)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return logits (n, classes) of pictures (n, channels, height, width)."""
        # mean, not adaptive pooling: the backward of the latter is not deterministic on CUDA.
        hidden: torch.Tensor = self.stages(self.stem(values)).mean((2, 3))
        logits: torch.Tensor = self.head(hidden)
        return logits


def small_resnet(channels: int, classes: int) -> ResNet:
    """Return a ResNet of one block per stage for 32x32 pictures, made for short runs on a CPU.

    About 175,000 parameters and 3 million multiplications per picture.
    """
    return ResNet(channels, classes, (16, 32, 64), blocks=1, stem_stride=2)


def resnet18_cifar(channels: int, classes: int) -> ResNet:
    """Return ResNet-18 in the form for small pictures: a 3x3 stem of stride 1, no pooling.

    11.2 million parameters; the network of all four papers' CIFAR tables.
    """
    return ResNet(channels, classes, (64, 128, 256, 512), blocks=2, stem_stride=1)


def build_network(
    name: str, channels: int, classes: int, size: tuple[int, int] | None = None
) -> nn.Module:
    """Return a new network; its weights come from torch's generator.

    Args:
        name: one of NETWORK_NAMES, or "timm:" and the name of a model of timm.
        channels: of the pictures.
        classes: number of outputs.
        size: height and width of the pictures, for networks that are made for one size; None:
            that of the pictures the network was published with.

    Raises:
        ModelError: there is no network of this name, or it cannot take pictures of this size.
        ImportError: timm is asked for and not installed.
    """
    if name == "small-resnet":
        return small_resnet(channels, classes)
    if name == "resnet18":
        return resnet18_cifar(channels, classes)
    if name.startswith(TIMM_PREFIX):
        return _timm_network(name.removeprefix(TIMM_PREFIX), channels, classes, size)
    raise ModelError(
        f"network {name!r}: expected one of {', '.join(NETWORK_NAMES)}, timm:NAME, "
        "or a torch module of your own"
    )


@contextmanager
def fitting(what: str, size: tuple[int, int]) -> Iterator[None]:
    """Turn whatever a network raises at pictures of a size into a line that names both.

    Args:
        what: the network.
        size: height and width of the pictures.

    Raises:
        ModelError: in place of the network's own error.
    """
    try:
        yield
    except _MISFITS as error:
        first = (str(error).splitlines() or [""])[0][:160] or type(error).__name__
        raise ModelError(
            f"{what} cannot take pictures of {size[0]}x{size[1]}: {first} (choose another network, "
            "or read the pictures at another size)"
        ) from error


def _timm_network(
    name: str, channels: int, classes: int, size: tuple[int, int] | None
) -> nn.Module:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ImportError(
            f"network timm:{name} needs timm: pip install 'dsqformat[build]' timm"
        ) from error
    if not timm.is_model(name):
        raise ModelError(f"timm has no model {name!r}; `timm.list_models()` names those there are")
    options: dict[str, Any] = {"in_chans": channels, "num_classes": classes}
    if size is None:
        network: nn.Module = timm.create_model(name, pretrained=False, **options)
        return network
    # Those that cut a picture into a fixed number of tokens are made for its size.
    if getattr(timm.get_pretrained_cfg(name), "fixed_input_size", False):
        options["img_size"] = size
    with fitting(f"network timm:{name}", size):
        network = timm.create_model(name, pretrained=False, **options)
        with torch.no_grad():
            network.eval()(torch.zeros(1, channels, *size))
    return network.train()


def save_weights(network: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write the weights of a network so that `load_weights` reads them."""
    torch.save({name: v.detach().cpu() for name, v in network.state_dict().items()}, path)


def load_weights(network: nn.Module, path: str | os.PathLike[str]) -> None:
    """Fill a network with the weights of a file, which is read as data, never as code.

    Args:
        network: changed in place.
        path: what `torch.save` wrote of a state dict, alone or under "state_dict", "model" or
            "network".

    Raises:
        ModelError: the file is no set of weights, or not of this network.
        OSError: the file cannot be read.
    """
    weights = read_weights(path)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        # torch lists every name; the first line with one says enough.
        lines = [line.strip() for line in str(error).splitlines()]
        raise ModelError(
            f"{os.fspath(path)}: not weights of this {type(network).__name__}: "
            f"{' '.join(lines[1:2])[:200]} (choose the network it was made with)"
        ) from error


def read_weights(
    path: str | os.PathLike[str], data: bytes | None = None
) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint by name; see `load_weights` and `read_tensors`."""
    content = read_tensors(path, data)
    for name in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items()
    ):
        raise ModelError(
            f"{os.fspath(path)}: expected weights by name; save them with "
            "torch.save(network.state_dict(), path)"
        )
    # DistributedDataParallel puts the network into a "module".
    return {name.removeprefix("module."): value for name, value in content.items()}


def read_tensors(path: str | os.PathLike[str], data: bytes | None = None) -> Any:
    """Return what `torch.save` wrote, if it is tensors and plain containers only.

    Args:
        path: of the file.
        data: its bytes, where they have been read already.

    Raises:
        ModelError: it is something else, which would have to be run to be read.
        OSError: the file cannot be read.
    """
    try:
        file = path if data is None else io.BytesIO(data)
        return torch.load(file, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise ModelError(
            f"{os.fspath(path)}: not a file of tensors alone (torch.load with weights_only=True "
            "refuses it); save tensors or a state dict without other objects"
        ) from error
