"""What is answered to a request that cannot be served: the distribution-spec's error object, "Error Codes"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from hooper.api.errors import HooperError

_STATUS = {
    "unauthorized": (502, "UNAUTHORIZED"),
    "forbidden": (403, "DENIED"),
    "not-found": (404, "NAME_UNKNOWN"),
    "conflict": (409, "DENIED"),
    "unavailable": (503, "UNAVAILABLE"),
    "unsupported": (405, "UNSUPPORTED"),
}


class Problem(Exception):
    """One error of a request. `code` is one of the spec's identifiers."""

    def __init__(
        self, status: int, code: str, message: str = "", detail: Any = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, code, message)
        self.status, self.code, self.message, self.detail = status, code, message, detail
        self.headers = dict(headers or {})

    def __str__(self) -> str:
        return f"{self.status} {self.code}: {self.message}"

    def body(self) -> bytes:
        error: dict[str, Any] = {"code": self.code, "message": self.message or self.code.lower().replace("_", " ")}
        if self.detail is not None:
            error["detail"] = self.detail
        return msgspec.json.encode({"errors": [error]})


def problem_of(error: HooperError) -> Problem:
    """An error of the engine or of a registry driver, for a client."""
    if error.kind not in _STATUS:
        return Problem(500, "UNKNOWN", "a fault of the registry; its log tells more")
    status, code = _STATUS[error.kind]
    return Problem(status, code, f"{error.what}: {error.why}" if error.why else error.what)


def missing_manifest(reference: str) -> Problem:
    return Problem(404, "MANIFEST_UNKNOWN", "manifest unknown to registry", {"reference": reference})


def missing_blob(digest: str) -> Problem:
    return Problem(404, "BLOB_UNKNOWN", "blob unknown to registry", {"digest": digest})


def missing_upload() -> Problem:
    return Problem(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")


def missing_repository(name: str) -> Problem:
    return Problem(404, "NAME_UNKNOWN", "repository name not known to registry", {"name": name})
