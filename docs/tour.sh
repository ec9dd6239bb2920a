#!/usr/bin/env bash
# The tour of README.md, runnable: the whole loop with curl, against a running service.
#
#   upkeep up &  docs/tour.sh
#
# UPKEEP_URL names the service, MODEL the model it makes (it must not be there yet), UPKEEP_KEY an
# operator's or approver's key where keys exist, PYTHON the interpreter with the service installed.
set -euo pipefail
cd "$(dirname "$0")/.."
export UPKEEP_URL="${UPKEEP_URL:-http://127.0.0.1:8321}" MODEL="${MODEL:-digits}"
PYTHON="${PYTHON:-.venv/bin/python}"
T="$(mktemp -d)"
trap 'rm -rf "$T"' EXIT

say() { printf '\n\n# %s\n' "$*"; }
curl() { command curl --silent --show-error --fail-with-body --max-time 600 ${UPKEEP_KEY:+-H "Authorization: Bearer $UPKEEP_KEY"} "$@"; }
# wait_for TEXT URL: look until the answer holds the text, for five minutes at most.
wait_for() {
  local end=$((SECONDS + ${3:-300}))
  until curl "$2" | grep -q "$1"; do
    [ "$SECONDS" -lt "$end" ] || { echo "gave up waiting for $1 at $2" >&2; exit 1; }
    sleep 0.5
  done
}

say "Ready? A worker has announced what it can train."
wait_for '"ready"' "$UPKEEP_URL/readyz"
wait_for image-classification "$UPKEEP_URL/v1/task-types"
curl $UPKEEP_URL/readyz

say "1. A model to keep good"
curl $UPKEEP_URL/v1/models -H 'Content-Type: application/json' -d '{
  "name": "'$MODEL'", "task_type": "image-classification", "base_model": "preset:resnet-tiny-gray",
  "labels": ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
  "policy": {"retrain": {"recipe": {"epochs": 5}}}}'

say "2. Labelled rows to learn from"
$PYTHON docs/tour_rows.py training > $T/training.ndjson
curl "$UPKEEP_URL/v1/models/$MODEL/datasets?role=training" \
  -H 'Content-Type: application/x-ndjson' --data-binary @$T/training.ndjson

say "3. A first version: ask, and follow the run until it ends"
RUN=$UPKEEP_URL$(curl -o $T/run.json -w '%header{location}' $UPKEEP_URL/v1/models/$MODEL/retrain \
  -H 'Content-Type: application/json' -H 'Idempotency-Key: first' -d '{"reason": "first version"}')
curl -N $RUN/events

say "4. The champion: its ETag changes when another takes over"
curl -D - -o $T/champion.json $UPKEEP_URL/v1/models/$MODEL/champion
ETAG=$(curl -o $T/champion.json -w '%header{etag}' $UPKEEP_URL/v1/models/$MODEL/champion)
cat $T/champion.json
say "   the same again: 304, no body"
curl -w '%{http_code}\n' -H "If-None-Match: $ETAG" $UPKEEP_URL/v1/models/$MODEL/champion

say "5. What it sees and answers, and the labels that come later"
$PYTHON docs/tour_serve.py 1000 1300 > $T/quiet.ndjson
curl $UPKEEP_URL/v1/models/$MODEL/observations \
  -H 'Content-Type: application/x-ndjson' --data-binary @$T/quiet.ndjson
$PYTHON docs/tour_rows.py labels 1000 1300 > $T/labels.ndjson
curl $UPKEEP_URL/v1/models/$MODEL/labels \
  -H 'Content-Type: application/x-ndjson' --data-binary @$T/labels.ndjson
wait_for '"is_settled":true' $UPKEEP_URL/v1/models/$MODEL

say "6. A check: what moved, and what follows from it"
CHECK=$UPKEEP_URL$(curl -X POST -o $T/check.json -w '%header{location}' \
  $UPKEEP_URL/v1/models/$MODEL/checks)
wait_for '"completed"' $CHECK
curl $CHECK
say "   the decision"
curl "$UPKEEP_URL/v1/models/$MODEL/decisions?limit=1"

say "7. Another scanner swaps light and dark; nobody asks for anything"
$PYTHON docs/tour_serve.py 1300 1700 --negative > $T/negative.ndjson
curl $UPKEEP_URL/v1/models/$MODEL/observations \
  -H 'Content-Type: application/x-ndjson' --data-binary @$T/negative.ndjson
$PYTHON docs/tour_rows.py labels 1300 1700 > $T/labels.ndjson
curl $UPKEEP_URL/v1/models/$MODEL/labels \
  -H 'Content-Type: application/x-ndjson' --data-binary @$T/labels.ndjson
wait_for '"is_settled":true' $UPKEEP_URL/v1/models/$MODEL

say "   why it retrained"
curl "$UPKEEP_URL/v1/models/$MODEL/decisions?outcome=retrain&limit=1"
say "   the drift report (its Evidently page is at .../evidently.html)"
curl "$UPKEEP_URL/v1/models/$MODEL/reports?limit=1"
say "   the run"
curl "$UPKEEP_URL/v1/models/$MODEL/runs?limit=1"
say "   and who serves now, with the verdict of each gate"
curl $UPKEEP_URL/v1/models/$MODEL/champion

say "8. Take it back, and say why"
curl $UPKEEP_URL/v1/models/$MODEL/rollback \
  -H 'Content-Type: application/json' -d '{"reason": "the negatives were our own mistake"}'
say "   every step is in the audit, in a chain of hashes"
curl "$UPKEEP_URL/v1/audit?model=$MODEL&limit=3"
curl $UPKEEP_URL/v1/audit/verify

say "9. A mistake is answered as a problem document that says what would work"
command curl -sS -w '\n%{http_code} %{content_type}\n' $UPKEEP_URL/v1/models/$MODEL/retrain \
  ${UPKEEP_KEY:+-H "Authorization: Bearer $UPKEEP_KEY"} \
  -H 'Content-Type: application/json' -d '{"reason": "try", "start_from": "scratch"}'
