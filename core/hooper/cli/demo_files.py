"""The files of the demo: a shell and a Python out of this host, with the libraries they load."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

SERVER = """\
import _socket
page = b"".join(iter(lambda f=open("/page", "rb", 0): f.read(4096), b""))
server = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
server.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
server.bind(("0.0.0.0", 80))
server.listen(8)
while True:
    fd, _ = server._accept()
    connection = _socket.socket(fileno=fd)
    connection.recv(4096)
    connection.send(b"HTTP/1.0 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(page) + page)
    connection.close()
"""

DOCKERFILE = """\
FROM {base}
COPY runtime/ /
COPY server.py /server.py
ARG TEXT
RUN echo "$TEXT" > /page
EXPOSE 80
CMD ["{python}", "-I", "-S", "/server.py"]
"""


def base_image() -> bytes:
    """The tar of a file system with /bin/sh and what it needs."""
    files = {"bin/sh": os.path.realpath("/bin/sh")}
    files |= {path.lstrip("/"): os.path.realpath(path) for path in libraries("/bin/sh")}
    return packed(files, folders=("tmp", "proc", "sys", "dev", "etc"))


def build_context(base: str, page: str) -> bytes:
    """A context with a Dockerfile that adds a small web server and this Python to run it."""
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    needed = {python, *libraries(python), *modules(python)}
    files = {f"runtime{path}": os.path.realpath(path) for path in needed}
    dockerfile = DOCKERFILE.format(base=base, python=python).replace("ARG TEXT", f'ARG TEXT="{page}"')
    return packed(files, texts={"Dockerfile": dockerfile, "server.py": SERVER})


def libraries(program: str) -> list[str]:
    """The shared libraries that a program loads and its loader, as the loader itself tells them."""
    environment = {"LD_TRACE_LOADED_OBJECTS": "1", "PATH": "/usr/bin:/bin"}
    told = subprocess.run([program], env=environment, capture_output=True, text=True, check=False).stdout
    words = [line.split("=>")[-1].split() for line in told.splitlines()]
    return [line[0] for line in words if line and line[0].startswith("/")]


def modules(python: str) -> list[str]:
    """The files that this Python reads to start and to import sockets."""
    code = (
        "import sys, _socket, encodings.utf_8, encodings.ascii, encodings.latin_1\n"
        "print(*(m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', None)), sep='\\n')"
    )
    told = subprocess.run([python, "-I", "-S", "-c", code], capture_output=True, text=True, check=True).stdout
    found = [line for line in told.splitlines() if os.path.isfile(line)]
    extensions = [library for path in found if path.endswith(".so") for library in libraries_of_extension(python, path)]
    landmarks = [path for path in _landmarks(found) if os.path.exists(path)]
    return [*found, *extensions, *landmarks]


def libraries_of_extension(python: str, path: str) -> list[str]:
    """What a module in C loads: the loader is asked to preload it."""
    environment = {"LD_TRACE_LOADED_OBJECTS": "1", "LD_PRELOAD": path}
    told = subprocess.run([python], env=environment, capture_output=True, text=True, check=False).stdout
    return [w for line in told.splitlines() for w in line.split() if w.startswith("/") and os.path.isfile(w)]


def _landmarks(found: Iterable[str]) -> set[str]:
    """`os.py` is how Python finds its own library."""
    return {str(Path(path).parent.parent / "os.py") for path in found if "/encodings/" in path}


def packed(files: dict[str, str], folders: Iterable[str] = (), texts: dict[str, str] | None = None) -> bytes:
    """A tar of the host's files under new names, empty folders, and texts."""
    buffer, made = io.BytesIO(), set[str]()
    with tarfile.open(fileobj=buffer, mode="w") as archive:

        def folder(name: str) -> None:
            if name and name != "." and name not in made:
                folder(os.path.dirname(name))
                made.add(name)
                entry = tarfile.TarInfo(name)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)

        for name in folders:
            folder(name)
        for name, source in sorted(files.items()):
            folder(os.path.dirname(name))
            entry = archive.gettarinfo(source, name)
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            with open(source, "rb") as file:
                archive.addfile(entry, file)
        for name, text in (texts or {}).items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()
