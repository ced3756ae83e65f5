"""Refusals, and the JSON that requests and answers of the API consist of."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import JSONResponse

__all__ = ["Refused", "error_answer", "parse_json"]


class Refused(Exception):
    """A request that is answered with an error: the HTTP status and a text for its sender."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def parse_json(body: bytes) -> Any:
    """The value that the body of a request is. Raises ``Refused`` if it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not JSON") from None


def error_answer(status: int, text: str) -> JSONResponse:
    """The error body that QStash's SDKs show."""
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"error": text}, status_code=status, headers=headers)
