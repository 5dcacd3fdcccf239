#!/usr/bin/env bash
# Sets up .venv when needed and runs the quick tests in two processes. Arguments
# go to pytest: `-m slow` runs the slow tests, `-n 0` one process.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$ROOT"
exec "$PY" -m pytest -q -n 2 "$@"
