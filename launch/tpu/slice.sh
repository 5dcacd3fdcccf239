# Sourced by pod.sh: asks for a slice, waits for it, gives it back. A slice is
# a queued resource: Google's queue for TPUs, whose states are named here.
# shellcheck shell=bash
# shellcheck disable=SC2153  # settings come from pod.sh

queued() {  # verb, arguments...
  local verb="$1"
  shift
  run 900 gcloud compute tpus queued-resources "$verb" "$TPU_NAME" \
    "${WHERE[@]}" "$@"
}

ask_state() {  # sets SLICE: a state of the service, ABSENT or UNKNOWN
  local errors
  if [ "$DRY_RUN" = yes ]; then
    queued describe '--format=value(state.state)'
    SLICE="${ASSUMED:-ACTIVE}"
    return
  fi
  if SLICE="$(queued describe '--format=value(state.state)' \
      2>"$LOGS/describe.err")"; then
    [ -n "$SLICE" ] || SLICE=UNKNOWN
    return
  fi
  errors="$(tr '\n' ' ' <"$LOGS/describe.err")"
  case "$errors" in
    *NOT_FOUND* | *"not found"* | *"could not be found"*) SLICE=ABSENT ;;
    *)
      SLICE=UNKNOWN
      say "the state of $TPU_NAME cannot be read: ${errors:0:300}" >&2
      ;;
  esac
}

check_bucket() {  # in the slice's region, and with real folders
  local found location folders region="${ZONE%-*}"
  found="$(run 120 gcloud storage buckets describe "gs://$BUCKET" --raw \
    '--format=csv[no-heading](location,hierarchicalNamespace.enabled)' \
    --project="$PROJECT_ID")" || fail E-DISK 4 \
    "gs://$BUCKET cannot be described; make it as docs/tpu.md says, or ask" \
    "for storage.buckets.get on it"
  if [ "$DRY_RUN" = yes ]; then
    printf '%s\n' "$found"
    return
  fi
  IFS=, read -r location folders <<<"$found"
  [ "${location,,}" = "${region,,}" ] || fail E-CONFIG 2 "gs://$BUCKET lies" \
    "in ${location:-?} and the slice in $region, so that every byte between" \
    "them is billed; use a bucket in $region"
  # A checkpoint becomes visible when its folder is renamed. A bucket without
  # real folders does that object by object.
  [ "${folders,,}" = true ] || fail E-DISK 4 "gs://$BUCKET has no" \
    "hierarchical namespace: renames are not atomic there, and a half-saved" \
    "checkpoint could look whole; make a bucket as docs/tpu.md says"
}

create() {
  local nodes=(--node-id="$TPU_NAME") extra=() tries
  check_bucket
  for tries in 1 2 3 4 5; do
    ASSUMED=ABSENT ask_state
    [ "$SLICE" = UNKNOWN ] && [ "$tries" != 5 ] || break
    sleep "$POLL_S"
  done
  case "$SLICE" in
    ABSENT) ;;
    FAILED | SUSPENDED | SUSPENDING | DELETING) delete ;;
    UNKNOWN) fail E-TPU 6 "gcloud cannot tell whether $TPU_NAME is there, see" \
      "above; gcloud auth login, or check PROJECT_ID and ZONE" ;;
    *)
      say "$TPU_NAME is there: $SLICE"
      return
      ;;
  esac
  [ "$SLICES" = 1 ] || nodes=(--node-count="$SLICES" --node-prefix="$TPU_NAME")
  [ "$SPOT" = no ] || extra+=(--spot)
  [ -z "${SERVICE_ACCOUNT:-}" ] ||
    extra+=(--service-account="$SERVICE_ACCOUNT")
  # With a limit: nobody is there for a slice that comes up after `wait`.
  queued create "${nodes[@]}" --accelerator-type="$ACCELERATOR_TYPE" \
    --runtime-version="$RUNTIME_VERSION" \
    --valid-until-duration="${WAIT_S}s" "${extra[@]}" || fail E-TPU 6 \
    "the request for $ACCELERATOR_TYPE in $ZONE was refused, see above; check" \
    "quota, type and zone (docs/tpu.md)"
}

wait_up() {  # returns 1 when the slice was taken away before it was used
  local told="" end=$((SECONDS + WAIT_S))
  while :; do
    ask_state
    [ "$SLICE" = "$told" ] || say "$TPU_NAME: $SLICE"
    told="$SLICE"
    case "$SLICE" in
      ACTIVE) return 0 ;;
      SUSPENDING | SUSPENDED) return 1 ;;
      ABSENT) fail E-TPU 6 "there is no request $TPU_NAME in $ZONE; create it" ;;
      FAILED) fail E-TPU 75 "the request $TPU_NAME failed:" \
        "$(queued describe '--format=value(state)' 2>&1 | head -c 400);" \
        "without capacity for WAIT_S=$WAIT_S start again or take another" \
        "zone, else correct it" ;;
    esac
    [ $SECONDS -lt $end ] || fail E-TPU 75 "$TPU_NAME is still $SLICE after" \
      "WAIT_S=$WAIT_S seconds; start again to wait on, or delete it"
    sleep "$POLL_S"
  done
}

delete() {
  local tries
  for tries in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
    case "$tries" in
      1 | 6 | 11) queued delete --force || true ;;  # fails while it suspends
    esac
    ASSUMED=ABSENT ask_state
    if [ "$SLICE" = ABSENT ]; then
      say "$TPU_NAME is deleted"
      return
    fi
    sleep "$POLL_S"
  done
  fail E-TPU 6 "$TPU_NAME is still $SLICE and may cost money; look at it in" \
    "the console, or delete it again"
}
