#!/usr/bin/env bash
# The whole road on one machine: record miniworld routes, train both stages,
# evaluate, drive and film, draw the report, export the weights. Started again,
# it goes on where it stopped and skips what is finished.
#
#   ./launch/demo.sh [DIR]    DIR takes all results; demo/ in the repository
set -euo pipefail
if [[ "${1:-}" == -* ]]; then
  sed -n 's/^# \{0,1\}//p' "${BASH_SOURCE[0]}" | sed -n 2,6p
  exit 0
fi
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
OUT="${1:-${DEMO_DIR:-$HERE/demo}}"
mkdir -p "$OUT"
OUT="$(cd "$OUT" && pwd)"
source "$HERE/launch/setup.sh"
cd "$ROOT"
OUT="${OUT#"$ROOT"/}"
REPORT="$OUT/report.html"
DRIVES="$OUT/stage2/closed_loop.json"
FILM="$OUT/stage2/film.gif"
WEIGHTS="$OUT/export/drivemoe.safetensors"

say() {
  printf '\n== %s (%d s)\n' "$*" "$SECONDS"
}

drivemoe() {
  local name="$1"
  shift
  "$PY" -m "launch.$name" "$@"
}

newer() {  # is there a file $1, newer than $2?
  [ "$1" -nt "$2" ]
}

say "1/6 stage 1: record routes, then train with the labelled cameras"
drivemoe train --config configs/tiny.py --workdir "$OUT/stage1"

say "2/6 stage 2: the camera router learns from the plan's loss too"
drivemoe train --config configs/tiny.py:stage=2 --workdir "$OUT/stage2" \
  --config.init_from="$OUT/stage1"
STEP="$(ls "$OUT/stage2/checkpoints" | grep -x '[0-9]*' | sort -n | tail -n 1)"
CHECKPOINT="$OUT/stage2/checkpoints/$STEP"

say "3/6 evaluate on routes that were not trained on"
if newer "$OUT/stage2/evaluation.json" "$CHECKPOINT"; then
  echo "done before: $OUT/stage2/evaluation.json"
else
  drivemoe evaluate --workdir "$OUT/stage2" --limit 1000 \
    --noise-scale 0  # the middle of what it would sample
fi

say "4/6 drive in the miniworld: a scene of each skill, the first is filmed"
if newer "$DRIVES" "$CHECKPOINT" && [ -s "$FILM" ]; then
  echo "done before: $DRIVES"
else
  drivemoe evaluate --workdir "$OUT/stage2" --closed-loop --film "$FILM" \
    --episodes 7 --scenarios ParkedObstacle TJunction DynamicObjectCrossing \
    LaneChange ParkingExit HighwayCutIn VanillaSignalizedTurnEncounterRedLight
fi

say "5/6 draw the report"
if newer "$REPORT" "$OUT/stage2/evaluation.json" &&
    newer "$REPORT" "$DRIVES"; then
  echo "done before: $REPORT"
else
  drivemoe report --workdir "$OUT/stage1" --workdir "$OUT/stage2" \
    --out "$REPORT"
fi

say "6/6 export the weights under the official names"
if newer "$WEIGHTS" "$CHECKPOINT"; then
  echo "done before: $WEIGHTS"
else
  mkdir -p "$OUT/export"
  drivemoe convert --source "$OUT/stage2" --target "$WEIGHTS" --overwrite
fi

say "finished after $((SECONDS / 60)) min $((SECONDS % 60)) s"
cat <<END
report      $REPORT   (one page, opens in any browser)
film        $FILM   (in the report, too)
checkpoint  $CHECKPOINT
weights     $WEIGHTS

Next:
  the official .pt:
    .venv/bin/python -m launch.convert --source "$OUT/stage2" \\
      --target "$OUT/export/drivemoe.pt"
  the scores as one JSON object:
    cat "$OUT/stage2/evaluation.json"
  the full-size model, without opening anything:
    .venv/bin/python -m launch.train --config configs/stage1.py --dry-run
  your own Bench2Drive routes: README.md, "Your own Bench2Drive routes"
END
