"""Archives and directories as contexts of builds, and a web server to fetch from."""

from __future__ import annotations

import http.server
import io
import os
import tarfile
import threading
from contextlib import contextmanager


def leftovers(contexts):
    """What is there that belongs to no key."""
    root = contexts._directory
    return sorted(path.name for path in root.glob("*/.*")) + sorted(path.name for path in root.glob(".*"))


def member(name, content=b"", **more):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in more.items():
        setattr(info, key, value)
    return info, io.BytesIO(content)


def tar(*members, mode="w"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=tarfile.PAX_FORMAT) as archive:
        for info, content in members:
            archive.addfile(info, content if info.isreg() else None)
    return buffer.getvalue()


@contextmanager
def written(tmp_path, data):
    path = tmp_path / "archive.tar"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def content(place):
    """Every file of a directory with what a build may see of it."""
    found = {}
    for path in sorted(place.rglob("*")):
        status = path.lstat()
        data = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        # The time of a link is set as well, but that of a link to it changes nothing.
        found[str(path.relative_to(place))] = data, status.st_mode, status.st_mtime_ns, status.st_nlink
    return found


class Server:
    """A web server whose files the test decides on."""

    def __init__(self):
        self.files, self.seen, self.headers = {}, [], {}
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.seen.append((self.path, dict(self.headers)))
                status, headers, body = server.answer(self.path, self.headers)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in headers:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *words):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, path, headers):
        if path not in self.files:
            return 404, {}, b""
        given, body = self.files[path]
        if isinstance(given, int):
            return given, body, b""
        if "ETag" in given and headers.get("If-None-Match") == given["ETag"]:
            return 304, given, b""
        if "Last-Modified" in given and headers.get("If-Modified-Since") == given["Last-Modified"]:
            return 304, given, b""
        return 200, given, body

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def served():
    made = Server()
    yield made
    made.close()
