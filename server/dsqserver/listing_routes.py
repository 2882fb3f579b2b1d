"""Routes that list samples and shards by filter, page by page (http-api.md 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import numpy as np
from fastapi import Depends, FastAPI, Query, Request
from starlette.responses import Response

from dsqformat.dataset.snapshot import ShardEntry, Snapshot
from dsqserver.catalog import Catalog
from dsqserver.documented import add_get, allow_parameters, json_responses, respond_json
from dsqserver.filters import FILTER_NAMES, Conditions, make_conditions
from dsqserver.models import SamplePageModel, ShardPageModel
from dsqserver.paging import PagedQuery, PageTokens

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000
DEFAULT_REF: Final = "main"

Ref = Annotated[str, Query(description="Name of a ref, or the id of a snapshot.", max_length=64)]
Values = Annotated[
    list[str] | None,
    Query(description="Keep samples with one of these values; repeat it, or separate by commas."),
]
Limit = Annotated[int, Query(description="Most rows in the answer.", ge=1, le=MAX_LIMIT)]
PageToken = Annotated[
    str | None,
    Query(description="next_page_token of the page before, with the same query.", max_length=200),
]


@dataclass(frozen=True)
class ListingParameters:
    """Query parameters of both listings."""

    ref: Ref = DEFAULT_REF
    label: Values = None
    bin_id: Values = None
    bit_width: Values = None
    limit: Limit = DEFAULT_LIMIT
    page_token: PageToken = None

    def filters(self) -> dict[str, list[str]]:
        """Return the values of each filter that was given."""
        given = {name: getattr(self, name) for name in FILTER_NAMES}
        return {name: values for name, values in given.items() if values}


Parameters = Annotated[ListingParameters, Depends(ListingParameters)]


@dataclass(frozen=True)
class _Listing:
    """A listing at one page: what is listed, of which snapshot, from where on."""

    query: PagedQuery
    snapshot: Snapshot
    conditions: Conditions
    start: int


def add_listing_routes(app: FastAPI, catalog: Catalog, tokens: PageTokens) -> None:
    """Add the filtered listings of samples and of shards."""

    def list_samples(request: Request, name: str, parameters: Parameters) -> Response:
        """Rows of the sample table that meet all filters."""
        listing = open_listing(request, "samples", name, parameters)
        with catalog.sample_table(name, listing.snapshot) as table:
            page = table.read_page(listing.conditions, listing.start, parameters.limit)
        return respond_page(request, listing, page.rows, page.next_row)

    def list_shards(request: Request, name: str, parameters: Parameters) -> Response:
        """Shards that hold a sample that meets all filters."""
        listing = open_listing(request, "shards", name, parameters)
        snapshot, start = listing.snapshot, listing.start
        counts = None
        found = np.arange(start, snapshot.shard_count)
        if listing.conditions:
            counts = catalog.count_by_shard(name, snapshot, listing.conditions)
            found = found[counts[start:] > 0]
        numbers = found[: parameters.limit].tolist()
        entries = catalog.shards(name, snapshot, numbers)
        rows = [
            _shard_row(number, entry, entry.sample_count if counts is None else int(counts[number]))
            for number, entry in zip(numbers, entries, strict=True)
        ]
        more = len(found) > len(numbers)
        return respond_page(request, listing, rows, int(found[len(numbers)]) if more else None)

    def open_listing(
        request: Request, kind: str, name: str, parameters: ListingParameters
    ) -> _Listing:
        allow_parameters(request, "ref", *FILTER_NAMES, "limit", "page_token")
        filters = parameters.filters()
        given = tuple((filter_name, tuple(values)) for filter_name, values in filters.items())
        query = PagedQuery(kind, name, parameters.ref, given)
        if parameters.page_token is None:
            snapshot, start = catalog.snapshot(name, parameters.ref), 0
        else:
            snapshot_id, start = tokens.read(query, parameters.page_token)
            snapshot = catalog.pinned_snapshot(name, snapshot_id)
        return _Listing(query, snapshot, make_conditions(snapshot.schema, filters), start)

    def respond_page(
        request: Request, listing: _Listing, rows: Sequence[Any], following: int | None
    ) -> Response:
        snapshot_id = listing.snapshot.id
        page = {
            "dataset": listing.query.dataset,
            "snapshot": snapshot_id,
            listing.query.kind: rows,
            "next_page_token": None
            if following is None
            else tokens.sign(listing.query, snapshot_id, following),
        }
        return respond_json(request, page)

    samples, shards = json_responses(SamplePageModel), json_responses(ShardPageModel)
    add_get(app, "/v1/datasets/{name}/samples", list_samples, "datasets", samples)
    add_get(app, "/v1/datasets/{name}/shards", list_shards, "datasets", shards)


def _shard_row(number: int, entry: ShardEntry, matching: int) -> dict[str, Any]:
    return {
        "shard": number,
        "path": entry.path,
        "digest": entry.digest,
        "nbytes": entry.nbytes,
        "head_nbytes": entry.head_nbytes,
        "head_digest": entry.head_digest,
        "sample_count": entry.sample_count,
        "matching_sample_count": matching,
        "chunk_count": entry.chunk_count,
        "segment_nbytes": entry.segment_nbytes,
    }
