"""Lets libFuzzer look for new paths through the decoders (coverage of the Python layers).

    python tests/support/fuzz_atheris.py CORPUS INPUTS KERNELS [libFuzzer's own options]

INPUTS is an empty folder for what libFuzzer keeps, KERNELS that of another build or nothing ('').
An input is the number of a seed (u16), then each part behind its length (u32). libFuzzer's
mutator is replaced by that of `fuzz_mutations`, half the time after libFuzzer has changed a part:
raw changes of inputs would mostly break the lengths.
"""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import atheris

from kernel_builds import use_kernels


def pack_input(number: int, parts: Sequence[bytes]) -> bytes:
    """Return an input of libFuzzer."""
    framed = [len(part).to_bytes(4, "little") + part for part in parts]
    return number.to_bytes(2, "little") + b"".join(framed)


def unpack_input(data: bytes, seeds: Sequence[Any]) -> tuple[int, tuple[bytes, ...]]:
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
    corpus, inputs, kernels = arguments[1:4]
    if kernels:
        use_kernels(Path(kernels))
    # Importing is when coverage is put in.
    with atheris.instrument_imports(include=["dsqformat"], enable_loader_override=False):
        from fuzz_mutations import mutate
        from fuzz_targets import load_seeds, outcome

    warnings.simplefilter("error")
    unraised: list[str] = []
    sys.unraisablehook = lambda caught: unraised.append(repr(caught.exc_value))
    seeds = load_seeds(Path(corpus))
    for number, seed in enumerate(seeds):
        (Path(inputs) / f"{number:04d}").write_bytes(pack_input(number, seed.parts))

    def try_one(data: bytes) -> None:
        number, parts = unpack_input(data, seeds)
        outcome(seeds[number], parts)
        if unraised:
            raise RuntimeError(f"in compiled code: {unraised}")

    def change(data: bytes, max_size: int, chance: int) -> bytes:
        source = random.Random(chance)
        number, parts = unpack_input(data, seeds)
        if source.random() < 0.02:
            number = source.randrange(len(seeds))
            parts = seeds[number].parts
        changed = list(parts)
        if source.random() < 0.5:
            at = source.randrange(len(changed))
            changed[at] = bytes(atheris.Mutate(changed[at], len(changed[at]) + 16))
        parts = mutate(source, seeds[number].kinds, tuple(changed))
        return pack_input(number, parts)[:max_size]

    atheris.Setup([arguments[0], *arguments[4:], inputs], try_one, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
