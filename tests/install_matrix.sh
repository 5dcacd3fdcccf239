#!/usr/bin/env bash
# Installs the oldest and the newest packages that pyproject.toml allows, asks
# launch.doctor about them, runs a few tests, prints a table.
#
#   tests/install_matrix.sh            every Python that is here, every extra
#   tests/install_matrix.sh --list     the names of those rows
#   tests/install_matrix.sh ROW...     PYTHON-oldest|newest[-EXTRA], such as
#                                      3.11-oldest 3.13-newest-tpu
#
# Each row gets a fresh environment of about 2.5 GB in a temporary folder (the
# next one takes its place; TMPDIR names another disk). Exit 1: a row failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
EXTRAS="tpu plan torch wandb carla beam"
# Every module, a run with its checkpoints, and what the rest writes and reads.
SLICE=(
  tests/test_layers.py::test_every_module_loads_without_torch
  tests/test_train.py::test_a_finished_run_has_nothing_left_to_do
  tests/test_checkpoint.py::test_a_state_comes_back_equal_on_another_mesh
  tests/weights/test_write.py::test_round_trip_is_exact
  tests/data_pipeline/test_prepare.py
  tests/launch/test_record.py::test_it_records_and_says_what
  tests/test_report.py::test_the_page_is_whole_and_fetches_nothing
  tests/test_serve.py::test_metadata_first_then_plans
)

_python() {  # prints the interpreter of version $1, fails where there is none
  local name="python$1"
  command -v "$name" >/dev/null || return 1
  "$name" -c 'import sys; print(sys.executable)' 2>/dev/null
}

_rows() {  # plain rows for all Pythons, extras for the first and the last
  local python here=() extra
  for python in 3.11 3.12 3.13; do
    if _python $python >/dev/null; then here+=("$python"); fi
  done
  for python in "${here[@]}"; do
    printf '%s\n' "$python-oldest" "$python-newest"
  done
  for extra in $EXTRAS; do
    printf '%s\n' "${here[0]}-oldest-$extra" "${here[-1]}-newest-$extra"
  done
}

_uv() {  # the command uv: the one that is here, or one of our own
  if command -v uv; then return; fi
  local python interpreter
  for python in 3.11 3.12 3.13; do
    if interpreter="$(_python $python)"; then break; fi
  done
  "${interpreter:-python3}" -m venv "$WORK/uv" >&2
  "$WORK/uv/bin/pip" install --quiet --disable-pip-version-check uv >&2
  echo "$WORK/uv/bin/uv"
}

_row() {  # installs and checks row $1; prints why not, or nothing
  local python set extra interpreter place="$WORK/row" arguments=()
  IFS=- read -r python set extra <<<"$1"
  case "$set" in
    oldest) arguments+=(--resolution lowest-direct) ;;
    newest) arguments+=(--resolution highest) ;;
    *) echo "no such row; write PYTHON-oldest or PYTHON-newest"; return ;;
  esac
  if [ -n "$extra" ]; then arguments+=(--extra "$extra"); fi
  interpreter="$(_python "$python")" || { echo "no python$python"; return; }
  rm -rf "$place"
  "$UV" venv --quiet --python "$interpreter" "$place" || { echo venv; return; }
  "$UV" pip install --python "$place/bin/python" -r pyproject.toml --extra dev \
    "${arguments[@]}" >"$WORK/log" 2>&1 || { echo install; return; }
  "$place/bin/python" -m launch.doctor >"$WORK/log" 2>&1 || {
    echo doctor; return; }
  "$place/bin/python" -m pytest -q -x -n 0 -p no:cacheprovider "${SLICE[@]}" \
    >"$WORK/log" 2>&1 || { echo tests; return; }
}

_versions() {  # the packages that a row is about
  "$WORK/row/bin/python" -c 'import sys, importlib.metadata as m
for name in sys.argv[1:]:
  print(name, m.version(name), end="  ")' jax flax numpy tensorflow-cpu \
    2>/dev/null || true
}

if command -v pyenv >/dev/null; then  # otherwise it shows one Python only
  PYENV_VERSION="$(pyenv versions --bare | paste -sd:)"
  export PYENV_VERSION
fi
case "${1:-}" in
  --list) _rows; exit ;;
  --*) sed -n 's/^# \{0,1\}//p' "${BASH_SOURCE[0]}" | sed -n 2,11p; exit ;;
esac
WORK="$(mktemp -d)"
trap 'rm -rf "$WORK"' EXIT
UV="$(_uv)"
export JAX_PLATFORMS=cpu PYTHONDONTWRITEBYTECODE=1
STATUS=0
if [ $# = 0 ]; then mapfile -t ROWS < <(_rows); else ROWS=("$@"); fi
printf '%-22s %-8s %6s  %s\n' row result time versions
for row in "${ROWS[@]}"; do
  start=$SECONDS
  why="$(_row "$row")"
  printf '%-22s %-8s %4d s  %s\n' "$row" "${why:-ok}" $((SECONDS - start)) \
    "$(_versions)"
  if [ -n "$why" ]; then
    STATUS=1
    tail -n 15 "$WORK/log" >&2
  fi
done
exit $STATUS
