"""Page tokens: where a listing goes on, bound to its snapshot and its query (http-api.md 6.3)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
from dataclasses import dataclass
from typing import Final

from dsqformat.canonical import canonical_json
from dsqserver.problems import ProblemError

# version, snapshot id, hash of the query, position; then the first bytes of an HMAC-SHA-256
_TOKEN: Final = struct.Struct("<B32s16sQ")
_VERSION: Final = 1
_MAC_NBYTES: Final = 16


@dataclass(frozen=True)
class PagedQuery:
    """What is listed: a token of one query is worth nothing to another.

    Attributes:
        kind: "samples" or "shards".
        dataset: name of the dataset.
        ref: name of the ref that was asked for.
        filters: names and values of the filters, as they were sent.
    """

    kind: str
    dataset: str
    ref: str
    filters: tuple[tuple[str, tuple[str, ...]], ...]

    def digest(self) -> bytes:
        """Return 16 bytes that identify the query."""
        query = [self.kind, self.dataset, self.ref, self.filters]
        return hashlib.sha256(canonical_json(query)).digest()[:16]


class PageTokens:
    """Sign page tokens and read them back.

    Args:
        secret: the key; replicas that answer the same clients share one.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) < 16:
            raise ValueError(f"page secret: got {len(secret)} bytes, expected at least 16")
        self._secret = secret

    def sign(self, query: PagedQuery, snapshot_id: str, position: int) -> str:
        """Return the token of the page of `query` that begins at `position`."""
        content = _TOKEN.pack(_VERSION, bytes.fromhex(snapshot_id), query.digest(), position)
        token = base64.urlsafe_b64encode(content + self._mac(content))
        return token.decode("ascii").rstrip("=")

    def read(self, query: PagedQuery, token: str) -> tuple[str, int]:
        """Return the snapshot id and the position of a token.

        Raises:
            ProblemError: invalid_page_token: not one of ours, or of another query.
        """
        try:
            data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise _invalid("it is not base64url") from error
        content, mac = data[: _TOKEN.size], data[_TOKEN.size :]
        if len(mac) != _MAC_NBYTES or not hmac.compare_digest(mac, self._mac(content)):
            raise _invalid("it was not made by this server, or before it was restarted")
        _, snapshot_id, digest, position = _TOKEN.unpack(content)
        if digest != query.digest():
            raise _invalid("it belongs to a query with another dataset, ref or filter")
        return snapshot_id.hex(), position

    def _mac(self, content: bytes) -> bytes:
        return hmac.digest(self._secret, content, "sha256")[:_MAC_NBYTES]


def _invalid(reason: str) -> ProblemError:
    return ProblemError("invalid_page_token", f"page_token: {reason}; ask for the first page again")
