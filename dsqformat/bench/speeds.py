"""Speed at equal fidelity: what one core decodes and encodes per second, taking turns."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from dsqformat.bench.curves import NAN
from dsqformat.bench.dsq_codec import DsqSetting, PackedDataset, pack, read
from dsqformat.bench.fidelity import measure_fidelity
from dsqformat.bench.picture_codecs import FAMILIES, PictureCodec
from dsqformat.bench.picture_sets import PictureSet
from dsqformat.bench.points import DSQ, Point, Points
from dsqformat.bench.settings import (
    DEFAULT_BLOCK_LAYERS,
    DEFAULT_PLAN,
    ENCODE_TARGET_DB,
    SPEED_TARGETS_DB,
    Scale,
    block_codec,
    block_setting,
    pixel_setting,
)
from dsqformat.bench.timing import Job, Timing, take_turns

OnProgress = Callable[[str, int, int | None], None]
# Codes of pixels are timed at these widths, in rans.
PIXEL_BIT_WIDTHS = (2, 4, 8)


@dataclass(frozen=True)
class SpeedRow:
    """One codec at the setting that just reaches a fidelity.

    Attributes:
        set_name: of the pictures.
        target_db: the fidelity; NaN for codes of pixels and lossless files.
        point: setting, bytes and fidelity, with the best speeds.
        decode: samples per second.
        encode: likewise; None where it was not timed.
    """

    set_name: str
    target_db: float
    point: Point
    decode: Timing
    encode: Timing | None = None


@dataclass(frozen=True)
class _Entry:
    """What is timed: a point and its jobs, each with its number of samples."""

    target_db: float
    point: Point
    decode: tuple[Job, int]
    encode: tuple[Job, int] | None


def measure_speeds(
    each: PictureSet,
    points: Points,
    codecs: tuple[PictureCodec, ...],
    scale: Scale,
    on_progress: OnProgress,
) -> list[SpeedRow]:
    """Time all codecs at the settings that reach the same fidelities.

    Args:
        each: the pictures.
        points: measured before; they tell which setting reaches a fidelity.
        codecs: picture codecs that can be used.
        scale: how much is measured.
        on_progress: called with stage, jobs done, jobs in all.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="dsq-bench-")))
        entries = _picture_entries(each, points, codecs, scale)
        entries += _dsq_entries(each, points, scale, folder)
        decoders = {str(number): entry.decode for number, entry in enumerate(entries)}
        encoders = {str(n): e.encode for n, e in enumerate(entries) if e.encode is not None}
        rounds = scale.rounds, max(1, scale.rounds // 2)
        jobs = len(decoders) * rounds[0] + len(encoders) * rounds[1]
        done = 0

        def on_job() -> None:
            nonlocal done
            done += 1
            on_progress(f"{each.name}: speed", done, jobs)

        decode = take_turns(decoders, rounds[0], on_job=on_job)
        encode = take_turns(encoders, rounds[1], on_job=on_job)
        return [
            SpeedRow(
                each.name,
                entry.target_db,
                _with_speed(entry.point, decode[str(number)], encode.get(str(number))),
                decode[str(number)],
                encode.get(str(number)),
            )
            for number, entry in enumerate(entries)
        ]


def _with_speed(point: Point, decode: Timing, encode: Timing | None) -> Point:
    return replace(
        point,
        decode_per_s=decode.best,
        encode_per_s=encode.best if encode is not None else point.encode_per_s,
        rounds=decode.rounds,
    )


# Picture codecs --------------------------------------------------------------------------------


def _picture_entries(
    each: PictureSet, points: Points, codecs: tuple[PictureCodec, ...], scale: Scale
) -> list[_Entry]:
    some = each.pictures[: scale.timed_samples[each.name]]
    entries = []
    for target in SPEED_TARGETS_DB[each.name]:
        for codec in codecs:
            quality = level_reaching(points.of(codec.name), target)
            if codec.lossless or codec.palette or codec.family not in FAMILIES or quality is None:
                continue
            entries.append(_picture_entry(each, some, points, codec, quality, target))
    lossless = [codec for codec in codecs if codec.lossless]
    return entries + [_picture_entry(each, some, points, c, None, NAN) for c in lossless]


def _picture_entry(
    each: PictureSet,
    some: NDArray[np.uint8],
    points: Points,
    codec: PictureCodec,
    quality: int | None,
    target_db: float,
) -> _Entry:
    files = [codec.encode(picture, quality) for picture in some]
    if quality is None:
        point = points.of(codec.name)[0]
    else:
        # Whether it reaches the target is known of the whole set; this file is as good as exact.
        nbytes, psnr_db, ssim = between(points.of(codec.name), quality)
        point = Point(
            each.name, len(each), codec.family, codec.name, f"quality {quality}", quality,
            nbytes, psnr_db, ssim,
        )  # fmt: skip
    return _Entry(
        target_db,
        point,
        (lambda: [codec.decode(data) for data in files], len(files)),
        (lambda: [codec.encode(picture, quality) for picture in some], len(some))
        if target_db == ENCODE_TARGET_DB
        else None,
    )


def level_reaching(points: list[Point], target_db: float) -> int | None:
    """Return the coarsest whole level (quality, qp) that reaches a PSNR, or None.

    Args:
        points: of one codec, measured at some levels.
        target_db: between the least and the greatest PSNR measured.
    """
    finite = [p for p in points if not p.lossless]
    psnrs, levels = [p.psnr_db for p in finite], [p.level for p in finite]
    if not psnrs or not psnrs[0] <= target_db <= psnrs[-1]:
        return None
    level = float(np.interp(target_db, psnrs, levels))
    # Qualities rise with the PSNR, qp falls.
    return math.ceil(level) if levels[-1] >= levels[0] else math.floor(level)


def between(points: list[Point], level: float) -> tuple[float, float, float]:
    """Return bytes per sample, PSNR and SSIM at a level between measured ones.

    Args:
        points: of one codec.
        level: within the levels of the points.
    """
    rising = sorted((p for p in points if not p.lossless), key=lambda p: p.level)
    levels = [p.level for p in rising]
    nbytes = math.exp(float(np.interp(level, levels, [math.log(p.nbytes) for p in rising])))
    psnr_db = float(np.interp(level, levels, [p.psnr_db for p in rising]))
    return nbytes, psnr_db, float(np.interp(level, levels, [p.ssim for p in rising]))


# DSQ -------------------------------------------------------------------------------------------


def _dsq_entries(each: PictureSet, points: Points, scale: Scale, folder: Path) -> list[_Entry]:
    timed: list[tuple[DsqSetting, float]] = []
    for target in SPEED_TARGETS_DB[each.name]:
        for layers in (1, DEFAULT_BLOCK_LAYERS):
            qp = level_reaching(points.of(block_codec(layers)), target)
            if qp is not None:
                timed.append((block_setting(qp, layers), target))
    if timed:
        pixels = [pixel_setting("affine", bits, "rans") for bits in PIXEL_BIT_WIDTHS]
        pixels.append(pixel_setting("affine", 8, "rans", DEFAULT_PLAN))
        pixels.append(pixel_setting("patch", 2, "rans"))
        timed += [(setting, NAN) for setting in pixels]
    return [_dsq_entry(each, setting, target, scale, folder) for setting, target in timed]


def _dsq_entry(
    each: PictureSet, setting: DsqSetting, target_db: float, scale: Scale, folder: Path
) -> _Entry:
    dataset = pack(each.pictures, setting, folder / f"{len(list(folder.iterdir()))}")
    few = scale.ssim_samples[each.name]
    fidelity = measure_fidelity(each.pictures, read(dataset.path), few)
    point = Point(
        set_name=each.name,
        sample_count=len(each),
        family=DSQ,
        codec=setting.codec,
        setting=setting.setting,
        level=setting.level,
        nbytes=dataset.nbytes / len(each),
        psnr_db=fidelity.psnr_db,
        ssim=fidelity.ssim,
        encode_per_s=len(each) / dataset.cpu_s,
        quantizer=setting.spec.quantizer,
        coding=setting.coding,
        layers=setting.layers,
        prefix=setting.layers,
    )
    return _Entry(target_db, point, (_reading(dataset), len(each)), None)


def _reading(dataset: PackedDataset) -> Job:
    return lambda: read(dataset.path)


def find_speed(rows: list[SpeedRow], set_name: str, codec: str, target_db: float) -> float:
    """Return the samples a codec decodes per second at a fidelity; NaN if not measured."""
    for row in rows:
        if (row.set_name, row.point.codec, row.target_db) == (set_name, codec, target_db):
            return row.decode.best
    return NAN


def fastest_of(rows: list[SpeedRow], set_name: str, family: str, target_db: float) -> float:
    """Return the decoding speed of the fastest codec of a family at a fidelity; NaN if none.

    The fastest, because nobody who cares for speed would choose another.
    """
    speeds = [
        row.decode.best
        for row in rows
        if (row.set_name, row.point.family, row.target_db) == (set_name, family, target_db)
    ]
    return max(speeds, default=NAN)


def pixel_decode_mb_per_s(rows: list[SpeedRow], sample_nbytes: int) -> dict[str, float]:
    """Return megabytes of samples decoded per second from codes of pixels, by row and setting."""
    return {
        f"{row.point.codec}, {row.point.setting}": row.decode.best * sample_nbytes / 1e6
        for row in rows
        if row.point.family == DSQ and math.isnan(row.target_db)
    }
