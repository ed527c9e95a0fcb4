"""The default profile, and the tables behind capabilities."""

from __future__ import annotations

import pytest

from hooper.api.errors import InvalidArgument
from hooper.api.oci import Seccomp, Syscall
from hooper.linux import capabilities, seccomp
from hooper.linux.host import kernel_version
from hooper.linux.seccomp_default import default_profile

KERNEL = (6, 1)


def allowed(profile: Seccomp) -> set[str]:
    return {
        name for rule in profile.syscalls if rule.action == "SCMP_ACT_ALLOW" and not rule.args for name in rule.names
    }


def test_the_defaults() -> None:
    names = allowed(default_profile(capabilities.DEFAULT_CAPABILITIES, "amd64", KERNEL))
    assert {"read", "execve", "chroot", "arch_prctl", "openat2", "ptrace"} <= names
    assert not {"mount", "unshare", "bpf", "reboot", "clone", "clone3", "keyctl", "add_key", "io_uring_setup"} & names


@pytest.mark.parametrize(
    ("capability", "calls"),
    [
        ("CAP_SYS_ADMIN", {"mount", "unshare", "clone", "clone3", "setns", "bpf"}),
        ("CAP_SYS_TIME", {"clock_settime", "settimeofday"}),
        ("CAP_SYS_MODULE", {"init_module"}),
        ("CAP_BPF", {"bpf"}),
    ],
)
def test_calls_that_go_with_a_capability(capability: str, calls: set[str]) -> None:
    assert not calls & allowed(default_profile([], "amd64", KERNEL))
    assert calls <= allowed(default_profile([capability], "amd64", KERNEL))


def test_architectures_and_kernels() -> None:
    arm = default_profile([], "arm64", KERNEL)
    assert arm.architectures == ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    assert "arch_prctl" not in allowed(arm)
    assert "ptrace" not in allowed(default_profile([], "amd64", (4, 7)))


def test_the_same_profile_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = seccomp.compile_filter(default_profile([], "amd64", KERNEL).packed())
    monkeypatch.setattr(seccomp, "_library", lambda: pytest.fail("compiled again"))
    assert seccomp.compile_filter(default_profile([], "amd64", KERNEL).packed()) is first


@pytest.mark.parametrize(
    "profile",
    [
        Seccomp(default_action="SCMP_ACT_SMILE"),
        Seccomp(default_action="SCMP_ACT_ALLOW", architectures=["SCMP_ARCH_PDP11"]),
        Seccomp(default_action="SCMP_ACT_ALLOW", syscalls=[Syscall(names=["read"], action="SCMP_ACT_SMILE")]),
    ],
)
def test_mistakes_are_named(profile: Seccomp) -> None:
    with pytest.raises(InvalidArgument, match="unknown seccomp"):
        seccomp.compile_filter(profile.packed())


def test_capabilities() -> None:
    assert capabilities.NUMBERS["CAP_SYS_ADMIN"] == 21
    assert capabilities.NUMBERS["CAP_CHECKPOINT_RESTORE"] == 40
    assert capabilities.mask(["CAP_CHOWN", "CAP_KILL", "CAP_UNHEARD_OF"]) == 0b100001
    assert capabilities.mask(capabilities.DEFAULT_CAPABILITIES) == 0xA80425FB


@pytest.mark.parametrize(("release", "version"), [("6.1.0-18-amd64", (6, 1)), ("5.15", (5, 15)), ("6.9-rc1", (6, 9))])
def test_kernel_versions(release: str, version: tuple[int, int]) -> None:
    assert kernel_version(release) == version
