#!/usr/bin/env bash
# What pod.sh has every worker of a TPU slice do, each verb in seconds when it
# is already done. Not for calling by hand.
#
#   bash launch/tpu/worker.sh install|preflight|start|status|stop
#
# The last word of each is a line `STATUS <host> <state> [<reason>]`, because
# ssh to many workers passes on at most one exit code. A verb that ends early
# says `exit <code>` there.
#
# The training outlives the ssh connection: `start` leaves it in a session of
# its own, which holds STATE/lock while it lives and writes STATE/exit when it
# ends. A worker without either lost its training, by a reboot for instance.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
BASE="${WORKER_BASE:-$HOME/drivemoe}"
STATE="$BASE/state"
PY="$ROOT/.venv/bin/python"
UV_VERSION=0.9.7

say() { printf '%s: %s\n' "$(hostname)" "$*"; }
report() { printf 'STATUS %s %s\n' "$(hostname)" "$*"; }
running() { ! flock -n "$STATE/lock" true; }

find_python() {  # prints a Python that launch/setup.sh takes
  local name
  for name in ${WORKER_PYTHON:-python3.11 python3.12 python3.13 python3}; do
    if "$name" -c 'import ensurepip, sys
sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
      printf '%s\n' "$name"
      return
    fi
  done
  # The TPU images are Ubuntu 22.04 with Python 3.10, too old for current jax.
  # uv brings a Python of its own, from GitHub, into the home folder: no root,
  # no change to the system's packages. 3.11, because the lock has the jax there
  # that launch.plan compiles with.
  python3 -m pip install --user --quiet "uv==$UV_VERSION" >&2
  "$HOME/.local/bin/uv" python install --managed-python --quiet 3.11 >&2
  "$HOME/.local/bin/uv" python find --managed-python 3.11
}

install_packages() {
  PYTHON="$(find_python)" bash -euo pipefail -c \
    'source "$0/launch/setup.sh"' "$ROOT"
  [ ! -e "$ROOT/.venv/tpu" ] || return 0
  cd "$ROOT"
  "$PY" -m pip install --no-input --quiet --disable-pip-version-check \
    -e '.[tpu]'
  touch "$ROOT/.venv/tpu"
}

install_gcsfuse() {
  local key=/usr/share/keyrings/cloud.google.asc
  ! command -v gcsfuse >/dev/null || return 0
  curl -fsSL --retry 3 https://packages.cloud.google.com/apt/doc/apt-key.gpg |
    sudo tee "$key" >/dev/null
  echo "deb [signed-by=$key] https://packages.cloud.google.com/apt" \
    "gcsfuse-$(lsb_release -cs) main" |
    sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
  # A fresh VM updates itself first and holds apt's lock meanwhile.
  sudo apt-get -qq -o DPkg::Lock::Timeout=600 update
  sudo apt-get -qq -o DPkg::Lock::Timeout=600 install -y gcsfuse
}

mount_at() {  # folder, gcsfuse options...: mounts the bucket there
  local folder="$1" wanted
  shift
  wanted="$* $BUCKET"
  if mountpoint -q "$folder" && ls "$folder" >/dev/null 2>&1; then
    [ "$(cat "$folder.mount" 2>/dev/null)" != "$wanted" ] || return 0
    if running; then  # its checkpoints would go elsewhere from now on
      echo "E-CONFIG: $folder is mounted with" \
        "'$(cat "$folder.mount" 2>/dev/null)', not '$wanted', and a training" \
        "uses it; pod.sh stop, then install" >&2
      exit 2
    fi
  fi
  # Gone before the mount: it never tells of another one than there is.
  rm -f "$folder.mount"
  fusermount -uz "$folder" 2>/dev/null || true
  mkdir -p "$folder"
  gcsfuse "$@" "$BUCKET" "$folder"
  printf '%s\n' "$wanted" >"$folder.mount"
}

mount_bucket() {
  local cache=()
  # Nothing about names is cached: one host makes a checkpoint's folder, all
  # of them write into it at once.
  mount_at "$BASE/bucket" --implicit-dirs --metadata-cache-ttl-secs=0 \
    --metadata-cache-negative-ttl-secs=0
  ln -sfn "$BASE/bucket" "$ROOT/bucket"
  [ -n "${DATA:-}" ] || return 0
  # A prepared folder never changes: all about it is cached, for good.
  if [ "${DATA_CACHE_GB:-0}" -gt 0 ]; then
    mkdir -p "$BASE/cache"
    cache=(--cache-dir="$BASE/cache"
      --file-cache-max-size-mb=$((DATA_CACHE_GB * 1024))
      --file-cache-cache-file-for-range-read=true)
  fi
  mount_at "$BASE/data" -o ro --implicit-dirs --only-dir="$DATA" \
    --metadata-cache-ttl-secs=-1 "${cache[@]}"
  ln -sfn "$BASE/data" "$ROOT/prepared"
}

