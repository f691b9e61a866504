# shellcheck shell=bash disable=SC2034,SC2154
# The recording of EigenLayer's deployment (devnet/record): made once per machine, linked to `.local/eigenlayer`.
# It is others' bytecode, so it is kept out of the tree, under a key of the package's version and all that shapes it.

# Prints one value of the recorder's parameters.
recording_parameter() { sed -n "s/^$1 = \"\(.*\)\"$/\1/p" "$root/devnet/record/parameters.toml" | head -n 1; }

install_recording() {
    local key folder
    key=$(cd "$root/devnet/record" && digest_of Cargo.toml Cargo.lock parameters.toml src/*.rs)
    key=$(recording_parameter version)-$key
    folder=$cache/eigenlayer/$key
    if [[ ! -d $folder ]]; then
        mkdir -p "$cache/eigenlayer"
        # Another clone may be making the same one.
        (
            flock 9
            [[ -d $folder ]] || make_recording "$folder"
        ) 9>"$cache/eigenlayer/.lock"
    fi
    ln -sfn "$folder" "$root/.local/eigenlayer"
}

# The folder appears complete or not at all.
make_recording() {
    local folder=$1 work
    say "Recording EigenLayer's deployment (once per machine, about a minute)"
    work=$(mktemp -d "$cache/eigenlayer/.making.XXXXXX")
    # shellcheck disable=SC2064
    trap "rm -rf '$work'" EXIT
    unpack_package "$work"
    CARGO_TARGET_DIR=$work/target cargo build --quiet --locked --manifest-path "$root/devnet/record/Cargo.toml" >&2
    "$work/target/debug/record" --source "$work/package" --anvil "$root/.local/bin/anvil" --output "$work/recording" >&2
    mv "$work/recording" "$folder"
}

# The package's source into $1/package. `cargo info` downloads it without building it or what it depends on.
unpack_package() {
    local name version file
    name=$(recording_parameter package)-$(recording_parameter version)
    version=$(recording_parameter version)
    (cd / && cargo info --quiet "$(recording_parameter package)@$version" >/dev/null) ||
        die "cannot get the package $name from the package registry (is the network there?)"
    file=$(find "${CARGO_HOME:-$HOME/.cargo}/registry/cache" -name "$name.crate" | head -n 1)
    [[ -n $file ]] || die "cargo kept no $name.crate under ${CARGO_HOME:-$HOME/.cargo}/registry/cache"
    echo "$(recording_parameter checksum)  $file" | sha256sum --check --quiet >&2 ||
        die "$file is not the package that devnet/record/parameters.toml names; delete it and run this again"
    tar -xzf "$file" -C "$1"
    mv "$1/$name" "$1/package"
}
