"""The system calls that a container may make by default: the same as under Docker.

Everything that is not named here fails with EPERM, or with ENOSYS if it is newer than all that are.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from hooper.api import oci

_ALLOW, _ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"
_ENOSYS = 38

_FILES = """
access brk cachestat chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat
faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64
fdatasync flock fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents
getdents64 ioctl lchown lchown32 link linkat listmount _llseek lseek lstat lstat64 mkdir mkdirat mknod mknodat
name_to_handle_at newfstatat open openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read
readahead readlink readlinkat readv rename renameat renameat2 rmdir sendfile sendfile64 splice stat stat64 statfs
statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs tee truncate truncate64 umask unlink unlinkat
utime utimensat utimensat_time64 utimes vmsplice write writev
"""
_ATTRIBUTES = """
fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat llistxattr
lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat
"""
_WAITING = """
epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2
fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents
io_pgetevents io_pgetevents_time64 io_setup io_submit _newselect poll ppoll ppoll_time64 pselect6 pselect6_time64
select signalfd signalfd4
"""
_MEMORY = """
madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2 mprotect mremap
mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages
"""
_PROCESSES = """
capget capset execve execveat exit exit_group fork get_robust_list get_thread_area getcpu getegid getegid32 geteuid
geteuid32 getgid getgid32 getgroups getgroups32 getpgid getpgrp getpid getppid getpriority getresgid getresgid32
getresuid getresuid32 getrlimit getrusage getsid gettid getuid getuid32 ioprio_get ioprio_set kill landlock_add_rule
landlock_create_ruleset landlock_restrict_self pause pidfd_open pidfd_send_signal prctl prlimit64 process_mrelease
restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo seccomp set_robust_list set_thread_area set_tid_address
setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setpgid setpriority setregid setregid32
setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setuid setuid32 sigaltstack
sigprocmask sigreturn tgkill times tkill ugetrlimit uretprobe vfork wait4 waitid waitpid
"""
_SCHEDULING = """
sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler
sched_yield
"""
_TIME = """
adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create timer_delete
timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
timerfd_gettime64 timerfd_settime timerfd_settime64
"""
_COMMUNICATION = """
accept accept4 bind connect futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake getpeername getsockname
getsockopt ipc listen mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd recv recvfrom recvmmsg recvmmsg_time64 recvmsg semctl semget
semop semtimedop semtimedop_time64 send sendmmsg sendmsg sendto setsockopt shmat shmctl shmdt shmget shutdown
socketcall socketpair
"""
_SYSTEM = "getrandom riscv_hwprobe sysinfo uname"

_PLAIN = " ".join(
    (_FILES, _ATTRIBUTES, _WAITING, _MEMORY, _PROCESSES, _SCHEDULING, _TIME, _COMMUNICATION, _SYSTEM)
).split()

_BY_CAPABILITY = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYS_ADMIN": """
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr
        lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl
        quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare
    """,
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYSLOG": "syslog",
}
_BY_ARCHITECTURE = {
    "amd64": "arch_prctl modify_ldt",
    "386": "modify_ldt",
    "arm": "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
    "arm64": "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
    "ppc64le": "swapcontext sync_file_range2",
    "s390x": "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr",
    "riscv64": "riscv_flush_icache",
}
_ARCHITECTURES = {
    # Without x32, whose calls then fail with ENOSYS: hardly a kernel has it, and it is a third of the filter.
    "amd64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
    "386": ["SCMP_ARCH_X86"],
    "arm64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
    "arm": ["SCMP_ARCH_ARM"],
    "ppc64le": ["SCMP_ARCH_PPC64LE"],
    "s390x": ["SCMP_ARCH_S390X", "SCMP_ARCH_S390"],
    "riscv64": ["SCMP_ARCH_RISCV64"],
    "loong64": ["SCMP_ARCH_LOONGARCH64"],
}

_NEW_NAMESPACES = 0x7E020000
"""All CLONE_NEW* flags of clone(2) but time's."""
_AF_ALG, _AF_VSOCK = 38, 40
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
"""PER_LINUX, PER_LINUX32, both with UNAME26, and the query."""


def default_profile(capabilities: Iterable[str], architecture: str, kernel: tuple[int, int]) -> oci.Seccomp:
    """The rules for a container with these capabilities ("CAP_CHOWN"…).

    `architecture` is in Go's words (amd64), `kernel` (major, minor).
    """
    caps = set(capabilities)
    names = list(_PLAIN)
    # Before 4.8 ptrace could lift the filter (seccomp(2)).
    if kernel >= (4, 8):
        names += ["process_vm_readv", "process_vm_writev", "ptrace"]
    names += _BY_ARCHITECTURE.get(architecture, "").split()
    for capability, calls in _BY_CAPABILITY.items():
        if capability in caps:
            names += calls.split()
    return oci.Seccomp(
        default_action=_ERRNO,
        default_errno_ret=1,
        architectures=_ARCHITECTURES.get(architecture, []),
        syscalls=[
            oci.Syscall(names=list(dict.fromkeys(names)), action=_ALLOW),
            *_sockets(),
            *(_when("personality", 0, "SCMP_CMP_EQ", value) for value in _PERSONALITIES),
            *([] if "CAP_SYS_ADMIN" in caps else _clone(architecture)),
        ],
    )


@lru_cache(maxsize=64)
def packed_profile(capabilities: tuple[str, ...], architecture: str, kernel: tuple[int, int]) -> bytes:
    """The same as `oci.Linux.seccomp` has it."""
    return default_profile(capabilities, architecture, kernel).packed()


def _when(name: str, index: int, op: str, value: int, value_two: int = 0) -> oci.Syscall:
    arg = oci.SyscallArg(index=index, value=value, value_two=value_two, op=op)
    return oci.Syscall(names=[name], action=_ALLOW, args=[arg])


def _sockets() -> list[oci.Syscall]:
    return [
        _when("socket", 0, "SCMP_CMP_LT", _AF_ALG),
        _when("socket", 0, "SCMP_CMP_EQ", _AF_ALG + 1),
        _when("socket", 0, "SCMP_CMP_GT", _AF_VSOCK),
    ]


def _clone(architecture: str) -> list[oci.Syscall]:
    """Processes and threads, but no namespaces. clone3's flags cannot be looked at: C libraries fall back to clone."""
    index = 1 if architecture == "s390x" else 0
    return [
        _when("clone", index, "SCMP_CMP_MASKED_EQ", _NEW_NAMESPACES),
        oci.Syscall(names=["clone3"], action=_ERRNO, errno_ret=_ENOSYS),
    ]
