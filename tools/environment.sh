#!/bin/sh
# Makes $VENV (default .venv) hold what is asked for, and returns at once where it already does:
#   environment.sh demo       the SDK with its commands, and the server
#   environment.sh test       all five distributions with their extras, and the tools to check them
#   environment.sh pythons    installs nothing; prints the first interpreter found of each supported version
# PYTHON=... names the interpreter to use.
set -eu
cd "$(dirname "$0")/.."

content=${1:?demo, test or pythons}
venv=${VENV:-.venv}
case $venv in /*) ;; *) venv=$PWD/$venv ;; esac

# The version of an interpreter that can make virtual environments, else nothing.
version_of() {
    "$1" -c 'import ensurepip, sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}

candidates() {
    for name in python3 python python3.14 python3.13 python3.12 python3.11; do
        command -v "$name" || true
    done
    ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python 2>/dev/null || true
}

# Prints "VERSION PATH" for each of the versions in $1 that is found, what plain python3 means first.
pythons() {
    seen=" "
    candidates | while read -r path; do
        version=$(version_of "$path")
        case $1 in *" $version "*) ;; *) continue ;; esac
        case $seen in *" $version "*) continue ;; esac
        seen="$seen$version "
        echo "$version $path"
    done
}

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

choose_python() {
    if [ -n "${PYTHON:-}" ]; then
        case $(version_of "$PYTHON") in
            3.1[1-9]) echo "$PYTHON" ;;
            *) fail "PYTHON=$PYTHON is no Python 3.11 or later that can make virtual environments." ;;
        esac
        return
    fi
    found=$(pythons " 3.13 3.12 3.11 " | head -n 1)
    [ -n "$found" ] || fail \
        "memX needs Python 3.11, 3.12 or 3.13 with its venv module; none was found on PATH or in pyenv." \
        "Install one (Debian, Ubuntu: apt-get install python3 python3-venv; macOS: brew install python@3.13)" \
        "or name one: make $content PYTHON=/path/to/python3"
    echo "${found#* }"
}

# Whether the environment stands where it was made (its scripts hold the path) and runs the interpreter asked for.
usable() {
    grep -q "^command = .* $venv\$" "$venv/pyvenv.cfg" 2>/dev/null || return 1
    identity='import sys; print(sys.base_prefix, sys.version)'
    made_with=$("$venv/bin/python" -c "$identity" 2>/dev/null) || return 1
    [ -z "${PYTHON:-}" ] || [ "$made_with" = "$("$PYTHON" -c "$identity" 2>/dev/null)" ]
}

# Quiet, no byte code compiled ahead, no build environment for each distribution: a third of pip's usual time.
pip_install() {
    "$venv/bin/python" -m pip install -qq --no-compile --no-build-isolation -c constraints.txt "$@"
}

create() {
    if [ -e "$venv" ] && [ ! -e "$venv/pyvenv.cfg" ]; then
        fail "$venv is there and is no virtual environment; remove it, or name another one: VENV=..."
    fi
    python=$(choose_python)
    echo "Preparing ${venv##*/} with Python $(version_of "$python"): the first time only, half a minute or so"
    output=$("$python" -m venv --clear "$venv" 2>&1) || fail "$output"
}

if [ "$content" = pythons ]; then
    pythons " 3.14 3.13 3.12 3.11 "
    exit
fi

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INPUT=1
state=$(cat tools/environment.sh constraints.txt pyproject.toml server/pyproject.toml integrations/*/pyproject.toml | cksum)
holds() {
    [ "$(cat "$venv/.memx-$1" 2>/dev/null)" = "$state" ]
}

usable || create
if holds test || holds "$content"; then
    exit
fi
pip_install pip hatchling hatch-fancy-pypi-readme editables
case $content in
    demo) pip_install -e . -e server ;;
    test) pip_install --group dev -e '.[all]' -e 'server[mcp]' -e 'integrations/langchain[langgraph,agents]' \
        -e integrations/autogen -e 'integrations/mcp[embedded]' ;;
    *) fail "environment.sh: demo, test or pythons, not $content" ;;
esac
echo "$state" >"$venv/.memx-$content"
