"""COPY and ADD: from the instruction to the steps of the graph. (Dockerfile reference: COPY, ADD.)"""

from __future__ import annotations

import itertools
import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote, urlsplit

from hooper.api.build_graph import Copy, CopySource, HttpSource, InlineFile, InlineSource, Node
from hooper.api.errors import InvalidArgument
from hooper.api.git_url import GitUrl, check_commit, parse_git_url
from hooper.api.patterns import Patterns, Wildcards
from hooper_builder_dockerfile import instructions as ins
from hooper_builder_dockerfile.faults import Fault
from hooper_builder_dockerfile.places import Place, git_source
from hooper_builder_dockerfile.run_mounts import clean
from hooper_builder_dockerfile.runs import file_name
from hooper_builder_dockerfile.scope import Scope
from hooper_builder_dockerfile.words import expand_document

_OWNER = re.compile(r"[^:\s]+(?::[^:\s]+)?\Z|:[^:\s]+\Z")
_SYMBOLIC = re.compile(r"[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+(?:,[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+)*\Z")
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}\Z")
_MOST_MODE = 0o7777


@dataclass(frozen=True)
class _Source:
    source: CopySource
    fetched: bool = False
    """A file from a server, which is not unpacked unless a flag says so."""


def transfer_steps(
    step: ins.Transfer, scope: Scope, place: Place, *, title: str, fresh: bool
) -> tuple[Sequence[Copy], str]:
    """The nodes, of which each stands on the one before, and the history's words. `place` is that of --from.

    There is one node, unless an ADD has both local files and such from servers. Fault for what cannot be.
    """
    return _Transfer(step, scope, place, title).steps(fresh)


