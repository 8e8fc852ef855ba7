#!/usr/bin/env bash
# Test: bash test.sh [pytest arguments]. Sets up first, where that is needed; -m slow runs the tests that take minutes.

set -eu
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
. "$ROOT/setup.sh"
set_up requirements.txt requirements-extra.txt
build_search
cd "$ROOT"
# a process a core, four at most, which each hold 2 GB; -n 0: none
exec "$PYTHON" -m pytest -n auto --maxprocesses 4 --dist loadfile "$@"
