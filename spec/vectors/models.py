"""Real models and segments in coding 2 that stay the same when the library does not.

`models.json` maps the SHA-256 of what was coded to the bytes, in hexadecimal. What is not there
yet is fitted and coded with dsqformat and added by generate.py; from then on the bytes stand for
themselves, and what they mean is said by the codes they were made of.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

PATH = Path(__file__).with_name("models.json")
CODED = json.loads(PATH.read_text()) if PATH.exists() else {}
USED = {}


def frozen(facts, make):
    """The bytes of these facts; `make` is only called for facts that no committed bytes hold.

    The first of the facts changes where the format does.
    """
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    if key not in CODED:
        CODED[key] = make().hex()
    USED[key] = CODED[key]
    return bytes.fromhex(CODED[key])


def arrays(plan, samples):
    """(codes, shape, layer widths) as dsqformat wants them.

    Samples are (shape, stored width, codes) or, with masks, (..., side of patches, mask).
    """
    import numpy as np

    from dsqformat.coding.layers import layer_widths

    codes = np.array([code for _, _, sample, *_ in samples for code in sample], "u2")
    shape = np.array([shape for shape, *_ in samples], "i8").reshape(len(samples), -1)
    widths = np.array([width for _, width, *_ in samples], "u1")
    return codes, shape, layer_widths(widths, tuple(plan))


def patch_masks(samples):
    """The masks as dsqformat wants them; None where there are none."""
    import numpy as np

    from dsqformat.coding.rans.masking import PatchMasks
    from dsqformat.quantize.mask import patch_grid, unpack_mask

    if len(samples[0]) == 3:
        return None
    grids = []
    for shape, _, _, patch, mask in samples:
        grid = patch_grid(*shape[:2], patch)
        grids.append(unpack_mask(bytes.fromhex(mask), grid) if mask else np.ones(grid, "?"))
    shape = np.array([shape for shape, *_ in samples], "i8")
    return PatchMasks(samples[0][3], grids, shape)


def frozen_model(plan, samples):
    """A model that fits these samples (section 7.1)."""

    def make():
        from dsqformat.coding.rans import fit

        masks = patch_masks(samples)
        return fit(*arrays(plan, samples), masks=masks, complete=True).to_bytes()

    return frozen(["model 2", plan, samples], make)


def frozen_segment(model, plan, samples, layer, per_stream):
    """One layer of these samples in coding 2 (section 9.3), the coding byte included."""

    def make():
        from dsqformat.coding.rans import PixelModel, encode_layer

        parsed = PixelModel.from_bytes(model)
        coded = arrays(plan, samples), layer, per_stream, patch_masks(samples)
        return b"\x02" + encode_layer(parsed, *coded[0], *coded[1:])

    return frozen(["segment 2", model.hex(), plan, samples, layer, per_stream], make)


def models_json():
    """What models.json should hold: the bytes asked for since the start, no others."""
    return json.dumps(dict(sorted(USED.items())), indent=0) + "\n"
