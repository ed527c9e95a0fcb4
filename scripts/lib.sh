# Shared by the scripts here: installs what a command needs on a bare Debian, as root.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${HOOPER_VENV:-$root/.venv}

say() { echo "$(basename "$0"): $*" >&2; }

# need PROGRAM PACKAGE …: installs the packages whose program is missing.
need() {
    local missing=()
    while [ $# -gt 0 ]; do
        command -v "$1" >/dev/null 2>&1 || [ -e "$1" ] || missing+=("$2")
        shift 2
    done
    [ ${#missing[@]} = 0 ] && return
    if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
        say "missing packages: ${missing[*]}; install them, or run this as root on Debian"
        return 1
    fi
    say "installing ${missing[*]}"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
}

# A Python of at least 3.11 that can make virtual environments.
find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.13 python3.12 python3.11 python3 /usr/bin/python3; do
        [ -n "$candidate" ] && command -v "$candidate" >/dev/null || continue
        "$candidate" -c 'import sys, ssl, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$candidate" && return
    done
    return 1
}

# install [EXTRA]: hooper in a virtual environment of this checkout.
install() {
    local python
    if ! python=$(find_python); then
        need /nonexistent/python3 python3 /nonexistent/python3-venv python3-venv
        python=$(find_python) || { say "no Python 3.11 or newer with venv was found"; return 1; }
    fi
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c "$root/constraints.txt" -e "$root${1:+[$1]}"
    # pip leaves that to the first import, and where the environment forbids it each process would compile all again.
    "$venv/bin/python" -m compileall -q "$root/core" "$root/plugins"
}
