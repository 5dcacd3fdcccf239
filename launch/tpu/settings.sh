# Sourced by pod.sh and gke.sh: flags, settings, their checks, and how a
# command is run or, with --dry-run, printed.
# shellcheck shell=bash
# shellcheck disable=SC2034  # what is set here is read by those who source it

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
DRY_RUN=no

fail() {  # code, exit status, words...
  local code="$1" status="$2"
  shift 2
  printf '%s: %s\n' "$code" "$*" >&2
  exit "$status"
}

say() {  # nothing in a dry run, where it would tell what did not happen
  [ "$DRY_RUN" = yes ] || printf '%s %s\n' "$(date -u +%H:%M:%S)" "$*"
}

usage() {  # the comment at the top of the script that was started
  sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "$0"
}

[ "${BASH_VERSINFO[0]}${BASH_VERSINFO[1]}" -ge 44 ] ||
  fail E-CONFIG 2 "bash $BASH_VERSION is too old; 4.4 is needed, which Linux" \
    "and Google's Cloud Shell have"

parse_flags() {  # sets VERB, DRY_RUN and the variables of --env files
  VERB=""
  while [ $# -gt 0 ]; do
    case "$1" in
      --dry-run) DRY_RUN=yes ;;
      --env)
        [ -r "${2:-}" ] || fail E-CONFIG 2 "--env ${2:-} cannot be read;" \
          "copy launch/tpu/example.env and fill it in"
        set -a
        # shellcheck disable=SC1090
        source "$2"
        set +a
        shift
        ;;
      -h | --help)
        usage
        exit 0
        ;;
      -*) fail E-CONFIG 2 "unknown flag $1; there are --dry-run and --env" ;;
      *)
        [ -z "$VERB" ] || fail E-CONFIG 2 "two verbs, $VERB and $1; give one"
        VERB="$1"
        ;;
    esac
    shift
  done
  if [ -z "$VERB" ]; then
    usage >&2
    exit 2
  fi
}

require() {  # names...: one line tells all that are missing
  local name missing=()
  for name in "$@"; do
    [ -n "${!name:-}" ] || missing+=("$name")
  done
  [ ${#missing[@]} -eq 0 ] || fail E-CONFIG 2 "not set: ${missing[*]}; set" \
    "them in the environment or in a file given with --env (copy" \
    "launch/tpu/example.env)"
}

check_number() {  # names...
  local name
  for name in "$@"; do
    [[ "${!name}" =~ ^[0-9]+$ ]] || fail E-CONFIG 2 \
      "$name is '${!name}', not a whole number"
  done
}

check_yes_no() {  # names...
  local name
  for name in "$@"; do
    [[ "${!name}" =~ ^(yes|no)$ ]] || fail E-CONFIG 2 \
      "$name is '${!name}'; write yes or no"
  done
}

check_places() {  # BUCKET, RUN and DATA, as far as they are set
  local name
  BUCKET="${BUCKET:-}"
  BUCKET="${BUCKET#gs://}"
  BUCKET="${BUCKET%/}"
  [[ "$BUCKET" != */* ]] || fail E-CONFIG 2 "BUCKET is '$BUCKET'; give the" \
    "bucket's name alone, folders go into RUN and DATA"
  for name in RUN DATA; do
    [[ ! "${!name:-}" =~ ^/|^gs:|(^|/)\.\.(/|$)|[^A-Za-z0-9._/@=+-] ]] ||
      fail E-CONFIG 2 "$name is '${!name}'; give a folder inside the bucket" \
        "such as runs/stage1"
  done
}

quote() {  # prints words as the shell would take them back
  local word line=""
  for word in "$@"; do
    [[ "$word" =~ ^[A-Za-z0-9_./:=@%+,-]+$ ]] ||
      word="'${word//\'/\'\\\'\'}'"
    line+="$word "
  done
  printf '%s' "${line% }"
}

run() {  # seconds, command...: runs it for at most so long, or prints it
  local limit="$1"
  shift
  if [ "$DRY_RUN" = yes ]; then
    printf '+ %s\n' "$(quote "$@")"
  else
    # In the terminal's process group, so that Ctrl-C reaches the command. At
    # the limit it alone gets the signal: an ssh that gcloud started may live
    # on, which is harmless as long as nobody waits for its output.
    timeout --foreground "$limit" "$@"
  fi
}
