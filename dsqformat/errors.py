"""Every error the project raises on purpose.

    DsqError(Exception)
      UnsupportedFeatureError   newer version, unknown feature or name    -> upgrade
      CorruptShardError         bytes contradict the spec or a checksum   -> fetch again
      TruncatedShardError       ended early, otherwise sound              -> resume
      FetchError                transport, after retries                  -> retry later
      DatasetError              directory, snapshot or ref is unusable    -> see the message
        PublishConflictError    somebody else published meanwhile         -> try again
      SourceError               input that cannot be read as samples      -> see the message
      SampleError               a sample that cannot be written           -> mend or skip it
      TargetError               a size or fidelity that cannot be met     -> ask for another
      ModelError                a network that cannot do what is asked    -> see the message
      SelectionError(ValueError) samples cannot be chosen so with these   -> see the message
      RecipeError(ValueError)   a recipe that says what cannot be         -> mend the recipe
      UnknownKeyError(KeyError) no sample has this key

Wrong arguments are plain `ValueError` or `TypeError`.
A message is one line: what, where, got, expected, and the remedy where there is one.
Each class can be built from its message alone, because worker processes of PyTorch
re-raise errors that way; the details are attributes as well.
"""

from __future__ import annotations

__all__ = [
    "CorruptShardError",
    "DatasetError",
    "DsqError",
    "FetchError",
    "ModelError",
    "PublishConflictError",
    "RecipeError",
    "SampleError",
    "SelectionError",
    "SourceError",
    "TargetError",
    "TruncatedShardError",
    "UnknownKeyError",
    "UnsupportedFeatureError",
]


class DsqError(Exception):
    """Base of all errors of this project.

    Args:
        message: one line: what, where, got, expected.
        shard: path or digest of the shard concerned.
        chunk: number of the chunk in its shard.
        block: number of the block in its segment.
        offset: byte offset in the shard.
    """

    def __init__(
        self,
        message: str = "",
        *,
        shard: str | None = None,
        chunk: int | None = None,
        block: int | None = None,
        offset: int | None = None,
    ) -> None:
        super().__init__(message)
        self.shard = shard
        self.chunk = chunk
        self.block = block
        self.offset = offset

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""

    def located(
        self, where: str, *, shard: str | None = None, chunk: int | None = None
    ) -> DsqError:
        """Return the same error with `where` in front of its message."""
        error = type(self)(
            f"{where}: {self}",
            shard=shard if shard is not None else self.shard,
            chunk=chunk if chunk is not None else self.chunk,
            block=self.block,
            offset=self.offset,
        )
        return error.with_traceback(self.__traceback__)


class UnsupportedFeatureError(DsqError):
    """The bytes need a feature that this version does not have."""


class CorruptShardError(DsqError):
    """The bytes contradict the format or one of their checksums."""


class TruncatedShardError(DsqError):
    """The bytes end early and are otherwise sound."""


class FetchError(DsqError):
    """A transfer failed for good, after its retries."""


class DatasetError(DsqError):
    """A dataset directory, snapshot, ref or blob is missing or contradictory."""


class PublishConflictError(DatasetError):
    """The ref moved while this writer was at work."""


class SourceError(DsqError):
    """A folder, file or archive cannot be read as samples."""


class SampleError(DsqError):
    """A sample cannot be written as it is."""


class TargetError(DsqError):
    """A size or a fidelity cannot be met with these samples."""


class ModelError(DsqError):
    """A network or its weights cannot do what is asked of them."""


class SelectionError(DsqError, ValueError):
    """Features, scores, labels or amounts do not allow the selection that was asked for."""


class RecipeError(DsqError, ValueError):
    """A recipe has an option that is unknown, impossible, or excluded by another."""


class UnknownKeyError(DsqError, KeyError):
    """No sample of the snapshot has this key."""
