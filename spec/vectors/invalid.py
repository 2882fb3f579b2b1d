"""The invalid vectors (format.md, section 19): each is broken in one place, which it names."""

from __future__ import annotations

import struct

import invalid_block
import invalid_chunks
import invalid_head
import invalid_patch
import invalid_rans
from assembly import Vector
from builder import crc32c
from samples import base


def whole_file_vectors(add):
    """Section 5.1: files that end early or late, and files of another kind."""
    data = base().layout()
    head_nbytes, file_nbytes = struct.unpack_from("<2Q", data, 32)
    cuts = {
        "truncated_empty": (0, "an empty file"),
        "truncated_magic": (5, "ends within the magic"),
        "truncated_header": (40, "ends within the header"),
        "truncated_directory": (90, "ends within the section directory"),
        "truncated_head": (head_nbytes - 1, "ends one byte before the first chunk"),
        "truncated_chunk": (head_nbytes + 20, "ends within the first chunk"),
        "truncated_tail": (file_nbytes - 1, "the last byte is missing"),
    }
    for name, (nbytes, text) in cuts.items():
        add(name, "5.1", text, data[:nbytes], "truncated")
    add("longer", "5.1", "one byte after file_nbytes", data + b"\x00")
    add("short_other_file", "5.1", "three bytes that do not begin the magic", b"\x8bDS"[::-1])
    add("other_file", "5.1", "a file of another format", b"\x89PNG\r\n\x1a\n" + bytes(200))


def invalid_vectors():
    """All of them, in the order of the README."""
    vectors = []

    def add(name, section, description, data, error="corrupt"):
        data = data if isinstance(data, bytes) else data.layout()
        facts = {
            "crc32c": f"{crc32c(data):08x}", "description": description, "error": error,
            "name": name, "section": section,
        }  # fmt: skip
        vectors.append(Vector(name, description, data, facts))

    whole_file_vectors(add)
    for module in (invalid_head, invalid_chunks, invalid_rans, invalid_patch, invalid_block):
        for group in module.GROUPS:
            group(add)
    return vectors