class _Transfer:
    def __init__(self, step: ins.Transfer, scope: Scope, place: Place, title: str) -> None:
        self._step, self._scope, self._place, self._title = step, scope, place, title
        self._origin = step.location.origin()
        self._chown, self._chmod = scope.expand(step.chown), scope.expand(step.chmod)
        self._checksum = scope.expand(step.checksum)
        self._destination = _destination(scope.expand(step.destination), scope)

    def steps(self, fresh: bool) -> tuple[Sequence[Copy], str]:
        self._check_flags()
        words = [self._scope.expand(word) for word in self._step.sources]
        found = [*self._files(words), *self._documents()]
        if len(found) > 1 and not self._destination.endswith("/"):
            raise Fault(
                f"When using {self._step.keyword} with more than one source file, the destination must be a directory "
                "and end with a /",
                f"Write {self._step.destination}/",
                self._step.destination,
            )
        steps: list[Copy] = []
        base: Node = self._scope.node
        for unpack, group in itertools.groupby(found, self._unpacks):
            steps.append(self._copy(base, [each.source for each in group], unpack, fresh))
            base = steps[-1]
        return steps, self._scope.nothing_run(self._words(words))

    def _unpacks(self, source: _Source) -> bool:
        if self._step.unpack is None:
            return self._step.keyword == "ADD" and not source.fetched
        return self._step.unpack

    def _copy(self, base: Node, sources: Sequence[CopySource], unpack: bool, fresh: bool) -> Copy:
        step = self._step
        return Copy(
            name=self._title,
            origin=self._origin,
            fresh=fresh,
            base=base,
            sources=tuple(sources),
            destination=self._destination,
            chown=self._chown,
            chmod=self._chmod,
            keep_owner=bool(step.source_stage) and self._place.layered and not self._chown,
            unpack=unpack,
            parents=step.parents,
            exclude=step.exclude,
            link=step.link,
        )

    def _words(self, sources: Sequence[str]) -> str:
        flags = "--parents " if self._step.parents else ""
        flags += f"--chown={self._chown} " if self._chown else ""
        flags += f"--chmod={self._chmod} " if self._chmod else ""
        shown = [*sources, *(f"<<{document.name}" for document in self._step.heredocs)]
        return f"{self._step.keyword} {flags}{' '.join(shown)} in {self._destination} "

    # --- flags ----------------------------------------------------------------------------------------

    def _check_flags(self) -> None:
        if self._chown and not _OWNER.match(self._chown):
            raise Fault(
                f"invalid chown string: {self._chown!r}", "Write --chown=USER[:GROUP], by name or number.", self._chown
            )
        if self._chmod and not _is_mode(self._chmod):
            raise Fault(
                f"invalid chmod parameter: {self._chmod!r}. It should be an octal mode between 0 and 07777, "
                "or symbolic",
                "Write --chmod=0644 or --chmod=u=rwX,go=rX.",
                self._chmod,
            )
        for pattern in self._step.exclude:
            _check_pattern(partial(Patterns, [pattern]), pattern)
        if self._checksum and len(self._step.sources) + len(self._step.heredocs) > 1:
            raise Fault("checksum can't be specified for multiple sources", "Write one ADD for each.", "--checksum")
        if self._checksum and self._step.heredocs:
            raise _unverifiable()

    # --- sources --------------------------------------------------------------------------------------

    def _files(self, words: Sequence[str]) -> Iterator[_Source]:
        for word in words:
            git = self._git_url(word)
            url = git is None and word.startswith(("http://", "https://"))
            if self._step.keyword == "COPY" and (git or url):
                what = "git ref" if git else "URL"
                raise Fault(f"source can't be a {what} for COPY: {word}", "ADD fetches it.", word)
            if self._checksum and not git and not url:
                raise _unverifiable()
            if git is not None:
                yield self._repository(git)
            elif url:
                yield self._download(word)
            else:
                yield self._local(word)

    @staticmethod
    def _git_url(word: str) -> GitUrl | None:
        try:
            return parse_git_url(word)
        except InvalidArgument as error:
            raise Fault(f"{error.what}: {error.why}", error.remedy, word) from error

    def _repository(self, url: GitUrl) -> _Source:
        wanted, kept = self._step.keep_git_dir, url.keep_git_dir
        if wanted is not None and kept is not None and wanted != kept:
            raise Fault("inconsistent keep-git-dir configuration: the flag and the URL differ", "Delete one of them.")
        if self._checksum and url.checksum and self._checksum != url.checksum:
            raise Fault(f'checksum mismatch "{self._checksum}" != "{url.checksum}"', "Delete one of them.")
        if self._checksum:
            try:
                check_commit(self._checksum)
            except InvalidArgument as error:
                raise Fault(f"{error.what}: {error.why}", error.remedy, self._checksum) from error
        node = git_source(url, self._title, keep=bool(wanted), checksum=self._checksum, origin=self._origin)
        return _Source(CopySource(node=node, paths=("",), literal=True, shown=url.remote))

    def _download(self, url: str) -> _Source:
        try:
            name = posixpath.basename(unquote(urlsplit(url).path))
        except ValueError as error:
            raise Fault(f"invalid URL {url}: {error}", "Write http://HOST/PATH.", url) from error
        if name in ("", ".", ".."):
            if self._destination.endswith("/"):
                raise Fault(f"cannot determine filename for source {url}", "End the destination with a file name.", url)
            name = posixpath.basename(self._destination)
        if self._checksum and not _CHECKSUM.match(self._checksum):
            raise Fault(f"unsupported checksum {self._checksum!r}", "Write --checksum=sha256:DIGEST.", self._checksum)
        node = HttpSource(
            name=self._title, origin=self._origin, url=url, checksum=self._checksum, filename=name,
        )  # fmt: skip
        return _Source(CopySource(node=node, paths=(name,), literal=True, shown=url), fetched=True)

    def _local(self, word: str) -> _Source:
        root, pivot, rest = word.partition("/./") if self._step.parents else (word, "", "")
        path = self._inside(root, word)
        if pivot:
            path = f"{path or '.'}/./{self._inside(rest, word)}"
        _check_pattern(partial(Wildcards, path), word)
        return _Source(CopySource(node=self._place.node, paths=(path,), shown=self._place.shown))

    def _inside(self, path: str, word: str) -> str:
        """Relative and clean. Only an image ends at its root, whatever ".." says."""
        normal = posixpath.normpath(path.lstrip("/") or ".")
        if not self._step.source_stage and (normal == ".." or normal.startswith("../")):
            raise Fault(
                f"{self._step.keyword} failed: forbidden path outside the build context: {word}",
                "Copy it into the context, or build from the directory above.",
                word,
            )
        return clean(normal).lstrip("/")

    def _documents(self) -> Iterator[_Source]:
        for document in self._step.heredocs:
            content = document.content
            if document.expand:
                content = expand_document(content, self._scope.lookup)
            name = file_name(document.name)
            file = InlineFile(name, content.encode("utf-8", "surrogateescape"))
            node = InlineSource(name="[internal] preparing inline document", origin=self._origin, files=(file,))
            yield _Source(CopySource(node=node, paths=(name,), literal=True, shown="here-document"))


def _check_pattern(made: Callable[[], object], word: str) -> None:
    try:
        made()
    except InvalidArgument as error:
        raise Fault(error.what, error.remedy, word) from error


def _unverifiable() -> Fault:
    return Fault("checksum requires HTTP(S) or Git sources", "Delete the flag.", "--checksum")


def _destination(text: str, scope: Scope) -> str:
    """Absolute; it ends in "/" if it is said to be a directory."""
    if not text:
        raise Fault("the destination is empty after expansion", "Give the variable in it a value.")
    directory = text.endswith(("/", "/.", "/..")) or text in (".", "..")
    path = clean(posixpath.join("/", scope.config.working_dir, text))
    return f"{path}/" if directory and path != "/" else path


def _is_mode(text: str) -> bool:
    if text.isascii() and text.isdigit():
        return len(text) < 10 and not text.strip("01234567") and int(text, 8) <= _MOST_MODE
    return bool(_SYMBOLIC.match(text))
