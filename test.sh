#!/usr/bin/env bash
# Test: bash test.sh [pytest arguments]. Sets up first, where that is needed; -m slow runs the tests that take minutes.

set -eu
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
. "$ROOT/setup.sh"
set_up requirements.txt requirements-extra.txt
cd "$ROOT"
# builds the alignment search, where it is missing, before several processes do; without a compiler it warns in one line
"$PYTHON" -c 'from model import monotonic_align; monotonic_align.implementation()'
# a process a core, four at most, which each hold 2 GB; -n 0: none
exec "$PYTHON" -m pytest -n auto --maxprocesses 4 --dist loadfile "$@"
