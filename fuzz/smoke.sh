#!/usr/bin/env bash
# Runs each fuzz target for so many seconds (default: 5), or those that are named after them: `smoke.sh 60 origin dates`.
# A finding ends it with the input's name. `FUZZ_SEED` makes runs differ (default: 1). What is new in coverage goes to target/fuzz/corpus; the kept corpus is only read.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
seconds=${1:-5}
targets=("${@:2}")
if [ ${#targets[@]} = 0 ]; then
  mapfile -t targets < <(cargo fuzz list)
fi
# The crate has no unsafe code, so that sanitizers would find nothing and halve the number of runs. Without them no
# nightly compiler is needed.
cargo fuzz build --sanitizer none --target-dir target/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')

for target in "${targets[@]}"; do
  found=target/fuzz/corpus/$target
  log=target/fuzz/$target.log
  mkdir -p "$found"
  if ! "target/fuzz/$host/release/$target" "$found" "fuzz/corpus/$target" -max_total_time="$seconds" \
    -seed="${FUZZ_SEED:-1}" -max_len=2048 -timeout=10 -rss_limit_mb=1024 -dict=fuzz/words.dict -print_final_stats=1 \
    -artifact_prefix="target/fuzz/$target-" >"$log" 2>&1; then
    tail -n 60 "$log"
    exit 1
  fi
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  coverage=$(sed -n 's/.*cov: \([0-9]*\).*/\1/p' "$log" | tail -1)
  echo "$target: $runs runs in $seconds s without a finding, $coverage edges"
done
