#!/usr/bin/env bash
# Instructions (callgrind) and allocations per request of named paths, compared with benches/guard.txt: more than 3 %
# above the kept instructions fails, and so does any allocation more. `benches/guard.sh --keep` rewrites the file;
# `--features redis`, before that, builds with further features, which must cost a request nothing.
#
# `benches/guard.sh --proofs` measures proofs (DPoP) instead, by a program with the features for them, which takes minutes:
# `signature` is one ES256 signature alone, and a request with a proof (`dpop`) may execute 10 % more than that. More fails.
#
# A path is a stack of layers and what the server announces: nothing, or its quota in every response, in the fields of
# Didit, GitHub or the IETF's draft 10. Each is compared with the bare service that announces the same.
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
# build ARGUMENTS..: prints the path of the program.
build() {
  cargo bench --bench guard "$@" --no-run --message-format=json 2>/dev/null |
    grep -o '"executable":"[^"]*/guard-[^"]*"' | tail -1 | cut -d'"' -f4
}
if [ "${1:-}" = --proofs ]; then
  program=$(build --features dpop,jwt-rust-crypto)
else
  program=$(build "${features[@]}")
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

instructions() {
  valgrind --tool=callgrind --callgrind-out-file="$work/$1-$2" --toggle-collect='guard::measured*' "$program" "$1" "$2" 2>/dev/null
  awk '/^summary:|^totals:/ { print $2; exit }' "$work/$1-$2"
}

if [ "${1:-}" = --proofs ]; then
  "$program" | grep -E '^(bare|signature|dpop) silent ' >"$work/allocations"
else
  "$program" >"$work/allocations"
fi
printf '# Per request, above the bare service: stack, what the server announces, instructions, allocations.\n' >"$work/now"
while read -r stack announced allocations; do
  count=$(instructions "$stack" "$announced")
  # Each server's bare service comes before its stacks.
  if [ "$stack" = bare ]; then
    bare=$count
    bare_allocations=$allocations
    continue
  fi
  awk -v s="$stack" -v n="$announced" -v c="$count" -v b="$bare" -v r=$rounds -v a="$allocations" -v ba="$bare_allocations" \
    'BEGIN { printf "%s %s %d %.1f\n", s, n, (c - b) / r, a - ba }' >>"$work/now"
done <"$work/allocations"
cat "$work/now"
if [ "${1:-}" = --proofs ]; then
  awk '$1 == "signature" { one = $3 } $1 == "dpop" { proof = $3 } END {
    if (proof > one * 1.1) { printf "a request with a proof executes %d instructions, a signature %d\n", proof, one; exit 1 }
  }' "$work/now"
  exit
fi
if [ "${1:-}" = --keep ]; then
  cp "$work/now" "$kept"
  exit
fi
awk '
  /^#/ { next }
  { path = $1 " " $2 }
  FNR == NR { instructions[path] = $3; allocations[path] = $4; next }
  !(path in instructions) { printf "%s is not in the recorded figures\n", path; bad = 1; next }
  $3 > instructions[path] * 1.03 { printf "%s: %d instructions instead of %d\n", path, $3, instructions[path]; bad = 1 }
  $4 > allocations[path] + 0.05 { printf "%s: %s allocations instead of %s\n", path, $4, allocations[path]; bad = 1 }
  { delete instructions[path] }
  END {
    for (path in instructions) { printf "%s is not measured any more\n", path; bad = 1 }
    exit bad
  }
' "$kept" "$work/now"
