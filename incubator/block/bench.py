"""Bytes and speed of the block codec against picture codecs, at equal pooled PSNR.

    python bench.py --data FOLDER [--sets tiles,big] [--layers 1,2,3] [--speed] [--cache FILE]

PSNR is 10 log10(255^2 / mean squared error over all values of all pictures), RGB, 8 bits; every
codec at one constant setting. Everything is counted for DSQ: streams, their lengths, the model,
an index of one byte per sample, and the container. Bytes at a fidelity are interpolated in their
logarithm. Times are CPU times of one thread, interleaved, the least of some rounds.
"""

import argparse
import io
import json
import time
from pathlib import Path

import numpy as np
from PIL import Image

try:
    import pillow_jxl  # registers JPEG XL
except ImportError:
    pillow_jxl = None

from dsqformat.coding.block import decode
from dsqformat.coding.block import Options, encode, fit

TARGETS = {"tiles": (28, 30, 33, 36), "big": (28, 31, 35)}
QPS = {"tiles": (114, 105, 94, 84, 80), "big": (117, 110, 102, 94, 86)}
CODECS = {
    "JPEG 4:2:0": (
        "JPEG",
        dict(optimize=True, progressive=True, subsampling=2),
        (50, 70, 85, 92, 96),
    ),
    "JPEG 4:4:4": (
        "JPEG",
        dict(optimize=True, progressive=True, subsampling=0),
        (50, 70, 85, 92, 96),
    ),
    "WebP m6": ("WEBP", dict(method=6), (20, 30, 55, 75, 86, 92, 96)),
    "AVIF 4:2:0": ("AVIF", dict(speed=6, subsampling="4:2:0"), (35, 50, 65, 75, 85, 92)),
    "AVIF 4:4:4": ("AVIF", dict(speed=6, subsampling="4:4:4"), (35, 50, 65, 75, 85, 92)),
    "JPEG XL e7": ("JXL", dict(effort=7), (30, 50, 70, 85, 92, 95)),
}


def load(folder, kind):
    """Return disjoint 32x32 crops at short side 96, or 224x224 centre crops at short side 256."""
    out = []
    short = 96 if kind == "tiles" else 256
    for path in sorted(Path(folder).glob("*.JPEG")):
        picture = Image.open(path).convert("RGB")
        scale = short / min(picture.size)
        size = [max(short, round(side * scale)) for side in picture.size]
        array = np.asarray(picture.resize(size, Image.Resampling.LANCZOS))
        if kind == "big":
            y, x = (array.shape[0] - 224) // 2, (array.shape[1] - 224) // 2
            out.append(np.ascontiguousarray(array[y : y + 224, x : x + 224]))
            continue
        for y in range(0, array.shape[0] - 31, 32):
            for x in range(0, array.shape[1] - 31, 32):
                out.append(np.ascontiguousarray(array[y : y + 32, x : x + 32]))
    return out


def save(picture, name, quality):
    """Return the bytes of one picture in an ordinary format."""
    kind, options, _ = CODECS[name]
    out = io.BytesIO()
    Image.fromarray(picture).save(out, kind, quality=quality, **options)
    return out.getvalue()


