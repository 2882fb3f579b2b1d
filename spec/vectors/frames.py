"""Real zstd frames that stay the same when the zstd library does not.

`frames.json` maps the SHA-256 of a content to its compressed frame, in hexadecimal. A content
that is not there yet is compressed with the `zstandard` package and added by generate.py.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

PATH = Path(__file__).with_name("frames.json")
FRAMES = json.loads(PATH.read_text()) if PATH.exists() else {}
USED = {}


def compressed_frame(content, level=19):
    """One frame as section 2 wants it: content size, no checksum, no dictionary ID."""
    key = hashlib.sha256(content).hexdigest()
    if key not in FRAMES:
        import zstandard  # only needed for contents that no committed frame holds

        parameters = zstandard.ZstdCompressionParameters.from_level(
            level, source_size=len(content), write_content_size=True, write_checksum=False,
            write_dict_id=False,
        )  # fmt: skip
        compressor = zstandard.ZstdCompressor(compression_params=parameters)
        FRAMES[key] = compressor.compress(content).hex()
    USED[key] = FRAMES[key]
    return bytes.fromhex(FRAMES[key])


def frames_json():
    """What frames.json should hold: the frames asked for since the start, no others."""
    return json.dumps(dict(sorted(USED.items())), indent=0) + "\n"
