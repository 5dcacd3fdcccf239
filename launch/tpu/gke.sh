#!/usr/bin/env bash
# The same training on GKE, as a JobSet that restarts itself. Needs a cluster
# with TPU node pools, JobSet and the Cloud Storage FUSE driver: docs/tpu.md.
# Never run on a TPU yet.
#
#   launch/tpu/gke.sh [--dry-run] [--env FILE] VERB
#
#   render     print the job's YAML
#   apply      hand it to the cluster that kubectl is connected to
#   status     the JobSet and its pods
#   logs       the last lines of host 0 of slice 0
#   delete     take the job away; buckets and data stay
#
# --dry-run prints the commands, and apply the YAML; it runs none.
# Settings come from the environment or from FILE: launch/tpu/example.env.
set -euo pipefail
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=launch/tpu/settings.sh
source "$HERE/settings.sh"

check_settings() {
  local side chips=1 name
  require TPU_NAME
  case "$VERB" in
    render | apply)
      require BUCKET CONFIG RUN IMAGE GKE_ACCELERATOR TOPOLOGY
      ;;
    status | logs | delete) return ;;
    *) fail E-CONFIG 2 "unknown verb $VERB; see $0 --help" ;;
  esac
  : "${SPOT:=yes}" "${SLICES:=1}" "${CHIPS_PER_HOST:=4}" "${MAX_RESTARTS:=100}"
  : "${SERVICE_ACCOUNT:=default}" "${KUEUE_QUEUE:=}" "${TRAIN_ARGS:=}"
  : "${DATA:=}"
  check_yes_no SPOT
  check_number SLICES CHIPS_PER_HOST MAX_RESTARTS
  check_places
  [[ "$TOPOLOGY" =~ ^[0-9]+x[0-9]+(x[0-9]+)?$ ]] || fail E-CONFIG 2 \
    "TOPOLOGY is '$TOPOLOGY'; write 4x4 or 2x2x4"
  for side in ${TOPOLOGY//x/ }; do chips=$((chips * side)); done
  [ $((chips % CHIPS_PER_HOST)) = 0 ] || fail E-CONFIG 2 "$TOPOLOGY has" \
    "$chips chips, no multiple of CHIPS_PER_HOST=$CHIPS_PER_HOST"
  # shellcheck disable=SC2034  # the template names it
  HOSTS=$((chips / CHIPS_PER_HOST))
  for name in TPU_NAME CONFIG IMAGE GKE_ACCELERATOR SERVICE_ACCOUNT \
      KUEUE_QUEUE TRAIN_ARGS BUCKET RUN DATA; do
    [[ ! "${!name}" =~ [^A-Za-z0-9\ ._/:=@,+-] ]] || fail E-CONFIG 2 \
      "$name is '${!name}', with a character that YAML or a shell would" \
      "take for its own; use letters, digits and . _ / : = @ , + -"
    [[ ! "${!name}" =~ @[A-Z_]+@ ]] || fail E-CONFIG 2 \
      "$name is '${!name}', and the template would fill in" \
      "${BASH_REMATCH[0]} again; write it without one @"
  done
  [ -z "$DATA" ] ||
    TRAIN_ARGS="--config.data.root=prepared${TRAIN_ARGS:+ $TRAIN_ARGS}"
}

render() {
  local line name value
  while IFS= read -r line; do
    if [[ "$line" =~ ^(.*[^ ])\ *#\ if\ ([A-Z_]+)$ ]]; then
      line="${BASH_REMATCH[1]}"
      value="${!BASH_REMATCH[2]}"
      [ -n "$value" ] && [ "$value" != no ] || continue
    fi
    while [[ "$line" =~ @([A-Z_]+)@ ]] && [[ "$line" != \#* ]]; do
      name="${BASH_REMATCH[1]}"
      line="${line//@$name@/${!name}}"
    done
    printf '%s\n' "$line"
  done <"$HERE/jobset.yaml"
}

parse_flags "$@"
check_settings
[ "$DRY_RUN" = yes ] || [ "$VERB" = render ] ||
  command -v kubectl >/dev/null ||
  fail E-CONFIG 2 "kubectl is not installed; Google's Cloud Shell has it"
case "$VERB" in
  render) render ;;
  apply)
    if [ "$DRY_RUN" = yes ]; then
      run 120 kubectl apply -f -
      render
    else
      render | run 120 kubectl apply -f -
    fi
    ;;
  status)
    run 120 kubectl get jobset "$TPU_NAME" --ignore-not-found
    run 120 kubectl get pods -o wide \
      -l "jobset.sigs.k8s.io/jobset-name=$TPU_NAME"
    ;;
  logs)
    run 120 kubectl logs --tail=200 -c train -l "jobset.sigs.k8s.io/\
jobset-name=$TPU_NAME,jobset.sigs.k8s.io/job-index=0,\
batch.kubernetes.io/job-completion-index=0"
    ;;
  delete) run 600 kubectl delete jobset "$TPU_NAME" --ignore-not-found ;;
esac
