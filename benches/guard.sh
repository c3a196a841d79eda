#!/usr/bin/env bash
# Instructions (callgrind) and allocations per request of five named paths, compared with benches/guard.txt: more than
# 3 % above the kept figures fails. `benches/guard.sh --keep` writes the file anew; `--features redis`, before that, builds
# with further features, which must cost a request nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
kept=benches/guard.txt
rounds=1000
features=()
if [ "${1:-}" = --features ]; then
  features=(--features "$2")
  shift 2
fi

command -v valgrind >/dev/null || { apt-get update -qq && apt-get install -y -qq valgrind >/dev/null; }
build=$(CARGO_PROFILE_BENCH_DEBUG=line-tables-only cargo bench --bench guard "${features[@]}" --no-run --message-format=json 2>/dev/null)
program=$(grep -o '"executable":"[^"]*/guard-[^"]*"' <<<"$build" | tail -1 | cut -d'"' -f4)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

instructions() {
  valgrind --tool=callgrind --callgrind-out-file="$work/$1" --toggle-collect='guard::measured*' "$program" "$1" 2>/dev/null
  awk '/^summary:|^totals:/ { print $2; exit }' "$work/$1"
}

"$program" >"$work/allocations"
bare=$(instructions bare)
printf '# Per request, above the bare service: path, instructions, allocations.\n' >"$work/now"
while read -r path allocations; do
  if [ "$path" = bare ]; then
    bare_allocations=$allocations
    continue
  fi
  count=$(instructions "$path")
  awk -v p="$path" -v c="$count" -v b="$bare" -v r=$rounds -v a="$allocations" -v ba="$bare_allocations" \
    'BEGIN { printf "%s %d %.1f\n", p, (c - b) / r, a - ba }' >>"$work/now"
done <"$work/allocations"
cat "$work/now"

if [ "${1:-}" = --keep ]; then
  cp "$work/now" "$kept"
  exit
fi
awk '
  /^#/ { next }
  FNR == NR { instructions[$1] = $2; allocations[$1] = $3; next }
  !($1 in instructions) { printf "%s is not in the recorded figures\n", $1; bad = 1; next }
  $2 > instructions[$1] * 1.03 { printf "%s: %d instructions instead of %d\n", $1, $2, instructions[$1]; bad = 1 }
  $3 > allocations[$1] + 0.05 { printf "%s: %s allocations instead of %s\n", $1, $3, allocations[$1]; bad = 1 }
  END { exit bad }
' "$kept" "$work/now"
