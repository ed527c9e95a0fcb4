"""`python -m fuzz TARGET [SECONDS|FILE]`: searches for an input that makes a target fail, or tries the one in a file.

What is found stays in `.fuzz/TARGET` of the checkout, so that the next search goes on from there.
"""

from __future__ import annotations

import hashlib
import sys
import time
import zlib
from pathlib import Path

_CORPUS = Path(__file__).resolve().parents[2] / ".fuzz"
_SECONDS = 60
_TIMED = 64
"""Seeds, and one of so many other inputs, are also looked at for how their time grows."""
_SHARE = 0.25
"""Of the time, at most about so much goes into that."""
_USAGE = "scripts/fuzz TARGET [SECONDS|FILE]"


def main(arguments: list[str]) -> int:
    if not 1 <= len(arguments) <= 2:
        return _help("")
    name, rest = arguments[0], arguments[1] if len(arguments) == 2 else str(_SECONDS)
    if rest.isdigit():
        return _search(name, int(rest))
    if not Path(rest).is_file():
        return _help(f"{rest} is neither a number of seconds nor a file")
    return _try(name, Path(rest))


def _help(wrong: str) -> int:
    from fuzz.targets import TARGETS

    print(f"{wrong}\n{_USAGE}; the targets are {', '.join(TARGETS)}".strip(), file=sys.stderr)
    return 2


def _try(name: str, file: Path) -> int:
    from fuzz.checks import check_growth
    from fuzz.targets import TARGETS

    if name not in TARGETS:
        return _help(f"there is no target {name}")
    data = file.read_bytes()
    TARGETS[name].feed(data)
    check_growth(TARGETS[name], data)
    print(f"{name}: {file} does not make it fail")
    return 0


def _search(name: str, seconds: int) -> int:
    """Ends the process, as libFuzzer does: 0 if nothing is found."""
    import atheris

    # What is imported within is watched for the paths that it takes.
    with atheris.instrument_imports(include=["hooper", *(path.name for path in _plugins())]):
        from fuzz.checks import check_growth
        from fuzz.targets import TARGETS
    if name not in TARGETS:
        return _help(f"there is no target {name}")
    target = TARGETS[name]
    corpus, failed = _CORPUS / name, _CORPUS / f"{name}-failed"
    for directory in (corpus, failed):
        directory.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds:
        (corpus / hashlib.sha1(seed).hexdigest()).write_bytes(seed)

    started, spent = time.monotonic(), 0.0

    def feed(data: bytes) -> None:
        nonlocal spent
        try:
            target.feed(data)
            looked_at = data in target.seeds or not zlib.crc32(data) % _TIMED
            if looked_at and spent <= _SHARE * (time.monotonic() - started):
                spent -= time.monotonic()
                check_growth(target, data)
                spent += time.monotonic()
        except Exception:
            print(f"\nscripts/fuzz: {name} fails; again: scripts/fuzz {name} {_kept(failed, data)}", file=sys.stderr)
            raise

    options = [
        f"-max_total_time={seconds}",
        "-max_len=8192",
        "-timeout=60",
        "-report_slow_units=20",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={failed}/", str(corpus)], feed)
    atheris.Fuzz()
    return 0


def _kept(directory: Path, data: bytes) -> Path:
    file = directory / f"crash-{hashlib.sha1(data).hexdigest()}"
    file.write_bytes(data)
    return file


def _plugins() -> list[Path]:
    return sorted(_CORPUS.parent.glob("plugins/*/hooper_*"))


sys.exit(main(sys.argv[1:]))
