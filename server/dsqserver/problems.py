"""Errors as the server tells them: RFC 9457 in one shape, with a stable code (http-api.md 7)."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

logger = logging.getLogger(__name__)

PROBLEM_MEDIA_TYPE: Final = "application/problem+json"
# All that is served can be asked for in these ways and no other.
ALLOWED_METHODS: Final = "GET, HEAD"

# code -> status, title. Clients branch on the code; the title is for people and fixed per code.
PROBLEMS: Final[dict[str, tuple[int, str]]] = {
    "bad_request": (400, "The request is malformed"),
    "invalid_page_token": (400, "The page token does not belong to this query"),
    "not_found": (404, "There is nothing at this path"),
    "unknown_dataset": (404, "There is no such dataset"),
    "unknown_ref": (404, "The dataset has no such ref"),
    "no_sample_table": (404, "The snapshot has no sample table"),
    "method_not_allowed": (405, "The method is not allowed here"),
    "snapshot_gone": (410, "The snapshot of this page token has been removed"),
    "precondition_failed": (412, "If-Match does not hold"),
    "range_not_satisfiable": (416, "No range lies within the file"),
    "invalid_parameter": (422, "A query parameter is invalid"),
    "unknown_parameter": (422, "A query parameter is not known"),
    "dataset_unreadable": (500, "The dataset cannot be read"),
    "internal_error": (500, "The server failed"),
    "overloaded": (503, "The server has too many requests at once"),
}
_CODE_OF_STATUS: Final = {400: "bad_request", 404: "not_found", 405: "method_not_allowed"}


class ProblemError(Exception):
    """An error to be answered as a problem.

    Args:
        code: a key of PROBLEMS.
        detail: one line about this occurrence; it is sent to the client.
        headers: further response headers.
    """

    def __init__(self, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})


class ProblemResponse(Response):
    """A problem as a response: never cached, never guessed to be another type."""

    media_type = PROBLEM_MEDIA_TYPE

    def __init__(self, error: ProblemError, scope: Scope) -> None:
        status, title = PROBLEMS[error.code]
        problem = {
            "type": f"urn:dsq:problem:{error.code}",
            "title": title,
            "status": status,
            "detail": error.detail,
            "instance": requested_path(scope),
            "code": error.code,
        }
        # nosniff here too: the answer to an unforeseen error passes no middleware.
        headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
        headers.update(error.headers)
        super().__init__(json.dumps(problem).encode("ascii"), status, headers)


def requested_path(scope: Scope) -> str:
    """Return the path as it was sent, percent-encoded: printable whatever it holds."""
    raw_path: bytes = scope.get("raw_path") or str(scope["path"]).encode("ascii", "replace")
    return raw_path.decode("ascii", "replace")


def add_problem_handlers(app: FastAPI) -> None:
    """Make every error of every route of `app` a problem."""
    app.add_exception_handler(ProblemError, _answer_problem)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(RequestValidationError, _answer_invalid_parameters)
    app.add_exception_handler(Exception, _answer_unforeseen)


async def _answer_problem(request: Request, error: Exception) -> Response:
    if not isinstance(error, ProblemError):
        raise error
    return ProblemResponse(error, request.scope)


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    """Translate what the framework raises: unknown path, method, malformed request."""
    if not isinstance(error, HTTPException):
        raise error
    code = _CODE_OF_STATUS.get(error.status_code, "bad_request")
    details = {
        "not_found": "the server has no such path; / lists those it has",
        "method_not_allowed": f"got {request.method}, expected one of {ALLOWED_METHODS}",
    }
    # The framework names the methods of one matching route; every path here has both.
    headers = {"allow": ALLOWED_METHODS} if code == "method_not_allowed" else {}
    detail = details.get(code, str(error.detail))
    return ProblemResponse(ProblemError(code, detail, headers), request.scope)


async def _answer_invalid_parameters(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    details = [
        f"{'.'.join(str(part) for part in fault['loc'][1:])}: {fault['msg']}"
        for fault in error.errors()
    ]
    return ProblemResponse(ProblemError("invalid_parameter", "; ".join(details)), request.scope)


async def _answer_unforeseen(request: Request, error: Exception) -> Response:
    """Answer 500 without details: the traceback is in the log, raised on by the framework."""
    detail = "the error is described in the log of the server"
    return ProblemResponse(ProblemError("internal_error", detail), request.scope)
