"""The report a person reads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from dsqformat.bench.bars import Verdict
from dsqformat.bench.figures import (
    BEST,
    MEASURES,
    Figures,
    places,
    prefix_rows,
    ratio_name,
)
from dsqformat.bench.picture_codecs import FAMILIES
from dsqformat.bench.points import DSQ, Measure, Point
from dsqformat.bench.results import SetResult
from dsqformat.bench.settings import MAX_BLOCK_LAYERS, PIXEL_QUANTIZERS, block_codec, pixel_codec

_WORDS = {"psnr_db": "PSNR", "ssim": "mean SSIM"}


def print_result(console: Console, result: SetResult, figures: Figures) -> None:
    """Print the tables of one set."""
    console.rule(f"[bold]{result.name}[/]: {result.title}", align="left")
    console.print(
        f"{result.sample_count:,} samples of {result.sample_nbytes:,} bytes as uint8; "
        f"SSIM of {result.ssim_samples:,} of them"
    )
    if result.caution:
        console.print(f"[bold]Caution[/]: {result.caution}.")
    for measure in MEASURES:
        _print_bytes(console, result, measure)
        _print_ratios(console, result, figures, measure)
    _print_layer_costs(console, figures)
    _print_prefixes(console, result)
    _print_pixel_codes(console, result)
    _print_lossless(console, result)
    _print_speeds(console, result)
    _print_conditions(console, result)


# Bytes -----------------------------------------------------------------------------------------


def _print_bytes(console: Console, result: SetResult, measure: Measure) -> None:
    where = places(result.name, measure)
    title = f"Bytes per sample at equal {_WORDS[measure]}"
    table = _table(title, ["codec", *(place for place, _ in where)])
    points = result.points
    names = [*points.picture_codecs(), *(n for n in points.codecs(DSQ) if ", first " not in n)]
    for name in names:
        values = [points.curve(name, measure).nbytes_at(target) for _, target in where]
        if not all(map(math.isnan, values)):
            table.add_row(name, *(_nbytes(value) for value in values))
    _show(console, table)


def _print_ratios(console: Console, result: SetResult, figures: Figures, measure: Measure) -> None:
    where = [place for place, _ in places(result.name, measure)]
    title = f"Bytes of DSQ divided by those of picture codecs, at equal {_WORDS[measure]}"
    table = _table(title, ["ratio", *where])
    for layers in range(1, MAX_BLOCK_LAYERS + 1):
        for rival in (BEST, *FAMILIES):
            name = ratio_name(layers, rival)
            values = [figures.get((name, place), math.nan) for place in where]
            if not all(map(math.isnan, values)):
                style = "bold" if rival == BEST else None
                table.add_row(name, *(_number(value, 3) for value in values), style=style)
    _show(console, table)


def _print_layer_costs(console: Console, figures: Figures) -> None:
    places_of = [place for name, place in figures if name == "cost of 2 layers"]
    table = _table("What layers cost: further bytes at equal PSNR", ["blocks", *places_of])
    for layers in range(2, MAX_BLOCK_LAYERS + 1):
        values = [figures[f"cost of {layers} layers", place] for place in places_of]
        if not all(map(math.isnan, values)):
            cells = ("–" if math.isnan(v) else f"{100 * v:+.1f} %" for v in values)
            table.add_row(f"{layers} layers", *cells)
    _show(console, table)


def _print_prefixes(console: Console, result: SetResult) -> None:
    table = _table(
        "Prefixes of layered datasets beside a single layer of the same bytes",
        ["dataset", "layers read", "bytes", "PSNR", "SSIM", "one layer", "difference"],
    )
    pairs = [(block_codec(n), block_codec(1)) for n in range(2, MAX_BLOCK_LAYERS + 1)]
    pairs += [
        (pixel_codec(quantizer, "rans", 3), pixel_codec(quantizer, "rans"))
        for quantizer in PIXEL_QUANTIZERS
    ]
    for layered, single in pairs:
        for row in prefix_rows(result.points, layered, single):
            point = row.point
            table.add_row(
                f"{layered}, {point.setting}",
                f"{point.prefix} of {point.layers}",
                _nbytes(point.nbytes),
                f"{point.psnr_db:.2f}",
                f"{point.ssim:.3f}",
                _number(row.single_db, 2),
                "–" if math.isnan(row.below_db) else f"{-row.below_db:+.2f} dB",
            )
    _show(console, table)


def _print_pixel_codes(console: Console, result: SetResult) -> None:
    table = _table(
        "Codes of pixels in one layer: bytes per sample, everything counted",
        ["quantizer", "bits", "PSNR", "SSIM", "packed", "zstd 19", "rans", "/ zstd", "/ packed"],
    )
    points = result.points
    for quantizer in PIXEL_QUANTIZERS:
        by_coding = {
            coding: {p.level: p for p in points.of(pixel_codec(quantizer, coding))}
            for coding in ("packed", "zstd", "rans")
        }
        for bits in sorted(set.intersection(*(set(found) for found in by_coding.values()))):
            packed, zstd, rans = (by_coding[coding][bits] for coding in by_coding)
            table.add_row(
                quantizer,
                f"{bits:g}",
                "lossless" if rans.lossless else f"{rans.psnr_db:.2f}",
                f"{rans.ssim:.3f}",
                *(_nbytes(p.nbytes) for p in (packed, zstd, rans)),
                f"{rans.nbytes / zstd.nbytes:.3f}",
                f"{rans.nbytes / packed.nbytes:.3f}",
            )
    _show(console, table)


def _print_lossless(console: Console, result: SetResult) -> None:
    rows = [p for p in result.points.all if p.lossless and p.whole]
    best = min((p.nbytes for p in rows if p.family != DSQ), default=math.nan)
    table = _table("Lossless: bytes per sample", ["codec", "bytes", "/ best picture codec"])
    for point in sorted(rows, key=lambda p: p.nbytes):
        style = "bold" if point.family == DSQ else None
        table.add_row(
            point.codec, _nbytes(point.nbytes), _number(point.nbytes / best, 3), style=style
        )
    _show(console, table)


# Speed -----------------------------------------------------------------------------------------


def _print_speeds(console: Console, result: SetResult) -> None:
    table = _table(
        "One core, CPU time, samples per second: best (median) of rounds taken in turns",
        ["at", "codec", "setting", "PSNR", "bytes", "decode", "/ fastest JPEG", "encode"],
    )
    for row in result.speeds:
        jpeg = max(
            (
                r.decode.best
                for r in result.speeds
                if r.target_db == row.target_db and r.point.family == "JPEG"
            ),
            default=math.nan,
        )
        point = row.point
        encode = "–" if math.isnan(point.encode_per_s) else f"{_speed(point.encode_per_s)}"
        if row.encode is not None:
            encode += f" ({_speed(row.encode.median)})"
        table.add_row(
            "" if math.isnan(row.target_db) else f"{row.target_db:g} dB",
            point.codec,
            point.setting,
            "lossless" if point.lossless else f"{point.psnr_db:.2f}",
            _nbytes(point.nbytes),
            f"{_speed(row.decode.best)} ({_speed(row.decode.median)})",
            _number(row.decode.best / jpeg, 2),
            encode,
            style="bold" if point.family == DSQ else None,
        )
    _show(console, table)


def _print_conditions(console: Console, result: SetResult) -> None:
    for codec, packing in result.packing.items():
        console.print(
            f"Packing, {codec}: {packing.fixed_s:.1f} s once to fit models, then "
            f"{_speed(packing.per_s)} samples/s (this dataset, all in all: "
            f"{_speed(packing.whole_per_s)} samples/s), CPU time on one core."
        )
    if result.threads is not None:
        console.print(
            f"Decoding with two threads: {result.threads.speedup:.2f} times as fast as with one, "
            f"by the clock (about {result.threads.idle_cores:.1f} cores were free)."
        )
    for row, per_s in result.plain_per_s.items():
        console.print(f"Decoding in NumPy, no kernels, {row}: {_speed(per_s)} samples/s.")
    if result.memory is not None:
        memory = result.memory
        console.print(
            f"Memory while packing: {memory.peak_nbytes[0] / 1e6:.0f} MB for "
            f"{memory.sample_counts[0]:,} samples, {memory.peak_nbytes[1] / 1e6:.0f} MB for "
            f"{memory.sample_counts[1]:,} ({memory.added_nbytes / 1e6:.0f} MB more)."
        )


# Bars ------------------------------------------------------------------------------------------


def print_verdicts(console: Console, verdicts: Sequence[Verdict]) -> None:
    """Print every bar and whether it holds."""
    table = _table("Bars", ["figure", "measured", "bar", "stretch", ""])
    for verdict in verdicts:
        bar = verdict.bar
        stretch = "" if bar.stretch is None else f"{bar.sense} {bar.stretch:g}"
        measured = "not measured" if math.isnan(verdict.value) else f"{verdict.value:,.4g}"
        says = "[green]met[/]" if verdict.met else "[bold red]MISSED[/]"
        if verdict.stretch_met:
            says = "[green]met, stretch too[/]"
        table.add_row(verdict.name, measured, f"{bar.sense} {bar.limit:g}", stretch, says)
    _show(console, table)


# Cells -----------------------------------------------------------------------------------------


def _table(title: str, header: Iterable[str]) -> Table:
    table = Table(title=title, pad_edge=False, box=None)
    for number, name in enumerate(header):
        text = number == 0 or name in ("codec", "setting", "layers read", "")
        table.add_column(name, justify="left" if text else "right", no_wrap=True)
    return table


def _show(console: Console, table: Table) -> None:
    if table.row_count:
        console.print()
        # A title of the table itself would be broken where the table is narrower.
        title, table.title = table.title, None
        console.print(f"[bold]{title}[/]")
        console.print(table)


def _number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _nbytes(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def _speed(per_s: float) -> str:
    return f"{per_s:,.0f}" if per_s >= 10 else f"{per_s:.1f}"


def point_json(point: Point) -> dict[str, object]:
    """Return a point for a JSON object: null for NaN, and for the PSNR of lossless files."""
    numbers = {
        name: (value if math.isfinite(value) else None) if isinstance(value, float) else value
        for name, value in vars(point).items()
    }
    return {**numbers, "lossless": point.lossless}
