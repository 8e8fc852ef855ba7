# Sourced by run.sh and test.sh. set_up FILE... finds or makes an environment that has the packages of these
# requirement files and sets PYTHON. ROOT is the project's folder. Written for bash 3.2.

fail() {
    echo "set-up: $*" >&2
    exit 1
}

right_version() {  # of Python: one that the packages exist for
    "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

set_up() {
    find_environment
    local file stamp hash
    for file in "$@"; do
        stamp="$ENVIRONMENT/.nisets-$file"
        hash="$(cksum <"$ROOT/$file")"
        if [ "$(cat "$stamp" 2>/dev/null)" != "$hash" ]; then
            install "$file"
            echo "$hash" 2>/dev/null >"$stamp" || true  # an environment of somebody else's is only slower to start in
        fi
    done
}

find_environment() {  # the active one, or .venv: sets ENVIRONMENT and PYTHON
    for ENVIRONMENT in "${VIRTUAL_ENV:-}" "${CONDA_PREFIX:-}"; do
        PYTHON="$ENVIRONMENT/bin/python"
        if [ -n "$ENVIRONMENT" ] && [ -x "$PYTHON" ]; then
            right_version "$PYTHON" ||
                fail "the active environment $ENVIRONMENT has $("$PYTHON" -V 2>&1): must be Python 3.10 to 3.13"
            return
        fi
    done
    ENVIRONMENT="$ROOT/.venv"
    PYTHON="$ENVIRONMENT/bin/python"
    right_version "$PYTHON" || make_environment
}

make_environment() {
    local name found=""
    for name in python3.13 python3.12 python3.11 python3.10 python3 python; do
        if right_version "$name"; then  # run, since a name on the PATH may be only a signpost
            found="$name"
            break
        fi
    done
    [ -n "$found" ] || fail "no Python 3.10 to 3.13 found: install one, or activate an environment that has it"
    echo "set-up: making .venv with $("$found" -V 2>&1)" >&2
    if ! "$found" -m venv --clear "$ENVIRONMENT" >/dev/null 2>&1; then
        rm -rf "$ENVIRONMENT"
        fail "$found cannot make a virtual environment: install its venv module (Debian, Ubuntu: apt install python3-venv)"
    fi
}

install() {
    local size="0.3 GB" pip=("$PYTHON" -m pip install --quiet --no-input --disable-pip-version-check)
    [ "$1" != requirements.txt ] || size="2.9 GB on Linux with x86-64, of which 2.2 GB are for NVIDIA's GPUs, else less"
    echo "set-up: installing the packages of $1, which can take minutes; to download, where nothing is there: $size" >&2
    "$PYTHON" -m pip --version >/dev/null 2>&1 || "$PYTHON" -m ensurepip >/dev/null 2>&1 ||
        fail "$PYTHON has no pip: install it, or deactivate the environment"
    "${pip[@]}" -r "$ROOT/$1" || fail "pip could not install $1; its message is above"
    # Resemblyzer asks for webrtcvad, which needs a compiler; webrtcvad-wheels, of the file, is the same
    [ "$1" != requirements-extra.txt ] || "${pip[@]}" --no-deps Resemblyzer==0.1.4 ||
        fail "pip could not install Resemblyzer; its message is above"
}
