"""Repositories of git, by the host's git program: a worker's work.

The program knows every transport, protocol and server, and submodules. Nothing of the host's own configuration, hooks,
helpers or keys takes part, and only transports over a network do.
"""

from __future__ import annotations

import os
import re
import shutil
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from hooper.api.errors import HooperError, InvalidArgument, NotFound, Unavailable, Unsupported
from hooper.content.fetching import without_secrets
from hooper.content.listing import DiskView, Row, rows_below
from hooper.content.mounting import move_root
from hooper.linux import syscalls

_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "GIT_ALLOW_PROTOCOL": "http:https:git:ssh",
    "LC_ALL": "C",
}
_PASSED_ON = (
    "PATH", "http_proxy", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY",
    "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip
_OPTIONS = (
    "-c", "core.hooksPath=/dev/null", "-c", "advice.detachedHead=false", "-c", "gc.auto=0",
    "-c", "maintenance.auto=false", "-c", "http.lowSpeedLimit=100", "-c", "http.lowSpeedTime=60",
    "-c", "init.defaultBranch=main", "-c", "core.fsync=none",
)  # fmt: skip
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHORT = re.compile(r"[0-9a-f]{4,63}")
_MISSING = ("couldn't find remote ref", "not our ref", "unadvertised", "bad revision", "Needed a single revision")


def _die_with_parent() -> None:
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, 9)


