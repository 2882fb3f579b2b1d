"""Put what `make figures` measured into the README: bytes and decode speed by codec.

Reads docs/bench/tiles.csv and pictures.csv, which `dsq bench codec --csv` wrote.
"""

import csv
from pathlib import Path

import numpy as np

DOCS = Path(__file__).resolve().parent
BEGIN, END = "<!-- codec-table:begin -->", "<!-- codec-table:end -->"
# Of each set of pictures the fidelity to compare at, in dB.
TARGETS = {"tiles": 30.0, "pictures": 31.0}
LOSSY = (
    ("DSQ block, 1 layer", "**DSQ block, one layer**"),
    ("DSQ block, 2 layers", "**DSQ block, two layers**"),
    ("WebP, method 6", "WebP, method 6"),
    ("JPEG XL, effort 7", "JPEG XL, effort 7"),
    ("AVIF 4:4:4, speed 6", "AVIF 4:4:4, speed 6"),
    ("JPEG 4:2:0", "JPEG 4:2:0, optimised"),
)
LOSSLESS = (
    ("DSQ affine, rans, 1 layer", "**DSQ lossless**"),
    ("JPEG XL lossless, effort 7", "JPEG XL lossless, effort 7"),
    ("WebP lossless", "WebP lossless"),
    ("PNG", "PNG"),
)
SIZES = {"tiles": 3072, "pictures": 150528}

Point = dict[str, str]


def main() -> None:
    """Replace what stands between the two marks."""
    points: list[Point] = []
    for name in TARGETS:
        with (DOCS / "bench" / f"{name}.csv").open(encoding="utf-8") as file:
            points += csv.DictReader(file)
    counts = {
        name: next(p["sample_count"] for p in points if p["set_name"] == name) for name in TARGETS
    }
    head = [f"| | {int(counts['tiles']):,} of 32×32 | | {int(counts['pictures']):,} of 224×224 | |"]
    head += ["|---|---:|---:|---:|---:|", "| | B/sample | decoded/s | B/sample | decoded/s |"]
    rows = ["| *at equal PSNR:* | *30 dB* | | *31 dB* | |"]
    rows += [row(label, [at_target(points, s, codec) for s in TARGETS]) for codec, label in LOSSY]
    rows += ["| *exact:* | | | | |"]
    rows += [row(label, [lossless(points, s, codec) for s in TARGETS]) for codec, label in LOSSLESS]
    rows += [f"| uint8 | {SIZES['tiles']:,} | | {SIZES['pictures']:,} | |"]
    readme = DOCS.parent / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    table = "\n".join(head + rows)
    readme.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}", encoding="utf-8")


def of_codec(points: list[Point], set_name: str, codec: str) -> list[Point]:
    """Return the points of a codec, whole datasets only, by PSNR."""
    whole = [p for p in points if p["set_name"] == set_name and p["codec"] == codec]
    whole = [p for p in whole if p["layers"] == p["prefix"]]
    return sorted(whole, key=lambda p: float(p["psnr_db"]))


def at_target(points: list[Point], set_name: str, codec: str) -> tuple[float, float]:
    """Return bytes and decode speed at the fidelity of a set, bytes interpolated in their log."""
    own = of_codec(points, set_name, codec)
    psnr_db = [float(p["psnr_db"]) for p in own]
    nbytes = np.exp(
        np.interp(TARGETS[set_name], psnr_db, [np.log(float(p["nbytes"])) for p in own])
    )
    return float(nbytes), float(np.interp(TARGETS[set_name], psnr_db, [speed(p) for p in own]))


def lossless(points: list[Point], set_name: str, codec: str) -> tuple[float, float]:
    """Return bytes and decode speed of a codec that keeps every value."""
    best = of_codec(points, set_name, codec)[-1]
    return float(best["nbytes"]), speed(best)


def speed(point: Point) -> float:
    """Return samples decoded per second of CPU time on one core."""
    return float(point["decode_per_s"] or "nan")


def row(label: str, cells: list[tuple[float, float]]) -> str:
    """Return a row of the table; speeds to two digits, they are no more certain."""
    parts = [f"{nbytes:,.0f} | {float(f'{per_s:.2g}'):,.0f}" for nbytes, per_s in cells]
    return f"| {label} | {' | '.join(parts)} |"


if __name__ == "__main__":
    main()