command_line() {  # train|preflight: sets COMMAND, what it is called with
  COMMAND=(--config "$CONFIG" --workdir "bucket/$RUN" --distributed auto
    --config.compile_cache=bucket/cache/xla)
  [ -z "${DATA:-}" ] || COMMAND+=(--config.data.root=prepared)
  local extra word
  read -r -a extra <<<"${TRAIN_ARGS:-}"
  for word in "${extra[@]}"; do
    # Preflight ends at a flag of train's own, such as --accept-change.
    [[ "$1" = preflight && "$word" != --config.* ]] || COMMAND+=("$word")
  done
  cd "$ROOT"
}

supervise() {  # the session that `start` leaves behind
  local code=0
  exec 9>"$STATE/lock"
  flock -w 10 9 || exit 0  # `running` holds it for a moment when it looks
  trap : TERM HUP  # the training gets them too, saves, and is waited for
  command_line train
  "$PY" -m launch.train "${COMMAND[@]}" >>"$STATE/train.log" 2>&1 || code=$?
  # The console goes to the bucket too: a spot worker takes its disk along.
  timeout 60 gcloud storage cp --quiet "$STATE/train.log" \
    "gs://$BUCKET/$RUN/console/$(hostname)-$(date -u +%Y%m%dT%H%M%SZ).log" \
    >/dev/null 2>&1 || true
  echo "$code" >"$STATE/exit.part"
  mv "$STATE/exit.part" "$STATE/exit"
}

start() {
  local i
  if ! running; then
    rm -f "$STATE/exit"
    touch "$STATE/started"
    date -u '+--- started %FT%TZ' >>"$STATE/train.log"
    setsid nohup bash "${BASH_SOURCE[0]}" supervise </dev/null \
      >>"$STATE/train.log" 2>&1 &
    echo $! >"$STATE/pid"
    for i in 1 2 3 4 5 6 7 8 9 10; do
      ! running || break
      [ ! -e "$STATE/exit" ] || break
      sleep "$((i > 1))"
    done
  fi
  status
}

status() {
  local code
  if running; then
    report running "$(tail -n 1 "$STATE/train.log" | tr -d '\r' | cut -c 1-200)"
  elif [ -e "$STATE/exit" ]; then
    code="$(cat "$STATE/exit")"
    report exit "$code" "$(reason "$code")"
  elif [ -e "$STATE/started" ]; then
    report lost "the training is gone and left no exit code"
  else
    report idle
  fi
}

reason() {  # the line of the last start that tells why it ended so
  [ "$1" = 0 ] || tac "$STATE/train.log" | sed '/^--- started/q' |
    grep -aE -m 1 '^(E-[A-Z]+:|preempted:|[A-Za-z]+Error:)' |
    cut -c 1-300 || true
}

stop() {
  local pid i
  if running; then
    pid="$(cat "$STATE/pid")"
    pkill -TERM -P "$pid" || true  # once: it passes the signal on itself
    for ((i = 0; i < ${STOP_S:-240}; i++)); do
      running || break
      sleep 1
    done
    ! running || kill -KILL -- "-$pid" 2>/dev/null || true
  fi
  # Its code too: what starts next, or fails to, is not told by an old end.
  rm -f "$STATE/started" "$STATE/exit"
  report idle
}

# Whatever ends a verb early is told in the form that pod.sh counts.
VERB="${1:-}"
trap 'code=$?; [ "$code" = 0 ] || report exit "$code" "$VERB failed"' EXIT
mkdir -p "$STATE"
case "${1:-}" in
  install)
    install_packages
    install_gcsfuse
    mount_bucket
    ln -sfn "$ROOT" "$BASE/current"  # what the other verbs run
    say "$("$PY" --version), $("$PY" -m pip freeze |
      grep -E '^(jax|jaxlib|libtpu)==' | tr '\n' ' ')"
    report ready
    ;;
  preflight)
    command_line preflight
    "$PY" -m launch.preflight "${COMMAND[@]}"
    report ready
    ;;
  start | status | stop) "$1" ;;
  supervise)
    trap - EXIT
    supervise
    ;;
  *)
    echo "E-CONFIG: worker.sh knows no '${1:-}'; pod.sh calls it" >&2
    exit 2
    ;;
esac