class _Git:
    def __init__(self, remote: str, place: Path, agent: str, known_hosts: str) -> None:
        """`place` holds the repository; `agent` is the socket of an SSH agent, or ""."""
        self._place, self.shown = place, without_secrets(remote)
        self.remote, secret = _without_password(remote)
        self._environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | _ENVIRONMENT
        self._environment["HOME"] = str(place)
        words = ["ssh", "-F", "/dev/null", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new"]
        words += ["-o", f"UserKnownHostsFile={known_hosts}", "-o", "IdentityFile=none"]
        words += ["-o", f"IdentityAgent={agent or 'none'}"]
        self._environment["GIT_SSH_COMMAND"] = " ".join(words)
        self._environment["GIT_SSH_VARIANT"] = "ssh"
        if secret:
            # Not on a command line, which everybody can read.
            self._environment |= {
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": f"http.{self.remote}.extraHeader",
                "GIT_CONFIG_VALUE_0": f"Authorization: Basic {secret}",
            }

    def run(self, *words: str) -> str:
        """What the program prints. HooperError, by what it complains of."""
        import subprocess

        try:
            done = subprocess.run(
                ["git", *_OPTIONS, *words], cwd=self._place, env=self._environment, capture_output=True,
                stdin=subprocess.DEVNULL, check=False, preexec_fn=_die_with_parent,
            )  # fmt: skip
        except FileNotFoundError:
            raise Unsupported(
                f"cannot fetch {self.shown}", "there is no git program on this host", "Install git, or send the files."
            ) from None
        if done.returncode:
            raise self._fault(words, done.stderr.decode(errors="replace").strip())
        return done.stdout.decode(errors="replace").strip()

    def _fault(self, words: Sequence[str], said: str) -> HooperError:
        what = f"cannot fetch {self.shown}"
        lines = [line.removeprefix("fatal: ").removeprefix("error: ") for line in said.splitlines() if line.strip()]
        told = (line for line in lines if "remote:" not in line and not line.startswith("warning: "))
        why = next(told, f"git {words[0]} failed")
        if any(text in said for text in _MISSING):
            return NotFound(what, why, "Name a branch, tag or commit that it has.")
        if "transport" in said and "not allowed" in said:
            return InvalidArgument(what, why, "Repositories come over http, https, git or ssh.")
        return Unavailable(what, why, "Check the URL, and that this host may read it.")


def _without_password(remote: str) -> tuple[str, str]:
    """The URL of a web server without user and password, and those as HTTP has them."""
    if not remote.startswith(("http://", "https://")):
        return remote, ""
    parts = urlsplit(remote)
    if parts.username is None:
        return remote, ""
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return bare, b64encode(pair.encode()).decode()


def check_remote(remote: str) -> None:
    """InvalidArgument for what is not reached over a network, or that a program would take for something else."""
    scheme = re.match(r"([A-Za-z0-9+.-]+)://", remote)
    scp = re.match(r"[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+:", remote)
    if not (scp or (scheme and scheme[1].lower() in ("http", "https", "git", "ssh"))) or "\0" in remote:
        raise InvalidArgument(
            f"cannot fetch {without_secrets(remote)}", "its transport is not allowed", "Use http, https, git or ssh."
        )


def _git(arguments: Mapping[str, Any], place: Path) -> _Git:
    check_remote(arguments["remote"])
    place.mkdir(mode=0o700, exist_ok=True)
    return _Git(arguments["remote"], place, arguments["agent"], arguments["known_hosts"])


# --- which commit -------------------------------------------------------------------------------------


def resolve(arguments: Mapping[str, Any], fds: Sequence[int]) -> str:
    """Worker: the commit that `ref` of `remote` is: a branch, a tag, a commit or its beginning, a full reference.

    "" is the default branch. `scratch` is an empty directory, `agent` the socket of an SSH agent or "". NotFound,
    InvalidArgument, Unavailable, Unsupported.
    """
    git, ref = _git(arguments, Path(arguments["scratch"])), arguments["ref"]
    if ref.startswith("-") or any(char in ref for char in " ~^:?*[\\\0\n"):
        raise InvalidArgument(f'invalid git reference "{ref}"', "no reference is called so", "Name a branch or a tag.")
    if _COMMIT.fullmatch(ref):
        return str(ref)
    names = ["HEAD"] if not ref else [ref, *(f"refs/{each}/{ref}" for each in ("heads", "tags"))]
    found = dict(_advertised(git.run("ls-remote", "--", git.remote, *names, *(f"{name}^{{}}" for name in names))))
    for name in names if not ref.startswith("refs/") else [ref]:
        if name.startswith("refs/") or name == "HEAD":
            commit = found.get(f"{name}^{{}}") or found.get(name)
            if commit:
                return commit
    if _SHORT.fullmatch(ref):
        return _lengthened(git, ref)
    raise NotFound(
        f"cannot fetch {git.shown}", f"it has no {ref or 'default branch'}", "Name a branch, tag or commit that it has."
    )


def _advertised(text: str) -> Iterable[tuple[str, str]]:
    for line in text.splitlines():
        commit, _, name = line.partition("\t")
        yield name, commit


def _lengthened(git: _Git, ref: str) -> str:
    """The commit that begins so, which only the history tells; of its files nothing is fetched."""
    git.run("init", "--quiet", "--bare")
    git.run(
        "fetch",
        "--quiet",
        "--filter=tree:0",
        "--",
        git.remote,
        "+refs/heads/*:refs/heads/*",
        "+refs/tags/*:refs/tags/*",
    )
    return git.run("rev-parse", "--verify", f"{ref}^{{commit}}")


# --- its files ----------------------------------------------------------------------------------------


class _Record(msgspec.Struct, array_like=True):
    rows: list[Row]


def check_out(arguments: Mapping[str, Any], fds: Sequence[int]) -> list[Row]:
    """Worker: puts the files of `commit` of `remote` into `place`/tree, unless they are there.

    `ref` is what the commit was found by; further `subdirectory`, `keep_git_dir`, `submodules`, `agent`. All files
    have the time of the commit. Returns the rows of the tree, sorted. Errors as `resolve`.
    """
    place = Path(arguments["place"])
    if not (place / "journal").exists():
        try:
            return msgspec.msgpack.decode((place / "record").read_bytes(), type=_Record).rows
        except (OSError, msgspec.DecodeError):
            pass  # it is not here yet, or not complete
    for name in ("record", "journal"):
        (place / name).unlink(missing_ok=True)
    for name in ("work", "tree", "aside"):
        shutil.rmtree(place / name, ignore_errors=True)
    work = place / "work"
    git, commit = _git(arguments, work), arguments["commit"]
    git.run("init", "--quiet")
    git.run("remote", "add", "origin", git.remote)
    _fetch(git, commit, arguments["ref"])
    git.run("checkout", "--quiet", "--force", "--detach", commit)
    if arguments["submodules"] and (work / ".gitmodules").is_file():
        _submodules(git)
    seconds = int(git.run("show", "--no-patch", "--format=%ct", commit))
    wanted = _below(work, arguments["subdirectory"], git.shown)
    _settle(git, work, keep=arguments["keep_git_dir"])
    if wanted != work and arguments["keep_git_dir"]:
        os.rename(work / ".git", wanted / ".git")
    os.rename(wanted, place / "tree")
    shutil.rmtree(work, ignore_errors=True)
    return _listed(place, seconds)


def _fetch(git: _Git, commit: str, ref: str) -> None:
    """The one commit if the server gives it, else what it was found by, else everything."""
    for wanted in dict.fromkeys((commit, ref or "HEAD")):
        try:
            git.run("fetch", "--quiet", "--depth=1", "--no-tags", "origin", wanted)
            if git.run("rev-parse", "FETCH_HEAD^{commit}") == commit:
                return
        except (NotFound, Unavailable):
            continue
    git.run("fetch", "--quiet", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*")


def _submodules(git: _Git) -> None:
    words = ("submodule", "update", "--init", "--recursive", "--quiet", "--force")
    try:
        git.run(*words, "--depth=1")
    except (NotFound, Unavailable):
        git.run(*words)  # a server that gives no single commits


def _below(work: Path, subdirectory: str, shown: str) -> Path:
    """A directory of the working tree, where links lead only if they lead to one of its own."""
    wanted = os.path.realpath(work / subdirectory.strip("/"))
    top = os.path.realpath(work)
    inside = wanted == top or wanted.startswith(f"{top}/")
    if not inside or not os.path.isdir(wanted) or f"{wanted}/".startswith(f"{top}/.git/"):
        raise InvalidArgument(f"cannot use {subdirectory} of {shown}", "it is no directory there", "Check its name.")
    return work if wanted == top else Path(wanted)


def _settle(git: _Git, work: Path, *, keep: bool) -> None:
    """Leaves of what git needs nothing, or what is the same each time."""
    if not keep:
        for directory, directories, files in os.walk(work):
            if ".git" in directories:
                directories.remove(".git")
                shutil.rmtree(os.path.join(directory, ".git"))
            if ".git" in files:
                os.unlink(os.path.join(directory, ".git"))
        return
    # An index without what stat(2) said of the files, and nothing of when it was fetched.
    git.run("read-tree", "HEAD")
    for name in ("FETCH_HEAD", "ORIG_HEAD", "description"):
        (work / ".git" / name).unlink(missing_ok=True)
    for name in ("hooks", "logs", "branches"):
        shutil.rmtree(work / ".git" / name, ignore_errors=True)


def _listed(place: Path, seconds: int) -> list[Row]:
    """The rows of the tree, which are recorded as well, all of it with that time."""
    tree = place / "tree"
    tree.chmod(0o755)
    for directory, directories, files in os.walk(tree, topdown=False):
        for name in (*directories, *files):
            os.utime(os.path.join(directory, name), (seconds, seconds), follow_symlinks=False)
    os.utime(tree, (seconds, seconds))
    above = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    move_root(str(tree))
    rows = sorted(rows_below(DiskView(), b""))
    fd = os.open("record.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=above)
    with os.fdopen(fd, "wb") as file:
        file.write(msgspec.msgpack.encode(_Record(rows)))
    os.replace("record.new", "record", src_dir_fd=above, dst_dir_fd=above)
    return rows
