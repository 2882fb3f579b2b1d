"""Per-sample gradients of two batches, made in pieces and reduced to pairs at once.

All engines run in evaluation mode, so that samples do not influence each other: the gradient of
the summed loss in something that belongs to one sample is that sample's gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from dsqformat.condense.gradient_pairs import GradientPairs, rank_one_pairs
from dsqformat.condense.last_layer import residuals
from dsqformat.condense.proxy import Proxy
from dsqformat.errors import ModelError

_OTHER_ENGINE: Final = "use engine='full', which takes any network"
# Turned into float64 at a time: few for the cache, enough to be worth the calls.
_SUMMED_VALUES: Final = 1 << 17


def full_pairs(
    proxy: Proxy, one: torch.Tensor, two: torch.Tensor, labels: torch.Tensor, chunk: int
) -> GradientPairs:
    """Return the pairs of the gradients in all parameters, by vmap over grad.

    Args:
        proxy: in evaluation mode.
        one: pictures (n, channels, height, width).
        two: the same after quantization.
        labels: int64, shape (n,).
        chunk: samples whose gradients are in memory together, twice.
    """
    parameters = {name: value.detach() for name, value in proxy.named_parameters()}
    buffers = {name: value.detach() for name, value in proxy.named_buffers()}

    def loss(
        weights: dict[str, torch.Tensor], picture: torch.Tensor, label: torch.Tensor
    ) -> torch.Tensor:
        logits = functional_call(proxy, {**weights, **buffers}, (picture.unsqueeze(0),))
        return functional.cross_entropy(logits, label.unsqueeze(0), reduction="sum")

    per_sample = vmap(grad(loss), in_dims=(None, 0, 0))
    sums = []
    for begin in range(0, len(one), chunk):
        rows = slice(begin, begin + chunk)
        # Fused attention would go sample by sample under vmap; its plain form is batched.
        with sdpa_kernel(SDPBackend.MATH):
            first = per_sample(parameters, one[rows], labels[rows])
            second = per_sample(parameters, two[rows], labels[rows])
        # A parameter at a time, and gone: sums over all of a large network would need it twice.
        parts = [tensor_sums(first.pop(name), second.pop(name)) for name in parameters]
        sums.append(torch.stack(parts).sum(0))
    return _as_pairs(torch.cat(sums, 1))


def input_pairs(
    proxy: Proxy, one: torch.Tensor, two: torch.Tensor, labels: torch.Tensor
) -> GradientPairs:
    """Return the pairs of the gradients in the pictures themselves (the caption of Yu's Fig. 3)."""
    gradients = []
    for pictures in (one, two):
        inputs = pictures.detach().requires_grad_()
        loss = functional.cross_entropy(proxy(inputs), labels, reduction="sum")
        gradients.append(torch.autograd.grad(loss, inputs)[0])
    return _as_pairs(tensor_sums(gradients[0], gradients[1]))


def last_layer_pairs(
    proxy: Proxy, one: torch.Tensor, two: torch.Tensor, labels: torch.Tensor
) -> GradientPairs:
    """Return the pairs of the gradients in the last layer, in closed form, without a backward."""
    classes = labels.cpu().numpy()
    factors = []
    with torch.no_grad():
        for pictures in (one, two):
            hidden, logits = proxy.outputs(pictures)
            if proxy.head.bias is not None:
                hidden = torch.cat([hidden, torch.ones_like(hidden[:, :1])], 1)
            factors += [residuals(logits.double().cpu().numpy(), classes)]
            factors += [hidden.double().cpu().numpy()]
    return rank_one_pairs(*factors)


def layer_pairs(
    proxy: Proxy,
    one: torch.Tensor,
    two: torch.Tensor,
    labels: torch.Tensor,
    names: Sequence[str],
    chunk: int,
) -> GradientPairs:
    """Return the pairs of the gradients in some layers, from one backward over the whole batch.

    The gradient of a layer in one sample follows from what entered it and from the gradient in
    what left it; it is made for `chunk` samples at a time.

    Args:
        proxy: in evaluation mode.
        one: pictures (n, channels, height, width).
        two: the same after quantization.
        labels: int64, shape (n,).
        names: of layers inside the proxy: linear, two-dimensional convolution or batch
            normalisation.
        chunk: samples whose gradients in one layer are in memory together, twice.

    Raises:
        ModelError: a layer is of another kind, is not used, or runs twice.
    """
    layers = [_known_layer(proxy, name) for name in names]
    first = _inputs_and_gradients(proxy, one, labels, names)
    second = _inputs_and_gradients(proxy, two, labels, names)
    total = torch.zeros(4, len(one), dtype=torch.float64, device=one.device)
    for number, layer in enumerate(layers):
        total += _layer_sums(layer, first[number], second[number], chunk)
    return _as_pairs(total)


def layer_names(proxy: Proxy) -> list[str]:
    """Return the names of all modules that have parameters of their own."""
    return [
        name
        for name, module in proxy.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    ]


def tensor_sums(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
    """Return dot, squares and square of the difference per row, float64, shape (4, n).

    Everything is summed in float64, differences too: gradients of nearly the same direction may
    differ in length by half, and of sums in float32 nothing would then be left of their angle.
    """
    one, two = one.flatten(1), two.flatten(1)
    step = max(1, _SUMMED_VALUES // max(1, len(one)))
    squares = torch.zeros(3, len(one), dtype=torch.float64, device=one.device)
    for begin in range(0, one.shape[1], step):
        first, second = (values[:, begin : begin + step].double() for values in (one, two))
        norms = [torch.linalg.vector_norm(values, dim=1) for values in (first, second)]
        norms.append(torch.linalg.vector_norm(first.sub_(second), dim=1))
        squares += torch.stack(norms).square()
    first, second, distance = squares
    return torch.stack([(first + second - distance) / 2, first, second, distance])


def _as_pairs(sums: torch.Tensor) -> GradientPairs:
    return GradientPairs(*sums.cpu().numpy())


def _known_layer(proxy: Proxy, name: str) -> nn.Module:
    modules: dict[str, nn.Module] = dict(proxy.named_modules())
    layer = modules.get(name)
    if layer is None:
        have = [n.removeprefix("network.") for n in layer_names(proxy)]
        raise ModelError(
            f"layer {name.removeprefix('network.')!r}: the network has none of this name; "
            f"it has {', '.join(have)[:300]}"
        )
    # Classes derived from these compute something else, such as an activation on top.
    known = type(layer) in (nn.Linear, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    if isinstance(layer, nn.Conv2d):
        known = known and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    if not known:
        raise ModelError(
            f"layer {name.removeprefix('network.')!r} is a {type(layer).__name__}; engine 'layers' "
            f"knows Linear, Conv2d with zeros around and BatchNorm; {_OTHER_ENGINE}"
        )
    return layer


_Pass = tuple[torch.Tensor, torch.Tensor]


def _inputs_and_gradients(
    proxy: Proxy, pictures: torch.Tensor, labels: torch.Tensor, names: Sequence[str]
) -> list[_Pass]:
    """Return what entered each layer, and the gradient of the loss in what left it."""
    seen: dict[str, list[_Pass]] = {name: [] for name in names}

    def hook(name: str) -> object:
        def keep(
            _module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
        ) -> torch.Tensor:
            seen[name].append((inputs[0].detach(), output))
            # An activation in place would otherwise overwrite what is asked about.
            return output.clone()

        return proxy.get_submodule(name).register_forward_hook(keep)

    handles = [hook(name) for name in names]
    try:
        logits = proxy(pictures.detach().requires_grad_())
    finally:
        for handle in handles:
            handle.remove()  # type: ignore[attr-defined]
    for name, calls in seen.items():
        if len(calls) != 1:
            raise ModelError(
                f"layer {name.removeprefix('network.')!r} runs {len(calls)} times; engine 'layers' "
                f"needs layers that run once; {_OTHER_ENGINE}"
            )
    loss = functional.cross_entropy(logits, labels, reduction="sum")
    gradients = torch.autograd.grad(loss, [seen[name][0][1] for name in names])
    return [(seen[name][0][0], d) for name, d in zip(names, gradients, strict=True)]


def _layer_sums(layer: nn.Module, one: _Pass, two: _Pass, chunk: int) -> torch.Tensor:
    if isinstance(layer, nn.Linear) and one[0].ndim == 2:
        return _linear_sums(layer, one, two)
    parts = []
    for begin in range(0, len(one[0]), chunk):
        rows = slice(begin, begin + chunk)
        first = _sample_gradients(layer, one[0][rows], one[1][rows])
        second = _sample_gradients(layer, two[0][rows], two[1][rows])
        sums = [tensor_sums(a, b) for a, b in zip(first, second, strict=True)]
        parts.append(torch.stack(sums).sum(0))
    return torch.cat(parts, 1)


def _linear_sums(layer: nn.Linear, one: _Pass, two: _Pass) -> torch.Tensor:
    """A linear layer on (n, features): (delta_1 . delta_2) (a_1 . a_2 + 1)."""
    inputs = [values for values, _ in (one, two)]
    if layer.bias is not None:
        inputs = [torch.cat([values, torch.ones_like(values[:, :1])], 1) for values in inputs]
    arrays = (one[1], inputs[0], two[1], inputs[1])
    pairs = rank_one_pairs(*(values.double().cpu().numpy() for values in arrays))
    rows = [pairs.dot, pairs.square_1, pairs.square_2, pairs.distance]
    return torch.stack([torch.from_numpy(row) for row in rows]).to(one[0].device)


def _sample_gradients(
    layer: nn.Module, values: torch.Tensor, delta: torch.Tensor
) -> list[torch.Tensor]:
    """Return the gradient of each sample in weight and bias, shape (n, ...)."""
    found: list[torch.Tensor] = []
    if isinstance(layer, nn.Conv2d):
        found.append(_convolution_gradients(layer, values, delta))
        spatial = delta.flatten(2)
    elif isinstance(layer, _BatchNorm):
        spatial = delta.flatten(2) if delta.ndim > 2 else delta.unsqueeze(2)
        if layer.weight is not None:
            shape = [1, -1] + [1] * (values.ndim - 2)
            mean, var = layer.running_mean, layer.running_var
            if mean is None or var is None:
                raise ModelError(
                    "a BatchNorm without running statistics mixes samples; give a network that "
                    "keeps them"
                )
            normal = (values - mean.view(shape)) / (var.view(shape) + layer.eps).sqrt()
            found.append((delta * normal).flatten(2).sum(2) if delta.ndim > 2 else delta * normal)
    else:
        # A linear layer on (n, ..., features): one product over all positions of a sample.
        values, delta = (v.reshape(len(v), -1, v.shape[-1]) for v in (values, delta))
        found.append(torch.bmm(delta.transpose(1, 2), values))
        spatial = delta.transpose(1, 2)
    if layer.bias is not None:
        found.append(spatial.sum(2))
    return found


def _convolution_gradients(
    layer: nn.Conv2d, values: torch.Tensor, delta: torch.Tensor
) -> torch.Tensor:
    """Return the gradient in the weights, shape (n * groups, ...), in an order of its own."""
    count, groups = len(values), layer.groups
    outputs = delta.permute(0, 2, 3, 1).reshape(count, -1, groups, delta.shape[1] // groups)
    columns = _windows(layer, values, delta.shape[2:]).reshape(
        count, outputs.shape[1], -1, groups, values.shape[1] // groups
    )
    if groups == 1:
        return torch.bmm(outputs.squeeze(2).transpose(1, 2), columns.flatten(2)).flatten(1)
    columns = columns.permute(0, 3, 1, 2, 4).flatten(3).flatten(0, 1)
    outputs = outputs.permute(0, 2, 3, 1).flatten(0, 1)
    return torch.bmm(outputs, columns).reshape(count, -1)


def _windows(layer: nn.Conv2d, values: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """Return what each output pixel saw: a view (n, height, width, kernel..., channels).

    Channels are last in memory, so that a row of a window is one run of it.
    """
    padding = layer.padding
    if isinstance(padding, str):
        raise ModelError(f"convolution with padding {padding!r}; {_OTHER_ENGINE}")
    down, across = padding
    frame = (0, 0, across, across, down, down)
    padded = functional.pad(values.permute(0, 2, 3, 1), frame).contiguous()
    sample, row, column, channel = padded.stride()
    (stride_y, stride_x), (step_y, step_x) = layer.stride, layer.dilation
    return padded.as_strided(
        (len(padded), *size, *layer.kernel_size, padded.shape[3]),
        (sample, row * stride_y, column * stride_x, row * step_y, column * step_x, channel),
    )
