# shellcheck shell=bash disable=SC2034,SC2154
# slither and halmos: PyPI packages pinned by contracts/analysis/requirements.txt, in a Python environment that is made once
# per machine and linked to `.local/analysis`. Its programs stand in `.local/bin` beside forge.

analysis_tools="slither halmos"

install_analysis() {
    local key folder tool
    # An environment is bound to the interpreter that made it.
    key=$(digest_of "$root/contracts/analysis/requirements.txt")-$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    folder=$cache/analysis/$key
    if [[ ! -e $folder/.complete ]]; then
        mkdir -p "$cache/analysis"
        # Another clone may be making the same one.
        (
            flock 9
            [[ -e $folder/.complete ]] || make_environment "$folder"
        ) 9>"$cache/analysis/.lock"
    fi
    ln -sfn "$folder" "$root/.local/analysis"
    mkdir -p "$root/.local/bin"
    for tool in $analysis_tools; do
        ln -sfn "../analysis/bin/$tool" "$root/.local/bin/$tool"
    done
}

# Programs in it name its path, so it is made where it stays; the stamp says that it is whole.
make_environment() {
    local folder=$1
    say "Installing slither and halmos (once per machine, about a minute)"
    rm -rf "$folder"
    python3 -m venv "$folder" >&2
    "$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$root/contracts/analysis/requirements.txt" >&2 ||
        die "cannot install the packages of contracts/analysis/requirements.txt (is the package index there?); run this again"
    touch "$folder/.complete"
}

# Fails with the remedy where setup has not been run since the tools changed.
require_analysis() {
    local tool
    for tool in $analysis_tools; do
        if [[ ! -x $root/.local/bin/$tool ]]; then
            say "$tool is missing; get it with: script/setup"
            return 1
        fi
    done
}

# Slither over all contracts of contracts/src, against the committed explanations; the sources only, so it needs no build.
static_analysis() { require_analysis && PYTHONDONTWRITEBYTECODE=1 "$root/.local/analysis/bin/python" "$root/contracts/analysis/static.py"; }
