# Sourced by demo.sh and test.sh: after it, $ROOT is the repository and $PY the
# Python of its own .venv, which holds exactly requirements.lock.
#
# A copy of the lock inside .venv, written last, says that an install was
# finished: the next start compares two files and goes on. One that was cut off
# leaves the file `unfinished` and is made again from nothing, because a package
# that pip wrote by half looks installed to pip. A .venv that these scripts did
# not make is added to, never deleted.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$ROOT/.venv"
PY="$VENV/bin/python"

# Otherwise glibc returns the big buffers of every training step to the system,
# which clears them again in pages of 4 kB: a third of a small model's time. One
# who knows better has set the variable.
export GLIBC_TUNABLES="${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1:\
glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=8589934592}"
# Without its byte code every program here imports TensorFlow 3 s longer.
unset PYTHONDONTWRITEBYTECODE

_fail() {
  printf 'E-SETUP: %s\n' "$*" >&2
  exit 2
}

_usable() {  # is $1 a Python that this program runs on?
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
    >/dev/null 2>&1
}

_finished() {
  cmp -s "$ROOT/requirements.lock" "$VENV/requirements.lock" && _usable "$PY"
}

_find_python() {  # prints the interpreter to make .venv with
  local name
  if [ -n "${PYTHON:-}" ]; then
    _usable "$PYTHON" || _fail "PYTHON=$PYTHON is not a Python 3.11, 3.12 or" \
      "3.13; unset it or name another one."
    printf '%s\n' "$PYTHON"
    return
  fi
  for name in python3 python3.13 python3.12 python3.11; do
    if _usable "$name"; then
      printf '%s\n' "$name"
      return
    fi
  done
  _fail "Python 3.11, 3.12 or 3.13 is needed, python3 here is" \
    "$(python3 --version 2>/dev/null || echo missing); install one, or name" \
    "it: PYTHON=/path/to/python3 ./launch/$(basename "$0")"
}

_make_venv() {
  local python
  python="$(_find_python)" || exit 2
  "$python" -c 'import ensurepip, venv' 2>/dev/null || _fail \
    "$python comes without the venv module; on Debian and Ubuntu:" \
    "apt-get install python3-venv"
  echo "making .venv with $("$python" --version)" >&2
  rm -rf "$VENV"
  mkdir "$VENV"
  touch "$VENV/unfinished"
  "$python" -m venv "$VENV" || _fail "$python -m venv .venv did not work."
}

_show_progress() {  # a line every few seconds, as long as the script lives
  local all fetched unpacked start=$SECONDS
  all="$(grep '^[a-z].*==' "$ROOT/requirements.lock" |
    grep -cv "python_full_version >=\|== 'win32'")"
  while sleep 3 && kill -0 $$ 2>/dev/null; do
    fetched="$(grep -cE "^(Collecting|Processing)" "$VENV/install.log")"
    unpacked="$(find "$VENV"/lib/python3*/site-packages -maxdepth 1 \
      -name '*.dist-info' | wc -l)"
    printf '  %3d s: %d of %d packages fetched, %d unpacked\n' \
      $((SECONDS - start)) "$fetched" "$all" "$unpacked" >&2
  done
}

_install() {
  local ticker
  if [ ! -e "$VENV" ] || [ -e "$VENV/unfinished" ]; then
    _make_venv
  elif [ -e "$VENV/requirements.lock" ]; then
    if _usable "$PY"; then touch "$VENV/unfinished"; else _make_venv; fi
  elif ! _usable "$PY"; then
    _fail "$VENV holds another Python; move it away and start again."
  fi
  echo "installing requirements.lock: about 600 MB to fetch, 2 GB on disk" >&2
  : >"$VENV/install.log"
  _show_progress 9<&- &
  ticker=$!
  # Without byte-compiling all of it: what gets imported is compiled then.
  if ! "$PY" -m pip install --no-input --disable-pip-version-check \
      --no-compile --progress-bar off --require-hashes \
      -r "$ROOT/requirements.lock" >"$VENV/install.log" 2>&1 9<&-; then
    kill $ticker 2>/dev/null || true
    tail -n 15 "$VENV/install.log" >&2
    _fail "pip could not install requirements.lock, see above and" \
      "$VENV/install.log; check the network and start again."
  fi
  kill $ticker 2>/dev/null || true
  cp "$ROOT/requirements.lock" "$VENV/requirements.lock.new"
  mv "$VENV/requirements.lock.new" "$VENV/requirements.lock"
  rm -f "$VENV/unfinished"
  echo "installed in .venv" >&2
}

if ! _finished; then
  # Two scripts started at once: the second one waits for the first.
  exec 9<"$ROOT/requirements.lock"
  ! command -v flock >/dev/null || flock 9
  _finished || _install
  exec 9<&-
fi
