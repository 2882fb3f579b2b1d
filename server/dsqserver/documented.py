"""How routes are added: GET and HEAD together, every answer in the OpenAPI description."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from fastapi import FastAPI, Request
from starlette.responses import Response

from dsqserver.models import Model
from dsqserver.problems import PROBLEM_MEDIA_TYPE, ProblemError
from dsqserver.ranges import combine_fields
from dsqserver.responses import represent_bytes, respond

Responses = dict[int | str, dict[str, Any]]

# The answer to anything else. Named so, it also keeps the framework from describing an error
# shape of its own.
PROBLEM_RESPONSES: Final[Responses] = {
    "default": {
        "description": "An error",
        "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}


def add_get(
    app: FastAPI,
    path: str,
    endpoint: Callable[..., Any],
    tag: str,
    responses: Responses,
) -> None:
    """Add a route for GET, described, and one for HEAD.

    Args:
        app: the application.
        path: of the route.
        endpoint: makes the response; its name and docstring become the operation's.
        tag: group of the operation.
        responses: description of every answer by status.
    """
    app.add_api_route(
        path,
        endpoint,
        methods=["GET"],
        operation_id=endpoint.__name__,
        tags=[tag],
        responses=responses,
        response_class=Response,
        response_model=None,
    )
    app.add_api_route(
        path, endpoint, methods=["HEAD"], include_in_schema=False, response_model=None
    )


def json_responses(model: type[Model]) -> Responses:
    """Describe a route that answers JSON of the shape of `model`."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {
        200: {"description": "OK", "content": {"application/json": {"schema": schema}}},
        304: {"description": "If-None-Match names the answer"},
        **PROBLEM_RESPONSES,
    }


def respond_json(request: Request, content: Mapping[str, Any]) -> Response:
    """Answer JSON, with the digest of the text as its entity tag."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    body = text.encode("utf-8")
    representation = represent_bytes(body, "application/json", "no-cache", ranges=False)
    fields = combine_fields(request.scope["headers"])
    return respond(request.scope, fields, representation, body)


def allow_parameters(request: Request, *names: str) -> None:
    """Refuse query parameters that are not known: a misspelt filter must not match everything.

    Raises:
        ProblemError: unknown_parameter.
    """
    unknown = sorted(set(request.query_params) - set(names))
    if unknown:
        expected = f"one of {', '.join(names)}" if names else "none"
        raise ProblemError("unknown_parameter", f"got {unknown[0][:100]!r}, expected {expected}")
