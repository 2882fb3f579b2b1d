"""What to answer to a conditional or ranged request: a pure function (spec/http-api.md 4).

Preconditions are evaluated in the order of RFC 9110 section 13.2.2 (If-Match, If-None-Match,
If-Range, Range). No representation here has a Last-Modified date, so If-Unmodified-Since and
If-Modified-Since are ignored, as section 13.1 demands, and an If-Range with a date never holds.
Every parser reads its field once, from left to right.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

# More range-specs than this, or more bytes than MAX_OVERLAP times the representation, are an
# attack or a mistake (RFC 9110 section 17.15): the field is ignored, the answer is the whole.
MAX_RANGES: Final = 32
MAX_OVERLAP: Final = 2
# 32 pairs of 19-digit positions are 1,280 characters; int() of what is longer is never tried.
MAX_RANGE_FIELD_NBYTES: Final = 2048

_RANGE_SPEC = re.compile(r"([0-9]*)-([0-9]*)")
_ENTITY_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_BLANK: Final = " \t"


@dataclass(frozen=True)
class Representation:
    """What a plain GET of a resource answers.

    Attributes:
        nbytes: length of the body.
        etag: strong entity tag, quotes included.
        media_type: value of Content-Type.
        cache_control: value of Cache-Control.
        repr_digest: value of Repr-Digest (RFC 9530).
        ranges: False if ranges are not offered; a Range field is then ignored.
    """

    nbytes: int
    etag: str
    media_type: str
    cache_control: str
    repr_digest: str
    ranges: bool = True


@dataclass(frozen=True)
class ByteRange:
    """The bytes [start, stop) of a representation."""

    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        """Length in bytes."""
        return self.stop - self.start


@dataclass(frozen=True)
class Plan:
    """How to answer one request.

    Attributes:
        status: 200, 206, 304, 412 or 416. The last two have no body here: the application adds
            its own description of the error.
        headers: names in lower case, and values; Content-Length included unless status is
            304, 412 or 416.
        ranges: bytes of the representation to send, in this order.
        boundary: of a multipart/byteranges body; None for any other.
        representation: what was asked for.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    ranges: tuple[ByteRange, ...]
    boundary: str | None
    representation: Representation

    def pieces(self) -> Iterator[bytes | ByteRange]:
        """Yield the body in order: literal bytes, or ranges of the representation."""
        if self.boundary is None:
            yield from self.ranges
            return
        for number, byte_range in enumerate(self.ranges):
            line_break = "\r\n" if number else ""
            yield f"{line_break}{self._part_head(byte_range)}".encode("latin-1")
            yield byte_range
        yield f"\r\n--{self.boundary}--\r\n".encode("latin-1")

    def _part_head(self, byte_range: ByteRange) -> str:
        """Return what stands before a part of a multipart body (RFC 9110 section 14.6)."""
        return (
            f"--{self.boundary}\r\n"
            f"content-type: {self.representation.media_type}\r\n"
            f"content-range: {_content_range(byte_range, self.representation)}\r\n\r\n"
        )


