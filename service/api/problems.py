"""Answers every error with a problem document: those of the rules, and those of requests alone."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any, NoReturn

from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from service.api import errors as refusals
from service.api import requests
from service.domain import errors, problem
from service.domain.problem import Row

CONTENT_TYPE = "application/problem+json"
PAGES = problem.PAGES
SERVER_ERROR = 500

log = logging.getLogger(__name__)

TABLE: dict[type[errors.RegistryAdminError], Row] = problem.TABLE | {
    refusals.BadRequest: Row(400, "Bad request"),
    refusals.MalformedBody: Row(400, "Malformed body"),
    refusals.MalformedHeader: Row(400, "Malformed header"),
    refusals.NotFound: Row(404, "Not found"),
    refusals.MethodNotAllowed: Row(405, "Method not allowed"),
    refusals.TokenInUse: Row(409, "Token in use"),
    refusals.ExpiryPassed: Row(409, "Expiry passed"),
    refusals.ContentTooLarge: Row(413, "Content too large"),
    refusals.UnsupportedMediaType: Row(415, "Unsupported media type"),
    refusals.NotReady: Row(503, "Not ready"),
}

NO_METHOD = (
    "This path does not have this method. Nothing was changed. A repository's name ends in /-/ "
    "where more follows."
)

_OF_STATUS: dict[int, tuple[type[errors.RegistryAdminError], str]] = {
    404: (refusals.NotFound, "Nothing is at this path; /openapi.json lists what there is."),
    405: (refusals.MethodNotAllowed, NO_METHOD),
    413: (refusals.ContentTooLarge, "The body is too large. Nothing was changed."),
    415: (refusals.UnsupportedMediaType, "Send the body as application/json."),
}


def row_of(kind: type[errors.RegistryAdminError]) -> Row:
    """Tell how errors of a class are answered: by the nearest class in the table."""
    return problem.row_of(kind, TABLE)


def code_of(error: Exception) -> str:
    """Give the code of the problem that an exception becomes."""
    return as_known(error).code


def as_known(error: Exception) -> errors.RegistryAdminError:
    """Give an exception as one of the closed tree; what is not foreseen is an InternalError."""
    if isinstance(error, errors.RegistryAdminError):
        return error
    if isinstance(error, HTTPException) and error.code and error.code < SERVER_ERROR:
        kind, detail = _OF_STATUS.get(
            error.code, (refusals.BadRequest, "The request is not well-formed.")
        )
        return kind(detail)
    return errors.InternalError(
        f"The service made a mistake; its log tells more under {requests.request_id()}."
    )


def answer(error: Exception) -> Response:
    """Make the problem document of an exception, with its headers; log what was not foreseen."""
    known = as_known(error)
    status = row_of(type(known)).status
    if status == SERVER_ERROR:
        log.error("unforeseen error", exc_info=error)
    body = json.dumps(document(known)) + "\n"  # as every other answer ends
    response = Response(body, status, content_type=CONTENT_TYPE)
    response.headers.extend(list(_headers(error, known)))
    return response


def document(error: errors.RegistryAdminError) -> dict[str, Any]:
    """Give the members of a problem document."""
    row = row_of(type(error))
    return problem.document(error, row, requests.path(), requests.request_id())


def _headers(error: Exception, known: errors.RegistryAdminError) -> Iterator[tuple[str, str]]:
    if isinstance(error, HTTPException):
        # Without these a 405 would lose its Allow.
        yield from (pair for pair in error.get_headers() if pair[0].lower() != "content-type")
    if known.retry_after is not None:
        yield "Retry-After", str(known.retry_after)
    if isinstance(known, errors.Unauthenticated):
        yield "WWW-Authenticate", _challenge(known)


def _challenge(error: errors.Unauthenticated) -> str:
    # RFC 6750, section 3.1: no error code where no token was sent.
    sent = isinstance(error, refusals.TokenRefused)
    return 'Bearer realm="registry-admin"' + (', error="invalid_token"' if sent else "")


def register(app: Flask) -> None:
    """Answer every exception of an application with a problem document."""
    app.register_error_handler(Exception, answer)


def invalid(detail: str, *, parameter: str | None = None, pointer: str | None = None) -> NoReturn:
    """Raise ValidationFailed for one query parameter, or one place in the body."""
    place = {"pointer": pointer} if pointer is not None else {"parameter": parameter or ""}
    raise errors.ValidationFailed([{**place, "detail": detail}])
