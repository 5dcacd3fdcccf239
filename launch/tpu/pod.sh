#!/usr/bin/env bash
# A training on a slice of Cloud TPU VMs, from your machine or Cloud Shell.
# Never run on a TPU yet: docs/tpu.md.
#
#   launch/tpu/pod.sh [--dry-run] [--env FILE] VERB
#
#   create     ask for the slice (a queued resource), unless it is there
#   wait       wait until the slice is up
#   install    put this commit, its packages and the bucket on every worker
#   preflight  have all workers check each other, storage, config and memory
#   train      start the training on all workers and follow it to its end
#   resume     all of these, whatever is there already, again after every
#              preemption or lost worker, until the training has finished
#   status     what the slice and every worker do
#   logs       fetch worker 0's log
#   stop       end the training on all workers; it saves first
#   delete     give the slice back; buckets and data stay
#
# --dry-run prints every command, runs none and takes each for successful.
# Settings come from the environment or from FILE: launch/tpu/example.env.
# Exit codes: 0 done; 2, 3, 4, 5 the training's own, which no relaunch mends;
# 6 workers kept failing or do not answer; 75 no slice (any more), start again.
set -euo pipefail
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=launch/tpu/settings.sh
source "$HERE/settings.sh"
# shellcheck source=launch/tpu/slice.sh
source "$HERE/slice.sh"
# shellcheck source=launch/tpu/workers.sh
source "$HERE/workers.sh"

runtime_of() {  # the image that Google names for a type of TPU
  case "$1" in
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v6e-*) echo v2-alpha-tpuv6e ;;
    v[234]-*) echo tpu-ubuntu2204-base ;;
    *) fail E-CONFIG 2 "ACCELERATOR_TYPE '$1' is unknown; known are v2-N," \
      "v3-N, v4-N, v5litepod-N, v5p-N and v6e-N; else set RUNTIME_VERSION" ;;
  esac
}

check_settings() {  # what the verb needs; fills in defaults
  local needs=(PROJECT_ID ZONE TPU_NAME) tool
  case "$VERB" in
    create) needs+=(ACCELERATOR_TYPE BUCKET) ;;
    install) needs+=(BUCKET) ;;
    preflight | train) needs+=(BUCKET CONFIG RUN) ;;
    resume) needs+=(ACCELERATOR_TYPE BUCKET CONFIG RUN) ;;
    wait | status | logs | stop | delete) ;;
    *) fail E-CONFIG 2 "unknown verb $VERB; see $0 --help" ;;
  esac
  require "${needs[@]}"
  [[ "$TPU_NAME" =~ ^[a-z]([a-z0-9-]*[a-z0-9])?$ ]] || fail E-CONFIG 2 \
    "TPU_NAME is '$TPU_NAME'; use lower-case letters, digits and hyphens"
  : "${SPOT:=yes}" "${SLICES:=1}" "${WAIT_S:=21600}" "${POLL_S:=60}"
  : "${MAX_RELAUNCHES:=100}" "${MAX_FAILURES:=3}" "${DELETE_AT_END:=no}"
  : "${LOGS:=$ROOT/runs/pod-$TPU_NAME}"
  check_yes_no SPOT DELETE_AT_END
  check_number SLICES WAIT_S POLL_S MAX_RELAUNCHES MAX_FAILURES
  [ -z "${DATA_CACHE_GB:-}" ] || check_number DATA_CACHE_GB
  check_places
  if [ -n "${ACCELERATOR_TYPE:-}" ] && [ -z "${RUNTIME_VERSION:-}" ]; then
    RUNTIME_VERSION="$(runtime_of "$ACCELERATOR_TYPE")"
  fi
  WHERE=(--project="$PROJECT_ID" --zone="$ZONE" --quiet)
  NODE="$TPU_NAME"
  [ "$SLICES" = 1 ] || NODE="$TPU_NAME-0"
  [ "$DRY_RUN" = no ] || return 0
  for tool in gcloud git timeout flock; do
    command -v "$tool" >/dev/null || fail E-CONFIG 2 "$tool is not" \
      "installed; Google's Cloud Shell has all that is needed"
  done
  mkdir -p "$LOGS"
}

install() {
  upload_code
  all_ready 3000 install
}

train() {  # sets OUTCOME
  all_ready 600 start || [ "$OUTCOME" = "done" ] || return 0
  follow
}

