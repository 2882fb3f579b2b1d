"""Lets libFuzzer look for new paths through the decoders (coverage of the Python layers).

    python tests/support/fuzz_atheris.py CORPUS [libFuzzer's own options, such as -runs=1000]

An input is the number of a seed (u16), then each part behind its length (u32). libFuzzer's
mutator is replaced by that of `fuzz_mutations`, half the time after libFuzzer has changed a part:
raw changes of inputs would mostly break the lengths.
"""

from __future__ import annotations

import random
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import atheris

# Before any module of dsqformat is imported: importing is when coverage is put in.
with atheris.instrument_imports(include=["dsqformat"], enable_loader_override=False):
    from fuzz_targets import Seed, load_seeds, outcome

from fuzz_mutations import mutate


def pack_input(number: int, parts: Sequence[bytes]) -> bytes:
    """Return an input of libFuzzer."""
    framed = [len(part).to_bytes(4, "little") + part for part in parts]
    return number.to_bytes(2, "little") + b"".join(framed)


def unpack_input(data: bytes, seeds: Sequence[Seed]) -> tuple[int, tuple[bytes, ...]]:
    """Return the number of a seed and as many parts as it has, whatever the bytes."""
    number = int.from_bytes(data[:2], "little") % len(seeds)
    parts, at = [], 2
    for _ in seeds[number].kinds:
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        parts.append(data[at + 4 : end])
        at = end
    return number, tuple(parts)


def main(arguments: list[str]) -> None:
    """Fuzz until libFuzzer has had enough; it ends the process itself."""
    warnings.simplefilter("error")
    seeds = load_seeds(Path(arguments[1]))

    def try_one(data: bytes) -> None:
        number, parts = unpack_input(data, seeds)
        outcome(seeds[number], parts)

    def change(data: bytes, max_size: int, chance: int) -> bytes:
        source = random.Random(chance)
        number, parts = unpack_input(data, seeds)
        if source.random() < 0.02:
            number = source.randrange(len(seeds))
            parts = seeds[number].parts
        changed: list[Any] = list(parts)
        if source.random() < 0.5:
            at = source.randrange(len(changed))
            changed[at] = atheris.Mutate(changed[at], len(changed[at]) + 16)
        parts = mutate(source, seeds[number].kinds, tuple(changed))
        return pack_input(number, parts)[:max_size]

    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(seeds):
            (Path(folder) / f"{number:04d}").write_bytes(pack_input(number, seed.parts))
        atheris.Setup([arguments[0], *arguments[2:], folder], try_one, custom_mutator=change)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
