"""Uploads of blobs: sessions that can be gone on with after a cut connection, and after the server was killed.

<directory>/uploads/<id>       the bytes so far
<directory>/uploads/<id>.of    repository and algorithm
"""

from __future__ import annotations

import hashlib
import os
import re
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread

from hooper_registry_server.problems import Problem, missing_upload

_GATHERED = 1 << 20
"""Bytes that are gathered before a thread hashes and writes them."""
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Upload:
    """One session. `offset` bytes are written and hashed."""

    def __init__(self, path: Path, repository: str, algorithm: str) -> None:
        self.id, self.path, self.repository, self.algorithm = path.name, path, repository, algorithm
        self.offset = 0
        self._hash = hashlib.new(algorithm)
        self._lock = anyio.Lock()
        self._user: anyio.CancelScope | None = None
        self.over = False

    @asynccontextmanager
    async def used(self) -> AsyncIterator[None]:
        """One request at a time: a later one takes the session over from one whose connection may be dead."""
        if self._user is not None:
            self._user.cancel()
        async with self._lock:
            if self.over:
                raise missing_upload()
            with anyio.CancelScope() as scope:
                self._user = scope
                try:
                    yield
                finally:
                    self._user = None
            if scope.cancelled_caught:
                raise Problem(409, "BLOB_UPLOAD_INVALID", "another request has taken this upload over")

    def recover(self) -> None:
        """Hashes what an earlier server has left."""
        with self.path.open("rb") as file:
            while chunk := file.read(_GATHERED):
                self._hash.update(chunk)
                self.offset += len(chunk)

    async def write(self, chunks: AsyncIterator[bytes], most: int | None = None) -> int:
        """Appends what comes, and returns how much that was; what came before an error stays.

        SIZE_INVALID as soon as it is more than `most` bytes, of which nothing is written then.
        """
        pending: list[bytes] = []
        gathered = written = 0
        try:
            async for chunk in chunks:
                if most is not None and written + gathered + len(chunk) > most:
                    pending, gathered = [], 0
                    raise Problem(400, "SIZE_INVALID", f"there is more than the {most} bytes that were announced")
                pending.append(chunk)
                gathered += len(chunk)
                if gathered >= _GATHERED:
                    data, pending, gathered = pending, [], 0
                    written += await anyio.to_thread.run_sync(self._append, data)
        finally:
            if pending:
                with anyio.CancelScope(shield=True):
                    written += await anyio.to_thread.run_sync(self._append, pending)
        return written

    def _append(self, parts: list[bytes]) -> int:
        data = b"".join(parts)
        with self.path.open("r+b", buffering=0) as file:
            # What a failed write has left of itself counts for nothing.
            file.truncate(self.offset)
            file.seek(self.offset)
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
        self._hash.update(data)
        self.offset += len(data)
        return len(data)

    async def digest(self, algorithm: str) -> str:
        """Of all bytes so far."""
        if algorithm == self.algorithm:
            return f"{algorithm}:{self._hash.hexdigest()}"
        return await anyio.to_thread.run_sync(self._rehashed, algorithm)

    def _rehashed(self, algorithm: str) -> str:
        with self.path.open("rb") as file:
            return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"


class Uploads:
    def __init__(self, directory: Path) -> None:
        self._directory = directory / "uploads"
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sessions: dict[str, Upload] = {}
        self._recovering = anyio.Lock()

    def start(self, repository: str, algorithm: str = "sha256") -> Upload:
        path = self._directory / str(uuid.uuid4())
        path.touch(mode=0o600)
        self._note(path).write_text(f"{repository}\n{algorithm}\n")
        self._sessions[path.name] = upload = Upload(path, repository, algorithm)
        return upload

    async def find(self, repository: str, upload_id: str) -> Upload:
        """BLOB_UPLOAD_UNKNOWN if the repository has no such upload."""
        upload = self._sessions.get(upload_id)
        if upload is None and _ID.fullmatch(upload_id):
            async with self._recovering:
                upload = self._sessions.get(upload_id) or await anyio.to_thread.run_sync(self._recovered, upload_id)
        if upload is None or upload.repository != repository or upload.over:
            raise missing_upload()
        self._sessions[upload_id] = upload
        return upload

    def _recovered(self, upload_id: str) -> Upload | None:
        path = self._directory / upload_id
        try:
            repository, algorithm = self._note(path).read_text().split()
            upload = Upload(path, repository, algorithm)
            upload.recover()
        except (FileNotFoundError, ValueError):
            return None
        return upload

    def forget(self, upload: Upload) -> None:
        """Ends the session and deletes what is left of it."""
        upload.over = True
        self._sessions.pop(upload.id, None)
        upload.path.unlink(missing_ok=True)
        self._note(upload.path).unlink(missing_ok=True)

    @staticmethod
    def _note(path: Path) -> Path:
        return path.with_name(f"{path.name}.of")

    def expire(self, age: float) -> int:
        """Deletes the uploads that nobody has gone on with for `age` seconds; how many those were."""
        before, expired = time.time() - age, 0
        for entry in sorted(os.scandir(self._directory), key=lambda entry: entry.name):
            path = Path(entry.path)
            if entry.name.endswith(".of"):
                if not path.with_suffix("").exists():
                    path.unlink(missing_ok=True)
                continue
            try:
                if entry.stat().st_mtime >= before:
                    continue
                path.unlink()
            except FileNotFoundError:
                continue
            expired += 1
            self._note(path).unlink(missing_ok=True)
            if upload := self._sessions.pop(entry.name, None):
                upload.over = True
        return expired