follow() {  # until the training ends; OUTCOME as judge's, or gone or lost
  local told="" line shown="" silent=0 uneven=0
  while :; do
    ask_state
    case "$SLICE" in
      ABSENT | DELETING | FAILED | SUSPENDED | SUSPENDING)
        say "$TPU_NAME: $SLICE"
        OUTCOME=gone
        return
        ;;
    esac
    DRY_STATE="exit 0" ask_workers 300 status
    [ "$COUNTS" = "$told" ] || say "$COUNTS"
    told="$COUNTS"
    line="$(grep -m 1 'w-0 running ' <<<"$ANSWERS" || true)"
    [ -z "$line" ] || [ "$line" = "$shown" ] || say "${line#STATUS * running }"
    shown="$line"
    if [ "$OUTCOME $RUNNING" = "ready 0" ]; then
      OUTCOME=failed WHY="no worker trains or tells how its training ended"
    fi
    case "$OUTCOME" in
      ready) silent=0 uneven=0 ;;
      silent)  # ssh fails at times, and a slice that is up is not given up
        silent=$((silent + 1))
        if [ $silent -ge 10 ]; then
          OUTCOME=lost
          return
        fi
        ;;
      *)  # a lost peer's survivors take up to a minute to notice
        uneven=$((uneven + 1))
        [ "$RUNNING" -gt 0 ] && [ $uneven -lt 4 ] || return 0
        ;;
    esac
    sleep "$POLL_S"
  done
}

attempt() {  # one training on a slice that is up; sets OUTCOME
  count_workers || {
    OUTCOME=failed WHY="gcloud cannot name the workers of $NODE"
    return 0
  }
  ask_workers 300 status
  case "$RUNNING $OUTCOME" in
    0\ *) ;;
    *ready | *silent)
      follow  # what runs already is not started twice
      return
      ;;
  esac
  ask_workers 600 stop
  install || {  # mostly the network's fault, whatever its exit code
    OUTCOME=failed
    return 0
  }
  all_ready 1800 preflight || return 0
  train
}

resume() {
  local relaunches=0 failures=0
  if [ "$DRY_RUN" = no ]; then
    exec 8>"$LOGS/lock"
    flock -n 8 || fail E-CONFIG 2 "another resume of $TPU_NAME runs on this" \
      "machine ($LOGS/lock); one is enough"
  fi
  while :; do
    create
    OUTCOME=gone WHY="" RUNNING=0
    ! wait_up || attempt
    case "$OUTCOME" in
      done | fatal* | lost) break ;;
      gone | preempted) failures=0 ;;
      *)
        failures=$((failures + 1))
        say "failed $failures of $MAX_FAILURES times in a row: $WHY"
        [ $failures -lt "$MAX_FAILURES" ] || break
        ;;
    esac
    [ $relaunches -lt "$MAX_RELAUNCHES" ] || break
    relaunches=$((relaunches + 1))
    say "relaunch $relaunches of at most $MAX_RELAUNCHES: $OUTCOME"
    sleep "$POLL_S"
  done
  if [ "$OUTCOME" != lost ] && [ "$OUTCOME" != gone ]; then
    logs
    [ "$RUNNING" = 0 ] || (ask_workers 600 stop)  # survivors; keeps OUTCOME
    [ "$DELETE_AT_END" = no ] || delete
  fi
  finish
}

finish() {  # turns OUTCOME into the exit status
  case "$OUTCOME" in
    done | ready) say "finished: gs://$BUCKET/$RUN" ;;
    fatal*)
      fail E-TPU "${OUTCOME#fatal }" "no relaunch mends this: $WHY" ;;
    lost) fail E-TPU 6 "$TPU_NAME is ACTIVE, but $WHY by ssh; look at it, or" \
      "delete it and resume" ;;
    gone | preempted)
      fail E-TPU 75 "the slice was taken away or the training was stopped;" \
        "$0 resume goes on from the last checkpoint" ;;
    *) fail E-TPU 6 "workers failed: $WHY; see $LOGS, then $0 resume" ;;
  esac
}

logs() {
  local target="$LOGS/worker0.log"
  if ! run 300 gcloud compute tpus tpu-vm scp \
      "$NODE:drivemoe/state/train.log" "$target" "${WHERE[@]}" --worker=0 \
      --strict-host-key-checking=no; then
    say "worker 0's log cannot be fetched; those of trainings that ended are" \
      "in gs://${BUCKET:-BUCKET}/${RUN:-RUN}/console" >&2
  else
    say "worker 0's log: $target"
  fi
}

parse_flags "$@"
check_settings
case "$VERB" in
  create | delete | resume | logs) "$VERB" ;;
  wait) wait_up || fail E-TPU 75 "$TPU_NAME was taken away; create it again" ;;
  *)
    [ "$VERB" != status ] || { ask_state && say "$TPU_NAME: $SLICE"; }
    count_workers || fail E-TPU 6 "gcloud cannot name the workers of $NODE," \
      "see above; is the slice up?"
    case "$VERB" in
      install) install || finish ;;
      preflight) all_ready 1800 preflight || finish ;;
      train)
        train
        finish
        ;;
      status)
        ask_workers 300 status
        [ "$DRY_RUN" = yes ] || printf '%s\n' "$ANSWERS"
        say "$COUNTS"
        ;;
      stop) all_ready 600 stop || finish ;;
    esac
    ;;
esac
