"""The answer to what is hardly HTTP: the server refuses it before there is any request."""

from __future__ import annotations

import json
from http import HTTPStatus

from service.api.errors import BadRequest, ContentTooLarge
from service.api.problems import CONTENT_TYPE, row_of
from service.domain import problem
from service.domain.errors import InternalError, RegistryAdminError
from service.domain.identity import new_id

_UNTOUCHED = "Nothing was changed."


def answer(status: HTTPStatus) -> tuple[bytes, str]:
    """Return a whole HTTP answer with a problem document, and the request id that it names."""
    request_id = new_id()
    error = _error(status, request_id)
    row = row_of(type(error))._replace(status=status.value)
    body = json.dumps(problem.document(error, row, "/", request_id)) + "\n"
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Connection: close",
        f"Content-Type: {CONTENT_TYPE}",
        f"Content-Length: {len(body)}",
        f"X-Request-Id: {request_id}",
        "X-Content-Type-Options: nosniff",
    )
    return "\r\n".join((*head, "", body)).encode(), request_id


def _error(status: HTTPStatus, request_id: str) -> RegistryAdminError:
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return InternalError(f"The service made a mistake; its log tells more under {request_id}.")
    if status in {HTTPStatus.REQUEST_URI_TOO_LONG, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE}:
        what = "address" if status == HTTPStatus.REQUEST_URI_TOO_LONG else "header"
        return ContentTooLarge(f"The request's {what} is longer than is read. {_UNTOUCHED}")
    return BadRequest(f"The request is no well-formed HTTP request. {_UNTOUCHED}")
