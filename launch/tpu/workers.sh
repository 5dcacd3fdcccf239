# Sourced by pod.sh: has every worker of the slice run launch/tpu/worker.sh
# and judges their answers.
# shellcheck shell=bash
# shellcheck disable=SC2153,SC2034  # settings come from pod.sh, results go there
# shellcheck disable=SC2016  # what the worker expands stays as it is

on_workers() {  # seconds, command
  local limit="$1" ssh_args=()
  read -r -a ssh_args <<<"${SSH_ARGS:-}"
  # A slice that is made anew has new host keys behind old names.
  ssh_args+=(--strict-host-key-checking=no --worker=all --command="$2")
  if [ "$SLICES" = 1 ]; then
    run "$limit" gcloud compute tpus tpu-vm ssh "$TPU_NAME" "${WHERE[@]}" \
      "${ssh_args[@]}" </dev/null
  else
    run "$limit" gcloud compute tpus queued-resources ssh "$TPU_NAME" \
      "${WHERE[@]}" --node=all "${ssh_args[@]}" </dev/null
  fi
}

count_workers() {  # sets WORKERS; the dry run assumes one
  local found
  found="$(run 120 gcloud compute tpus tpu-vm describe "$NODE" "${WHERE[@]}" \
    '--flatten=networkEndpoints[]' \
    '--format=csv[no-heading](networkEndpoints.ipAddress)')" || return 1
  [ "$DRY_RUN" = no ] || printf '%s\n' "$found"
  WORKERS=1
  [ "$DRY_RUN" = no ] || return 0
  WORKERS="$(grep -c . <<<"$found")" || return 1
  WORKERS=$((WORKERS * SLICES))
}

commit_name() {  # sets COMMIT, and CODE, its place in the bucket
  COMMIT="$(git -C "$ROOT" rev-parse --short=12 HEAD 2>/dev/null)" ||
    fail E-CONFIG 2 "$ROOT is no git checkout; the workers get a commit of it"
  CODE="gs://$BUCKET/code/drivemoe-$COMMIT.tar.gz"
}

upload_code() {
  local archive=CODE.tar.gz
  commit_name
  [ -z "$(git -C "$ROOT" status --porcelain --untracked-files=no)" ] ||
    say "note: the workers get commit $COMMIT, not your uncommitted changes"
  [ "$DRY_RUN" = yes ] || archive="$LOGS/code.tar.gz"
  run 120 git -C "$ROOT" archive --format=tar.gz --output="$archive" "$COMMIT" ||
    fail E-CONFIG 2 "git could not pack commit $COMMIT, see above"
  run 600 gcloud storage cp --no-clobber --quiet "$archive" "$CODE" ||
    fail E-DISK 4 "gs://$BUCKET cannot be written; check your rights on it"
}

worker_command() {  # verb: the shell line that every worker runs
  local name settings="" folder='$HOME/drivemoe/current' without
  for name in BUCKET RUN CONFIG DATA DATA_CACHE_GB TRAIN_ARGS WORKER_PYTHON; do
    [ -z "${!name:-}" ] || settings+="$name=$(quote "${!name}") "
  done
  case "$1" in
    install)
      folder="\$HOME/drivemoe/code/$COMMIT"
      without="mkdir -p \"\$d\" && gcloud storage cat $CODE | "
      without+='tar -xz -C "$d" && touch "$d/.whole"'
      ;;
    status | stop) without='echo "STATUS $(hostname) idle"; exit 0' ;;
    *) without='echo "STATUS $(hostname) bare; install first"; exit 0' ;;
  esac
  printf '%s' "d=\"$folder\"; test -e \"\$d/.whole\" || { $without; }; " \
    "$settings" 'bash "$d/launch/tpu/worker.sh" ' "$1"
}

ask_workers() {  # seconds, verb: sets ANSWERS, their STATUS lines; judges
  local out="$LOGS/$2.out" command
  command="$(worker_command "$2")"
  if [ "$DRY_RUN" = yes ]; then
    on_workers "$1" "$command"
    ANSWERS="STATUS worker ${DRY_STATE:-ready}"
  else
    rm -f "$out"  # what an earlier ssh still writes does not come into this
    if [ "$2" = status ]; then
      on_workers "$1" "$command" >"$out" 2>&1 || true
    else  # shown while it runs
      say "$2 on all workers"
      on_workers "$1" "$command" > >(exec tee "$out") 2>&1 || true
      # Not a pipe: an ssh that outlives the limit (see `run`) keeps tee.
      timeout --foreground 5 tail -s 0.1 --pid="$!" -f /dev/null || true
    fi
    ANSWERS="$(tr -d '\r' <"$out" | grep -ao 'STATUS [a-z0-9].*' | sort -u ||
      true)"
  fi
  judge
}

judge() {  # sets OUTCOME from ANSWERS, and WHY, COUNTS, RUNNING, SILENT
  # OUTCOME: ready (also of a training that runs) | done | preempted | failed |
  # silent | fatal CODE. A code that no relaunch mends counts before those of
  # the workers that ended because of it.
  local host state code rest total=0 ready=0 ended=0 ok=0 saved=0 fatal=""
  RUNNING=0 WHY=""
  while read -r _ host state code rest; do
    [ -n "$state" ] || continue
    total=$((total + 1))
    case "$state $code" in
      running*) RUNNING=$((RUNNING + 1)) ;;
      ready* | idle*) ready=$((ready + 1)) ;;
      "exit 0") ok=$((ok + 1)) ;;
      "exit 75") saved=$((saved + 1)) ;;
      exit\ [2345])
        [ -n "$fatal" ] || WHY="$host: exit $code $rest"
        fatal="${fatal:-$code}"
        ;;
      *)
        ended=$((ended + 1))
        [ -n "$WHY" ] || WHY="$host: $state $code $rest"
        ;;
    esac
  done <<<"$ANSWERS"
  SILENT=$((WORKERS - total))
  COUNTS="of $WORKERS workers $RUNNING run, $ready wait, $ok finished,"
  COUNTS+=" $saved saved and left, $ended failed, $SILENT are silent"
  OUTCOME=ready
  [ $((RUNNING + ready)) -gt 0 ] || OUTCOME="done"
  [ "$SILENT" -le 0 ] && [ $total -gt 0 ] || OUTCOME=silent
  [ $saved = 0 ] || OUTCOME=preempted
  [ $ended = 0 ] || OUTCOME=failed
  [ -z "$fatal" ] || OUTCOME="fatal $fatal"
  [ "$OUTCOME" != silent ] || WHY="$SILENT of $WORKERS workers do not answer"
}

all_ready() {  # seconds, verb: 0 when every worker says so
  ask_workers "$1" "$2"
  [ "$OUTCOME" = ready ]
}