def read(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def psnr(pictures, decoded):
    error = sum(((a.astype("i4") - b) ** 2).sum() for a, b in zip(pictures, decoded, strict=True))
    return 10 * np.log10(65025 / max(1e-9, error / sum(p.size for p in pictures)))


def counted(model, encoded, layers, n):
    """Return all bytes per sample: container, model, index, lengths and streams."""
    streams = sum(len(s) for layer in encoded.layers[:layers] for s in layer)
    lengths = 4 * sum(len(layer) for layer in encoded.layers[:layers])
    chunks = -(-(streams + lengths) // (256 << 10))
    container = (
        64 + 40 * 3 + 4 + 160 + chunks * (24 + 20 * (1 + layers) + streams // (16384 * chunks) * 4)
    )
    return (streams + lengths + len(model.to_bytes()) + container + n) / n


def at(points, target):
    """Return bytes at a fidelity from (bytes, PSNR) points, or NaN outside."""
    points = sorted(points, key=lambda p: p[1])
    db = [p[1] for p in points]
    if not db[0] <= target <= db[-1]:
        return float("nan")
    return float(np.exp(np.interp(target, db, np.log([p[0] for p in points]))))


def ordinary(pictures, kind, cache):
    rows = {}
    for name, (codec, _, qualities) in CODECS.items():
        if codec == "JXL" and pillow_jxl is None:
            continue
        key = f"{kind}/{name}/{len(pictures)}"
        if key not in cache:
            points = []
            for quality in qualities:
                files = [save(p, name, quality) for p in pictures]
                points.append((sum(map(len, files)) / len(files), psnr(pictures, map(read, files))))
                print("   ", key, quality, *[f"{v:.2f}" for v in points[-1]], flush=True)
                if points[-1][1] > TARGETS[kind][-1]:
                    break
            cache[key] = points
        rows[name] = cache[key]
    return rows


def ours(pictures, kind, layers, sizes=None):
    points, prefixes = [], []
    for qp in QPS[kind]:
        start = time.process_time()
        model = fit(pictures, qp, Options(layers=layers, sizes=sizes))
        middle = time.process_time()
        per_stream = 32 if kind == "tiles" else 1
        encoded = encode(model, pictures, qp, samples_per_stream=per_stream)
        end = time.process_time()
        for count in range(1, layers + 1):
            decoded = decode(
                model, encoded.layers[:count], encoded.shapes, encoded.qps,
                samples_per_stream=per_stream,
            )  # fmt: skip
            point = counted(model, encoded, count, len(pictures)), psnr(pictures, decoded)
            (points if count == layers else prefixes).append(point)
        print(
            f"    {layers} layer(s), qp {qp}: {points[-1][0]:.1f} B, {points[-1][1]:.2f} dB, model "
            f"{len(model.to_bytes())} B, fit {middle - start:.1f} s, "
            f"encode {len(pictures) / (end - middle):.0f}/s", flush=True,
        )  # fmt: skip
    return points, prefixes


def speed(pictures, kind, targets, rounds):
    """Print decode times at some fidelities beside Pillow's JPEG, WebP and AVIF of the same."""
    for target in targets:
        files = {}
        for name in ("JPEG 4:2:0", "JPEG 4:4:4", "WebP m6", "AVIF 4:2:0"):
            some = pictures[:: max(1, len(pictures) // 60)]
            low, high = 1, 100
            while high - low > 1:  # the lowest quality that reaches the target
                mid = (low + high) // 2
                good = psnr(some, [read(save(p, name, mid)) for p in some]) >= target
                low, high = (low, mid) if good else (mid, high)
            count = len(pictures) if "JPEG" in name else len(some)
            files[name] = [save(p, name, high) for p in pictures[:count]]
        low, high = 20, 150
        while high - low > 1:
            mid = (low + high) // 2
            model = fit(some, mid, Options(passes=1))
            encoded = encode(model, some, mid)
            good = psnr(some, decode(model, encoded.layers, encoded.shapes, encoded.qps)) >= target
            low, high = (mid, high) if good else (low, mid)
        model = fit(pictures, low)
        per_stream = 32 if kind == "tiles" else 1
        encoded = encode(model, pictures, low, samples_per_stream=per_stream)
        args = model, encoded.layers, encoded.shapes, encoded.qps
        jobs = {
            name: (lambda data=data: [read(f) for f in data], len(data))
            for name, data in files.items()
        }
        for output in ("uint8", "float32"):
            jobs["DSQ " + output] = (
                lambda output=output: decode(*args, samples_per_stream=per_stream, output=output),
                len(pictures),
            )
        best = {name: 1e9 for name in jobs}
        for _ in range(rounds):
            for name, (job, count) in jobs.items():
                start = time.process_time()
                job()
                best[name] = min(best[name], (time.process_time() - start) / count)
        base = best["JPEG 4:2:0"]
        text = ", ".join(f"{name} {1e6 * t:.1f} us ({base / t:.2f}x)" for name, t in best.items())
        print(f"  {kind} {target} dB, qp {low}: {text}", flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--data", required=True)
    ap.add_argument("--sets", default="tiles,big")
    ap.add_argument("--layers", default="1,2,3")
    ap.add_argument("--sizes", default="", help="smallest,largest block")
    ap.add_argument("--speed", action="store_true")
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--cache", default="bench_cache.json")
    a = ap.parse_args()
    cache_file = Path(a.cache)
    cache = json.loads(cache_file.read_text()) if cache_file.exists() else {}
    for kind in a.sets.split(","):
        pictures = load(a.data, kind)
        print(f"{kind}: {len(pictures)} pictures of {pictures[0].shape}")
        if a.speed:
            speed(pictures, kind, (30, 33) if kind == "tiles" else (30,), a.rounds)
            continue
        others = ordinary(pictures, kind, cache)
        cache_file.write_text(json.dumps(cache, indent=1))
        for name, points in others.items():
            print(f"  {name:16}", *[f"{at(points, t):8.1f}" for t in TARGETS[kind]])
        single = None
        for layers in map(int, a.layers.split(",")):
            sizes = tuple(map(int, a.sizes.split(","))) if a.sizes else None
            points, prefixes = ours(pictures, kind, layers, sizes)
            single = single or points
            values = [at(points, t) for t in TARGETS[kind]]
            print(f"  DSQ {layers} layer(s)   ", *[f"{v:8.1f}" for v in values])
            for family in ("", "WebP", "AVIF", "JPEG XL", "JPEG 4"):
                best = [
                    np.nanmin(
                        [np.inf] + [at(p, t) for n, p in others.items() if n.startswith(family)]
                    )
                    for t in TARGETS[kind]
                ]
                ratios = " ".join(
                    f"{v / b:8.3f}" if np.isfinite(b) else "       -"
                    for v, b in zip(values, best, strict=True)
                )
                print(f"    / {family or 'best':14}{ratios}")
            if layers > 1:
                cost = [v / at(single, t) - 1 for v, t in zip(values, TARGETS[kind], strict=True)]
                print("    cost of layers  ", *[f"{100 * c:+7.1f}%" for c in cost])
                lines = [f"{b:.0f} B {db:.2f} dB" for b, db in prefixes]
                print("    prefixes:", "; ".join(lines))


if __name__ == "__main__":
    main()
