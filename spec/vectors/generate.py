"""Write the conformance vectors, their README and the worked example of format.md.

    python spec/vectors/generate.py            write what differs, remove what is stale
    python spec/vectors/generate.py --check    write nothing; exit 1 if anything differs

Nothing here depends on dsqformat or on the reference decoder, once frames.json and models.json
hold the compressed bytes that are asked for. Vectors of a released version of
the format are never changed: a later version gets its own folder.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from frames import frames_json
from invalid import invalid_vectors
from models import models_json
from readme import readme
from valid import VALID
from worked_example import annotate

HERE = Path(__file__).resolve().parent
FORMAT = HERE.parent / "format.md"
MARKERS = re.compile(
    r"(?<=<!-- worked-example:begin -->\n).*(?=<!-- worked-example:end -->)", re.DOTALL
)


def facts_json(facts):
    """JSON for people and diffs: lists of plain values on one line."""
    text = json.dumps(facts, indent=1, sort_keys=True, ensure_ascii=False)
    inner = re.compile(r"\[[^\[\]{}\"]*\]")  # no strings: they may hold anything
    text = inner.sub(lambda match: " ".join(match.group().split()), text)
    return text + "\n"


def generated_files():
    """{path relative to this folder: bytes} of everything this script writes."""
    valid, invalid = [make() for make in VALID], invalid_vectors()
    files = {}
    for kind, vectors in (("valid", valid), ("invalid", invalid)):
        for vector in vectors:
            files[f"v1/{kind}/{vector.name}.dsq"] = vector.data
            files[f"v1/{kind}/{vector.name}.json"] = facts_json(vector.facts).encode()
        if len({vector.name for vector in vectors}) != len(vectors):
            raise ValueError(f"two {kind} vectors have the same name")
    files["README.md"] = readme(valid, invalid).encode()
    files["frames.json"] = frames_json().encode()
    files["models.json"] = models_json().encode()
    text = FORMAT.read_text()
    example = next(vector for vector in valid if vector.name == "worked_example")
    files["../format.md"] = MARKERS.sub(lambda _: annotate(example.data), text).encode()
    return files


def stale_files(files):
    """Vectors on disk that are no longer generated."""
    return [path for path in HERE.glob("v1/*/*") if path.relative_to(HERE).as_posix() not in files]


def main():
    parser = argparse.ArgumentParser(description="Write the conformance vectors of the DSQ format.")
    parser.add_argument("--check", action="store_true", help="only say what differs")
    check = parser.parse_args().check
    files = generated_files()
    stale = stale_files(files)
    differing = [
        name for name, data in files.items()
        if not (HERE / name).exists() or (HERE / name).read_bytes() != data
    ]  # fmt: skip
    for name in [*differing, *map(str, stale)]:
        print(name)
    if check:
        return 1 if differing or stale else 0
    for name in differing:
        path = HERE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files[name])
    for path in stale:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
