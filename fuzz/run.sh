#!/usr/bin/env bash
# Runs each fuzz target for so many seconds (default: 5), or those that are named after them: `run.sh 60 origin dates`.
# Needs no nightly compiler and no cargo-fuzz: libFuzzer's coverage is a matter of flags.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:-5}
targets=("${@:2}")
if [ ${#targets[@]} = 0 ]; then
  targets=(challenge config dates headers metadata origin structured token_response)
fi
host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=../target/fuzz
export RUSTFLAGS="--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module \
  -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
cargo build --quiet --release --target "$host"

for target in "${targets[@]}"; do
  # What is new goes to the first directory; the corpus that is kept is only read.
  found=$CARGO_TARGET_DIR/corpus/$target
  log=$CARGO_TARGET_DIR/$target.log
  mkdir -p "$found"
  if ! "$CARGO_TARGET_DIR/$host/release/$target" "$found" "corpus/$target" -max_total_time="$seconds" \
    -max_len=2048 -timeout=10 -rss_limit_mb=1024 -dict=words.dict -print_final_stats=1 \
    -artifact_prefix="$CARGO_TARGET_DIR/$target-" >"$log" 2>&1; then
    cat "$log"
    exit 1
  fi
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  coverage=$(sed -n 's/.*\(cov: [0-9]*\).*/\1/p' "$log" | tail -1)
  echo "$target: $runs runs in $seconds s, $coverage"
done
