#!/usr/bin/env bash
# Sets up .venv when needed and runs the quick tests; ./launch/test.sh -m slow
# runs the slow ones. Other arguments go to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$ROOT"
exec "$PY" -m pytest -q "$@"
