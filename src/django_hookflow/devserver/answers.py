"""Refusals, and the JSON that every answer of the API consists of."""

from __future__ import annotations

from starlette.responses import JSONResponse

__all__ = ["Refused", "error_answer"]


class Refused(Exception):
    """A request that is answered with an error: the HTTP status and a text for its sender."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def error_answer(status: int, text: str) -> JSONResponse:
    """The error body that QStash's SDKs show."""
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"error": text}, status_code=status, headers=headers)
