# shellcheck shell=bash disable=SC2034,SC2154
# Foundry, the Solidity compiler and the Solidity libraries: npm packages pinned by contracts/package-lock.json.

foundry_version=1.7.1

install_toolchain() {
    local modules=$root/contracts/node_modules tool
    local stamp=$modules/.installed-from lock_digest
    lock_digest=$(digest_of "$root/contracts/package.json" "$root/contracts/package-lock.json")
    if [[ $(cat "$stamp" 2>/dev/null) != "$lock_digest" ]]; then
        say "Installing Foundry, solc and the Solidity libraries"
        npm ci --prefix "$root/contracts" --ignore-scripts --no-audit --no-fund --loglevel=error >&2
        echo "$lock_digest" >"$stamp"
    fi

    mkdir -p "$root/.local/bin"
    for tool in anvil cast forge; do
        link_foundry "$tool"
    done
    # Asked once: loading the compiler takes half a second, and forge wants its version at every start.
    if [[ ! -e $modules/.solc-version ]]; then
        node -e 'console.log(require(process.argv[1]).version())' "$modules/solc" >"$modules/.solc-version"
    fi
    ln -sfn ../../script/lib/solc "$root/.local/bin/solc"
}

# The native programs of the platform packages: their npm wrappers would add 0.4 s to every start. Where npm has none for this
# machine, Foundry's own installation of the same version does.
link_foundry() {
    local tool=$1 program=node_modules/@foundry-rs/$1-linux-amd64/bin/$1
    if [[ -x $root/contracts/$program ]]; then
        ln -sfn "../../contracts/$program" "$root/.local/bin/$tool"
    elif ! "$tool" --version 2>/dev/null | grep -q "Version: $foundry_version"; then
        die "no $tool $foundry_version for $(uname -sm) from npm; install it with: foundryup --install v$foundry_version"
    fi
}
