"""The shapes of JSON answers, for the OpenAPI description (http-api.md 5 to 7)."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Model(BaseModel):
    """An object with exactly these members."""

    model_config = ConfigDict(extra="forbid")


class Problem(Model):
    """An error (RFC 9457)."""

    type: str = Field(examples=["urn:dsq:problem:unknown_dataset"])
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(examples=["unknown_dataset"], description="Stable; meant for programs.")


class ServiceInfo(Model):
    """What this server is and where things are."""

    name: str
    version: str
    format_version: str
    docs: str
    endpoints: dict[str, str]
    limits: dict[str, int]


class Health(Model):
    """The process lives."""

    status: str


class DatasetSummary(Model):
    """A dataset in the list. Numbers are null, and error is set, if it cannot be read."""

    name: str
    path: str
    snapshot: str | None
    sample_count: int | None
    shard_count: int | None
    nbytes: int | None
    error: str | None


class DatasetList(Model):
    """All datasets, sorted by name."""

    datasets: list[DatasetSummary]


class Blob(Model):
    """An auxiliary file of a snapshot."""

    role: str
    digest: str
    nbytes: int
    media_type: str
    path: str


class DatasetDetail(Model):
    """A dataset at one snapshot."""

    name: str
    path: str
    refs: dict[str, str]
    snapshot: str
    snapshot_path: str
    parent: str | None
    sample_count: int
    chunk_count: int
    shard_count: int
    nbytes: int
    segment_nbytes: list[int]
    dataset_schema: dict[str, Any] = Field(alias="schema")
    blobs: list[Blob]
    filters: list[str]


class SamplePageModel(Model):
    """Rows of the sample table; the members of a row are its columns (spec 13.2)."""

    dataset: str
    snapshot: str
    samples: list[dict[str, Any]]
    next_page_token: str | None


class ShardRow(Model):
    """A shard, and how many of its samples meet the filters."""

    shard: int
    path: str
    digest: str
    nbytes: int
    head_nbytes: int
    head_digest: str
    sample_count: int
    matching_sample_count: int
    chunk_count: int
    segment_nbytes: list[int]


class ShardPageModel(Model):
    """Shards that hold a matching sample, in the order of the snapshot."""

    dataset: str
    snapshot: str
    shards: list[ShardRow]
    next_page_token: str | None
