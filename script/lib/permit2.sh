# shellcheck shell=bash disable=SC2034,SC2154
# Uniswap's Permit2: others' bytecode, so it is kept out of the tree. Got once per machine from a package that ships it (of which
# nothing else is used), linked to `.local/permit2`.
# The code has zeros where its constructor would write a chain id and a domain separator, so it is good at any address of any
# chain. With its constructor before it, CREATE2 gives the address that Permit2 has everywhere (salt 0xd3af2663da51c10215000000).

permit2_package=@1inch/solidity-utils
permit2_version=6.9.16
permit2_checksum=e04306505b47a46cf028dc0f2f4cda7f29be600897cdcb8b8d3b24c18503c040

install_permit2() {
    local folder=$cache/permit2/$permit2_version-${permit2_checksum:0:16}
    if [[ ! -d $folder ]]; then
        mkdir -p "$cache/permit2"
        # Another clone may be getting the same one.
        (
            flock 9
            [[ -d $folder ]] || unpack_permit2 "$folder"
        ) 9>"$cache/permit2/.lock"
    fi
    ln -sfn "$folder" "$root/.local/permit2"
}

# The folder appears complete or not at all.
unpack_permit2() {
    local folder=$1 work package
    say "Getting Permit2 (once per machine)"
    work=$(mktemp -d "$cache/permit2/.getting.XXXXXX")
    # shellcheck disable=SC2064
    trap "rm -rf '$work'" EXIT
    package=$(cd "$work" && npm pack "$permit2_package@$permit2_version" --silent --ignore-scripts 2>/dev/null) ||
        die "cannot get $permit2_package $permit2_version from the package registry (is the network there?)"
    echo "$permit2_checksum  $work/$package" | sha256sum --check --quiet >&2 ||
        die "$permit2_package $permit2_version is not the package that script/lib/permit2.sh names"
    tar -xzf "$work/$package" -C "$work"
    mkdir "$work/permit2"
    mv "$work/package/dist/src/permit2.json" "$work/permit2/Permit2.json"
    mv "$work/permit2" "$folder"
}
