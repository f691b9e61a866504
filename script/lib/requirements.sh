# shellcheck shell=bash disable=SC2034,SC2154
# What must be on the machine before anything else: checked all at once, installed where we can, named where we cannot.

rust_minimum=1.94.1
node_minimum=20
python_minimum=3.11

# Prints the Debian packages whose programs are missing.
missing_packages() {
    command -v dockerd >/dev/null || echo docker.io
    command -v iptables >/dev/null || echo iptables
    command -v docker-registry >/dev/null || echo docker-registry
    # The images of examples and tests are made from it, so it must not need libraries: `ldd` fails on a static binary.
    if ! command -v busybox >/dev/null || ldd "$(command -v busybox)" >/dev/null 2>&1; then echo busybox-static; fi
    command -v cc >/dev/null || echo build-essential
    command -v git >/dev/null || echo git
    command -v curl >/dev/null || echo curl
    command -v ip >/dev/null || echo iproute2
    command -v python3 >/dev/null || echo python3
    # Debian's python3 makes no environments without it.
    python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    [[ -e /etc/ssl/certs/ca-certificates.crt || ! -e /etc/debian_version ]] || echo ca-certificates
}

# True if version $1 is at least $2.
at_least() { [[ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" == "$2" ]]; }

# Prints a line for each requirement that we cannot install, with the command to get it.
missing_by_hand() {
    local version
    version=$(rustc --version 2>/dev/null | cut -d' ' -f2 || true)
    if [[ -z $version ]] || ! command -v cargo >/dev/null || ! at_least "$version" "$rust_minimum"; then
        echo "Rust $rust_minimum or newer (found: ${version:-none}): curl -sSf https://sh.rustup.rs | sh -s -- -y, or: rustup update stable"
    fi
    version=$(node --version 2>/dev/null | tr -d v || true)
    if [[ -z $version ]] || ! command -v npm >/dev/null || ! at_least "$version" "$node_minimum"; then
        echo "Node $node_minimum or newer with npm (found: ${version:-none}): curl -fsSL https://fnm.vercel.app/install | bash, then: fnm install --lts"
    fi
}

# The packages above may have brought the interpreter, so this comes after them.
check_python() {
    local version
    version=$(python3 -c 'import platform; print(platform.python_version())')
    at_least "$version" "$python_minimum" ||
        die "Python $python_minimum or newer is needed (python3 is $version): install it from your distribution, or with: curl -LsSf https://astral.sh/uv/install.sh | sh, then: uv python install --default 3.12"
    python3 -c 'import ensurepip, venv' 2>/dev/null ||
        die "python3 ($version) cannot make environments (no ensurepip); on Debian or Ubuntu: sudo apt-get install python3-venv"
}

# Installs the missing packages, after naming everything that is beyond us.
install_requirements() {
    local packages by_hand
    mapfile -t packages < <(missing_packages)
    by_hand=$(missing_by_hand)
    if ((${#packages[@]} > 0)) && ! { [[ -e /etc/debian_version ]] && ((EUID == 0)); }; then
        if [[ -e /etc/debian_version ]]; then
            by_hand+=${by_hand:+$'\n'}"Packages (we are not root): sudo apt-get install --no-install-recommends ${packages[*]}"
        else
            by_hand+=${by_hand:+$'\n'}"The programs of these Debian packages, from your own distribution: ${packages[*]}"
        fi
    fi
    if [[ -n $by_hand ]]; then
        # A fresh Debian has no curl either, which the commands need.
        if ! command -v curl >/dev/null && [[ -e /etc/debian_version ]] && ((EUID == 0)); then
            by_hand="First, for the commands below: apt-get update && apt-get install -y curl ca-certificates unzip"$'\n'$by_hand
        fi
        say "Missing, and not installable from here:"
        say "$by_hand"
        exit 1
    fi
    if ((${#packages[@]} > 0)); then
        install_packages "${packages[@]}"
    fi
    check_python
}

install_packages() {
    say "Installing $*"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q >&2
    apt-get install -q -y --no-install-recommends "$@" >&2
    # Tests start a registry of their own; the package's service would hold port 5000.
    if [[ " $* " == *" docker-registry "* && -d /run/systemd/system ]]; then
        systemctl disable --now docker-registry >&2
    fi
}
