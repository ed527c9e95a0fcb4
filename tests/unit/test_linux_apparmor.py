"""AppArmor, on files and programs in place of the kernel's and its parser."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from hooper.api.errors import Unsupported
from hooper.linux import apparmor


def kernel(root: Path, enabled: str, profiles: str) -> str:
    parameters, security = root / "sys/module/apparmor/parameters", root / "sys/kernel/security/apparmor"
    parameters.mkdir(parents=True)
    (parameters / "enabled").write_text(enabled)
    security.mkdir(parents=True)
    (security / "profiles").write_text(profiles)
    return f"{root}/"


def program(directory: Path, *lines: str) -> str:
    path = directory / "parser"
    path.write_text("\n".join(("#!/bin/sh", *lines)))
    path.chmod(0o755)
    return str(path)


def test_whether_the_kernel_confines_by_it(tmp_path: Path) -> None:
    assert apparmor.is_enabled(kernel(tmp_path / "on", "Y\n", ""))
    assert not apparmor.is_enabled(kernel(tmp_path / "off", "N\n", ""))
    assert not apparmor.is_enabled(f"{tmp_path}/none/")
    bare = kernel(tmp_path / "bare", "Y\n", "")
    shutil.rmtree(f"{bare}sys/kernel")
    assert not apparmor.is_enabled(bare)


def test_which_profiles_it_knows(tmp_path: Path) -> None:
    root = kernel(tmp_path, "Y\n", "/usr/bin/man (enforce)\nhooper-default (enforce)\na (b) (complain)\n")
    assert all(apparmor.is_loaded(name, root) for name in ("hooper-default", "/usr/bin/man", "a (b)"))
    assert not any(apparmor.is_loaded(name, root) for name in ("hooper", "a", "(enforce)"))
    assert not apparmor.is_loaded("hooper-default", f"{tmp_path}/none/")


def test_the_parser_is_given_the_profile(tmp_path: Path) -> None:
    apparmor.load(program(tmp_path, f'echo "$@" > {tmp_path}/arguments', f"cat > {tmp_path}/profile"))
    assert (tmp_path / "arguments").read_text() == "--replace --skip-cache --quiet\n"
    text = (tmp_path / "profile").read_text()
    assert "profile hooper-default flags=(attach_disconnected,mediate_deleted) {" in text
    parser = shutil.which("apparmor_parser")
    if parser:
        subprocess.run([parser, "--skip-kernel-load", "--skip-cache"], input=text, text=True, check=True)


def test_why_the_profile_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="no/such is missing") as caught:
        apparmor.load("no/such")
    assert "Install apparmor" in caught.value.remedy
    with pytest.raises(Unsupported, match="Permission denied"):
        apparmor.load(str(tmp_path))
    with pytest.raises(Unsupported, match="syntax error in line 1"):
        apparmor.load(program(tmp_path, "cat > /dev/null", "echo syntax error in line 1 >&2", "exit 1"))
    with pytest.raises(Unsupported, match="ended with 7"):
        apparmor.load(program(tmp_path, "cat > /dev/null", "exit 7"))


@pytest.mark.parametrize("known", [True, False])
def test_a_profile_that_the_kernel_has_from_elsewhere_serves(monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    def fail() -> None:
        raise Unsupported("loading")

    monkeypatch.setattr(apparmor, "_default", "")
    monkeypatch.setattr(apparmor, "is_enabled", lambda: True)
    monkeypatch.setattr(apparmor, "is_loaded", lambda _: known)
    monkeypatch.setattr(apparmor, "load", fail)
    if known:
        apparmor.prepare()
        assert apparmor.default() == "hooper-default"
    else:
        with pytest.raises(Unsupported):
            apparmor.prepare()
        assert apparmor.default() == ""


def test_there_is_no_default_where_there_is_no_apparmor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apparmor, "is_enabled", lambda: False)
    apparmor.prepare()
    assert apparmor.default() == ""
