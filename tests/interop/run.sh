#!/usr/bin/env bash
# The crate against servers written by others: installs them into this directory (node_modules, .venv), starts them on
# free ports of loopback, runs the tests of main.rs, which end with a table, and stops the servers. `run.sh limits` does
# so for the rate limiters only.
# Needs node 20 or newer, python 3.10 or newer, nginx and, the first time, their package registries.
set -euo pipefail
cd "$(dirname "$0")"
case ${1:-} in
  '') tests= ;;
  limits) tests=each_limiter ;;
  *) echo "usage: run.sh [limits]" >&2; exit 2 ;;
esac

PATH=$PATH:/usr/sbin
for tool in node npm python3 nginx; do
  command -v "$tool" >/dev/null && continue
  if [ $tool != nginx ] || [ "$(id -u)" != 0 ] || ! apt-get install --yes --quiet --no-install-recommends nginx-light; then
    echo "tests/interop needs $tool" >&2
    exit 1
  fi
done
if ! cmp -s package-lock.json node_modules/.installed; then
  npm ci --no-progress
  cp package-lock.json node_modules/.installed
fi
if ! cmp -s requirements.txt .venv/.installed; then
  python3 -m venv --clear .venv
  .venv/bin/pip install --quiet --disable-pip-version-check --no-deps -r requirements.txt
  cp requirements.txt .venv/.installed
fi

export RUST_BACKTRACE=0
test=(test --all-features --test interop)
"${CARGO:-cargo}" "${test[@]}" --no-run

run=$(mktemp -d)
pids=()
stop() {
  trap - EXIT INT TERM
  [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
  wait
  rm -rf "$run"
}
trap stop EXIT
trap 'exit 130' INT TERM

# start NAME COMMAND..: what the server writes into $run/NAME.json once it listens is what the tests know about it.
start() {
  local name=$1
  shift
  (cd servers && exec "$@") >"$run/$name.log" 2>&1 &
  pids+=($!)
}

# up NAME: waits until the server listens.
up() {
  for _ in $(seq 300); do
    [ ! -e "$run/$1.json" ] || return 0
    sleep 0.1
  done
  echo "tests/interop: $1 did not start:" >&2
  cat "$run/$1.log" >&2
  exit 1
}

# gunicorn APP: the application in servers/APP.py.
gunicorn() {
  start "$1" env INTEROP_RUN="$run" INTEROP_APP="$1" INTEROP_FILE="$run/$1.json" PYTHONDONTWRITEBYTECODE=1 \
    ../.venv/bin/gunicorn --config gunicorn.conf.py "$1:application"
}

start limits node limits.js "$run/limits.json"
start nginx bash nginx.sh "$run/nginx.json"
start slow_api env PYTHONDONTWRITEBYTECODE=1 ../.venv/bin/python slow_api.py "$run/slow_api.json"
gunicorn django_api
gunicorn flask_api
if [ -z "$tests" ]; then
  start issuer node issuer.js "$run/issuer.json"
  up issuer
  start jwt_api node jwt_api.js "$run/jwt_api.json" "$run/issuer.json"
  up jwt_api
fi
for server in limits nginx slow_api django_api flask_api; do up "$server"; done

INTEROP_SERVERS=$(
  for file in "$run"/*.json; do printf ',"%s":%s' "$(basename "$file" .json)" "$(cat "$file")"; done | sed 's/^,/{/; s/$/}/'
) "${CARGO:-cargo}" "${test[@]}" --quiet -- --ignored --nocapture $tests
