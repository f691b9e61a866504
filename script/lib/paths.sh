# shellcheck shell=bash disable=SC2034,SC2154
# Where things are. Sourced by every script; sets `root`, `cache` and PATH, and defines how scripts speak.
# Nothing here or in its siblings writes to standard output: that belongs to what the scripts run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Shared by every clone of this tree on the machine.
cache=${SPHERON_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/spheron}
# anvil, forge, cast and solc of this tree first; dockerd and iptables live where users' PATHs often do not look.
export PATH="$root/.local/bin:$PATH:/usr/sbin:/sbin"

say() { printf '%s\n' "$*" >&2; }
die() {
    say "$(basename "$0"): $*"
    exit 1
}

# The start of the SHA-256 over the names and contents of files.
digest_of() { sha256sum "$@" | sha256sum | cut -c1-16; }
