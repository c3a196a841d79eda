#!/usr/bin/env bash
# Runs every example of the package once, on loopback servers of its own: `bash examples/run.sh`, or with the names of some.
# Fails if one fails, or if one is not listed in examples/README.md. `PROFILE=dev` uses the build of the tests.
set -euo pipefail
cd "$(dirname "$0")/.."

declare -A arguments=([soak]="--seconds 20")
names=("$@")
if [ ${#names[@]} = 0 ]; then
  mapfile -t names < <(cargo metadata --no-deps --format-version 1 |
    python3 -c 'import json, sys
for package in json.load(sys.stdin)["packages"]:
    for target in package["targets"]:
        if package["name"] == "tower-m2m" and "example" in target["kind"] and not target.get("required-features"):
            print(target["name"])')
fi
for name in "${names[@]}"; do
  grep -q "^## \`$name\`" examples/README.md || { echo "examples/README.md does not say what $name is"; exit 1; }
  printf '\n--> %s\n' "$name"
  # shellcheck disable=SC2086
  cargo run -q --profile "${PROFILE:-release}" --example "$name" -- ${arguments[$name]:-}
done