def combine_fields(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return header fields by lower-case name, repeated ones joined (RFC 9110 section 5.3)."""
    fields: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


def plan_response(method: str, fields: Mapping[str, str], representation: Representation) -> Plan:
    """Decide status, headers and bytes of the answer to a GET or HEAD.

    The plan of a HEAD is that of the same GET without Range, since RFC 9110 section 14.2
    defines Range for GET alone; its body is not to be sent.

    Args:
        method: "GET" or "HEAD".
        fields: request header fields by lower-case name, as `combine_fields` makes them.
        representation: what the resource consists of.
    """
    etag = representation.etag
    if "if-match" in fields and not _matches(fields["if-match"], etag, weak=False):
        return _bodiless(412, (), representation)
    if "if-none-match" in fields and _matches(fields["if-none-match"], etag, weak=True):
        headers = (("etag", etag), ("cache-control", representation.cache_control))
        return _bodiless(304, headers, representation)
    wants_ranges = method == "GET" and representation.ranges and "range" in fields
    if not wants_ranges or fields.get("if-range", etag).strip(_BLANK) != etag:
        return _whole(representation)
    specs = parse_range(fields["range"])
    if specs is None:
        return _whole(representation)
    return _plan_ranges(specs, fields["range"], representation)


def parse_range(value: str) -> list[tuple[int | None, int | None]] | None:
    """Parse a Range field of unit "bytes" (RFC 9110 section 14.1.2).

    Returns:
        (first, last) of each spec, both inclusive: last is None for an open range, first is
        None for a suffix of `last` bytes. None if the field is to be ignored: another unit,
        bad syntax, last before first, or more than MAX_RANGES specs.
    """
    unit, equals, spec_set = value.partition("=")
    if len(value) > MAX_RANGE_FIELD_NBYTES or not equals or unit.lower() != "bytes":
        return None
    specs: list[tuple[int | None, int | None]] = []
    for element in spec_set.split(","):
        text = element.strip(_BLANK)
        if not text:  # recipients take empty list elements (section 5.6.1.2)
            continue
        match = _RANGE_SPEC.fullmatch(text)
        if match is None or text == "-" or len(specs) == MAX_RANGES:
            return None
        first = int(match[1]) if match[1] else None
        last = int(match[2]) if match[2] else None
        if first is not None and last is not None and last < first:
            return None
        specs.append((first, last))
    return specs or None


def _plan_ranges(
    specs: list[tuple[int | None, int | None]], field: str, representation: Representation
) -> Plan:
    size = representation.nbytes
    satisfiable = False
    ranges: list[ByteRange] = []
    for first, last in specs:
        if first is None:
            # A suffix of an empty representation is satisfiable and has no bytes to name in
            # Content-Range: that is answered by the whole.
            satisfiable |= bool(last)
            first, last = max(0, size - (last or 0)), size - 1
        stop = size if last is None else min(last + 1, size)
        if first < stop:
            ranges.append(ByteRange(first, stop))
    if not ranges and not satisfiable:
        headers = (("content-range", f"bytes */{size}"),)
        return _bodiless(416, headers, representation)
    if not ranges or sum(part.nbytes for part in ranges) > MAX_OVERLAP * size:
        return _whole(representation)
    if len(ranges) == 1:
        return _single(ranges[0], representation)
    return _multipart(tuple(ranges), field, representation)


def _whole(representation: Representation) -> Plan:
    size = representation.nbytes
    headers = (
        ("content-type", representation.media_type),
        ("content-length", str(size)),
        *_common_headers(representation),
    )
    ranges = (ByteRange(0, size),) if size else ()
    return Plan(200, headers, ranges, None, representation)


def _single(byte_range: ByteRange, representation: Representation) -> Plan:
    headers = (
        ("content-type", representation.media_type),
        ("content-length", str(byte_range.nbytes)),
        ("content-range", _content_range(byte_range, representation)),
        *_common_headers(representation),
    )
    return Plan(206, headers, (byte_range,), None, representation)


def _multipart(ranges: tuple[ByteRange, ...], field: str, representation: Representation) -> Plan:
    # Made from the digest of the content, so it cannot stand in the content; the same request
    # always has the same answer, byte for byte.
    seed = f"{representation.etag} {field}".encode("latin-1", "replace")
    boundary = hashlib.sha256(seed).hexdigest()[:32]
    plan = Plan(206, (), ranges, boundary, representation)
    nbytes = sum(len(p) if isinstance(p, bytes) else p.nbytes for p in plan.pieces())
    headers = (
        ("content-type", f"multipart/byteranges; boundary={boundary}"),
        ("content-length", str(nbytes)),
        *_common_headers(representation),
    )
    return Plan(206, headers, ranges, boundary, representation)


def _bodiless(
    status: int, headers: tuple[tuple[str, str], ...], representation: Representation
) -> Plan:
    return Plan(status, headers, (), None, representation)


def _common_headers(representation: Representation) -> tuple[tuple[str, str], ...]:
    accept_ranges = (("accept-ranges", "bytes"),) if representation.ranges else ()
    return (
        ("etag", representation.etag),
        ("cache-control", representation.cache_control),
        ("repr-digest", representation.repr_digest),
        *accept_ranges,
    )


def _content_range(byte_range: ByteRange, representation: Representation) -> str:
    return f"bytes {byte_range.start}-{byte_range.stop - 1}/{representation.nbytes}"


def _matches(value: str, etag: str, *, weak: bool) -> bool:
    """Tell whether an If-Match or If-None-Match field names a tag (RFC 9110 section 8.8.3.2).

    A list that is malformed matches by the tags before its fault.
    """
    if value.strip(_BLANK) == "*":
        return True
    position = 0
    while True:
        while position < len(value) and value[position] in " \t,":
            position += 1
        match = _ENTITY_TAG.match(value, position)
        if match is None:
            return False
        if match[2] == etag and (weak or not match[1]):
            return True
        position = match.end()
