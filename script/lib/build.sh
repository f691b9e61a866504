# shellcheck shell=bash disable=SC2034,SC2154
# Building: always everything, in one profile. Asking cargo for single packages changes the features of shared dependencies
# and builds them twice.

# Where cargo puts the binaries.
binaries=${CARGO_TARGET_DIR:-$root/target}/debug

build_contracts() { (cd "$root/contracts" && forge build) >&2; }

build_workspace() { cargo build --manifest-path "$root/Cargo.toml" --workspace --locked "$@" >&2; }
