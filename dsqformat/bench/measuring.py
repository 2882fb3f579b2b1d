"""Bytes and fidelity of every codec at every setting over one set of pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from dsqformat.bench.dsq_codec import DsqSetting, PackedDataset, packed, read
from dsqformat.bench.fidelity import Fidelity, measure_fidelity, squared_error
from dsqformat.bench.picture_codecs import PictureCodec
from dsqformat.bench.picture_sets import PictureSet
from dsqformat.bench.points import DSQ, Point
from dsqformat.bench.settings import (
    TARGETS_DB,
    TARGETS_SSIM,
    Scale,
    block_codec,
    dsq_settings,
    per_sample_setting,
)

OnProgress = Callable[[str, int, int | None], None]


def measure_picture_codecs(
    each: PictureSet, codecs: tuple[PictureCodec, ...], scale: Scale, on_progress: OnProgress
) -> Iterator[Point]:
    """Yield the points of picture codecs, lossless ones with a single point."""
    for number, codec in enumerate(codecs):
        for quality in scale.qualities(each.name, codec) or (None,):
            on_progress(f"{each.name}: picture codecs", number, len(codecs))
            point = _picture_point(each, codec, quality, scale)
            yield point
            if _beyond_targets(point):
                break
    on_progress(f"{each.name}: picture codecs", len(codecs), len(codecs))


def _picture_point(
    each: PictureSet, codec: PictureCodec, quality: int | None, scale: Scale
) -> Point:
    start = time.process_time()
    files = [codec.encode(picture, quality) for picture in each.pictures]
    middle = time.process_time()
    decoded = [codec.decode(data) for data in files]
    end = time.process_time()
    fidelity = measure_fidelity(each.pictures, decoded, scale.ssim_samples[each.name])
    noun = "colours" if codec.palette else "quality"
    return Point(
        set_name=each.name,
        sample_count=len(each),
        family=codec.family,
        codec=codec.name,
        setting="lossless" if quality is None else f"{noun} {quality}",
        level=0 if quality is None else quality,
        nbytes=sum(map(len, files)) / len(files),
        psnr_db=fidelity.psnr_db,
        ssim=fidelity.ssim,
        encode_per_s=_per_s(len(each), middle - start),
        decode_per_s=_per_s(len(each), end - middle),
    )


def _beyond_targets(point: Point) -> bool:
    """Tell whether finer qualities would say nothing about any target."""
    return (
        point.psnr_db > TARGETS_DB[point.set_name][-1]
        and point.ssim > TARGETS_SSIM[point.set_name][-1]
    )


def measure_dsq(each: PictureSet, scale: Scale, on_progress: OnProgress) -> Iterator[Point]:
    """Yield the points of DSQ: whole datasets, and prefixes of those in rans with layers."""
    known = _KnownFidelity(each.pictures, scale.ssim_samples[each.name])
    errors: dict[int, NDArray[np.int64]] = {}
    settings = dsq_settings(each.name, scale)
    for number, setting in enumerate(settings):
        on_progress(f"{each.name}: DSQ", number, len(settings))
        with packed(each.pictures, setting) as dataset:
            yield _dsq_point(each, setting, dataset, setting.layers, known)
            if setting.codec == block_codec(1):
                errors[int(setting.level)] = errors_of(each.pictures, read(dataset.path))
            if setting.coding == "rans":
                for layers in range(1, setting.layers):
                    yield _dsq_point(each, setting, dataset, layers, known)
    for target in TARGETS_DB[each.name]:
        qps = qps_reaching(errors, each.pictures[0].size, target)
        setting = per_sample_setting(qps.tolist(), target)
        with packed(each.pictures, setting) as dataset:
            yield _dsq_point(each, setting, dataset, 1, known)
    on_progress(f"{each.name}: DSQ", len(settings), len(settings))


def errors_of(pictures: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the sum of squared errors of each picture: int64, shape (n,)."""
    pairs = zip(pictures, decoded, strict=True)
    return np.array([squared_error(picture, back) for picture, back in pairs], "i8")


def qps_reaching(
    errors: Mapping[int, NDArray[np.int64]], value_count: int, target_db: float
) -> NDArray[np.int64]:
    """Return for each sample the qp at which it has a PSNR of its own, as near as qps allow.

    Args:
        errors: sums of squared errors of the samples, shape (n,), at some qps.
        value_count: of a sample.
        target_db: PSNR that each sample is to reach.

    Returns:
        int64, shape (n,), within the qps that were measured.
    """
    qps = sorted(errors)
    least = np.array([np.maximum(errors[qp], 1) for qp in qps])
    # What a coarser step gains by luck does not count: interpolation needs a falling PSNR.
    psnrs = np.minimum.accumulate(10 * np.log10(255.0**2 * value_count / least), axis=0)
    chosen = [np.interp(-target_db, -psnrs[:, n], qps) for n in range(psnrs.shape[1])]
    return np.floor(chosen).astype("i8")


def _dsq_point(
    each: PictureSet,
    setting: DsqSetting,
    dataset: PackedDataset,
    prefix: int,
    known: _KnownFidelity,
) -> Point:
    whole = prefix == setting.layers
    start = time.process_time()
    decoded = read(dataset.path, None if whole else prefix)
    decode_s = time.process_time() - start
    fidelity = known.of((setting.spec.quantizer, setting.level, prefix, setting.layers), decoded)
    return Point(
        set_name=each.name,
        sample_count=len(each),
        family=DSQ,
        codec=setting.codec if whole else f"{setting.codec}, first {prefix}",
        setting=setting.setting,
        level=setting.level,
        nbytes=dataset.prefix_nbytes(prefix),
        psnr_db=fidelity.psnr_db,
        ssim=fidelity.ssim,
        encode_per_s=_per_s(len(each), dataset.cpu_s),
        decode_per_s=_per_s(len(each), decode_s),
        quantizer=setting.spec.quantizer,
        coding=setting.coding,
        layers=setting.layers,
        prefix=prefix,
    )


def _per_s(count: int, seconds: float) -> float:
    return count / max(1e-9, seconds)


class _KnownFidelity:
    """Measures each decoded set once: codings are lossless, so most of them agree.

    Args:
        pictures: what was packed.
        ssim_samples: of so many the SSIM is taken.
    """

    def __init__(self, pictures: NDArray[np.uint8], ssim_samples: int) -> None:
        self._pictures, self._ssim_samples = pictures, ssim_samples
        self._last: dict[object, tuple[NDArray[np.uint8], Fidelity]] = {}

    def of(self, key: tuple[object, ...], decoded: NDArray[np.uint8]) -> Fidelity:
        """Return the fidelity of decoded pictures, from memory where they are the same again."""
        quantizer = key[0]
        last = self._last.get(key[:2])
        if last is not None and np.array_equal(last[0], decoded):
            return last[1]
        fidelity = measure_fidelity(self._pictures, decoded, self._ssim_samples)
        if quantizer != "block" and key[2] == key[3]:
            self._last[key[:2]] = decoded, fidelity
        return fidelity
