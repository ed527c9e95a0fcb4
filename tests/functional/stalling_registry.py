"""A registry in this process with one image, whose layer stops in the middle until it is told to go on."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import support


class StallingRegistry:
    """`stalled` is set when a client has half of the layer; `go` lets all have the rest. `starts`: from which byte on
    the layer was asked for, each time."""

    def __init__(self, layer: bytes) -> None:
        self.stalled, self.go = threading.Event(), threading.Event()
        self.starts: list[int] = []
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Env": ["PATH=/bin"]},
                "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
            }
        ).encode()
        media = "application/vnd.oci.image."
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": f"{media}manifest.v1+json",
                "config": {"mediaType": f"{media}config.v1+json", "digest": _digest(config), "size": len(config)},
                "layers": [{"mediaType": f"{media}layer.v1.tar", "digest": _digest(layer), "size": len(layer)}],
            }
        ).encode()
        self.blobs = {_digest(config): config, _digest(layer): layer}
        self.layer, self.manifest = _digest(layer), manifest
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.image = f"127.0.0.1:{self.server.server_port}/base:1"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                name = self.path.rpartition("/")[2]
                if "/manifests/" in self.path:
                    self._answer(registry.manifest, "application/vnd.oci.image.manifest.v1+json")
                elif name in registry.blobs:
                    self._answer(registry.blobs[name], "application/octet-stream", stalls=name == registry.layer)
                else:
                    self._answer(b"{}", "application/json")

            do_HEAD = do_GET

            def _answer(self, body: bytes, kind: str, *, stalls: bool = False) -> None:
                start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
                self.send_response(206 if start else 200)
                self.send_header("Content-Type", kind)
                self.send_header("Docker-Content-Digest", _digest(body))
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
                self.send_header("Content-Length", str(len(body) - start))
                self.end_headers()
                if self.command == "HEAD":
                    return
                half = max(len(body) // 2, start) if stalls else len(body)
                if stalls:
                    registry.starts.append(start)
                try:
                    self.wfile.write(body[start:half])
                    self.wfile.flush()
                    if stalls:
                        registry.stalled.set()
                        registry.go.wait(60)
                    self.wfile.write(body[half:])
                except OSError:
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                """Nobody reads it."""

        return Handler


@contextmanager
def stalling_registry(layer: bytes = b"") -> Iterator[StallingRegistry]:
    """With an image of that layer, or busybox."""
    registry = StallingRegistry(layer or support.busybox_tar())
    thread = threading.Thread(target=registry.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        registry.go.set()
        registry.server.shutdown()
        registry.server.server_close()
        thread.join()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
