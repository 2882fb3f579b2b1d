"""What one would do otherwise: the same patches as PNG in WebDataset tars, over the same link."""

from __future__ import annotations

import io
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqclient.demo.photographs import Patches

_PER_TAR: Final = 1000
_SHUFFLE: Final = 512
_TIMEOUT_S: Final = 60.0


def encoded_nbytes(patches: NDArray[np.uint8], form: str, **options: Any) -> float:
    """Return the mean bytes of patches as pictures of a form Pillow knows."""
    return float(np.mean([len(_encoded(patch, form, **options)) for patch in patches]))


def nbytes_at(
    psnr_db: float, patches: NDArray[np.uint8], form: str, **options: Any
) -> tuple[float, float]:
    """Return mean bytes and PSNR at the lowest quality that is as near as asked for.

    Args:
        psnr_db: least 10 log10(255^2 / mean squared error over all values).
        patches: uint8, shape (n, height, width, 3).
        form: a lossy one that Pillow knows, with a `quality` of 1 to 100.
        options: further ones of the encoder.
    """
    from PIL import Image

    def fidelity(files: list[bytes]) -> float:
        decoded = np.stack([np.asarray(Image.open(io.BytesIO(f)).convert("RGB")) for f in files])
        return float(10 * np.log10(255**2 / np.mean((patches.astype("f4") - decoded) ** 2)))

    low, high = 0, 100
    while high - low > 1:
        middle = (low + high) // 2
        files = [_encoded(patch, form, quality=middle, **options) for patch in patches]
        low, high = (low, middle) if fidelity(files) >= psnr_db else (middle, high)
    files = [_encoded(patch, form, quality=high, **options) for patch in patches]
    return float(np.mean([len(file) for file in files])), fidelity(files)


def write_tars(folder: Path, patches: Patches, seed: int) -> list[str]:
    """Write PNG patches and labels as WebDataset tars, in a seeded order; returns their names."""
    import webdataset

    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(seed).permutation(len(patches.train))
    names = []
    for number, start in enumerate(range(0, len(order), _PER_TAR)):
        names.append(f"patches-{number:03d}.tar")
        # A whole number as time of change: the fraction would cost two blocks more per member.
        with webdataset.TarWriter(str(folder / names[-1]), mtime=1) as writer:
            for row in order[start : start + _PER_TAR].tolist():
                picture = _encoded(patches.train[row], "PNG", optimize=True)
                label = str(patches.train_label[row]).encode()
                writer.write({"__key__": f"{row:06d}", "png": picture, "cls": label})
    return names


def webdataset_batches(urls: list[str], batch_size: int, seed: int) -> Iterator[tuple[Any, Any]]:
    """Yield (pictures, labels) as WebDataset brings them, one worker process.

    Pictures are float32 tensors (n, 3, 32, 32) in [0, 1].
    """
    import webdataset
    from webdataset.gopen import gopen_schemes

    # WebDataset opens http through the curl program; urllib does without it.
    gopen_schemes["http"] = _open_url
    dataset = webdataset.WebDataset(
        urls, shardshuffle=False, handler=webdataset.reraise_exception, seed=seed
    )
    dataset = dataset.shuffle(_SHUFFLE, seed=seed).decode("torchrgb").to_tuple("png", "cls")
    loader = webdataset.WebLoader(dataset.batched(batch_size), batch_size=None, num_workers=1)
    yield from iter(loader)


def _open_url(url: str, mode: str = "rb", bufsize: int = 8192, **_options: Any) -> Any:
    return urllib.request.urlopen(url, timeout=_TIMEOUT_S)


def _encoded(patch: NDArray[np.uint8], form: str, **options: Any) -> bytes:
    from PIL import Image

    octets = io.BytesIO()
    Image.fromarray(patch).save(octets, form, **options)
    return octets.getvalue()
