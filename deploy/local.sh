#!/usr/bin/env bash
# Starts Parlor as seven processes on this machine: auth, conversation, two of messaging, scheduling, two gateways, on a
# PostgreSQL and a NATS that are given or started privately. Ctrl-C stops everything it started; what was said stays in
# the data folder, ./data/local by default.
#
#   deploy/local.sh [--postgres URL] [--nats URL] [--data FOLDER] [--debug]
set -euo pipefail
cd "$(dirname "$0")/.."

postgres_url= nats_url= data=$PWD/data/local profile=--release build=release
while [ $# -gt 0 ]; do
  case $1 in
    --postgres) postgres_url=$2; shift 2 ;;
    --nats) nats_url=$2; shift 2 ;;
    --data) data=$2; shift 2 ;;
    --debug) profile= build=debug; shift ;;
    *) sed -n '2,6p' "$0" >&2; exit 2 ;;
  esac
done

. tests/services.sh
mkdir -p "$data/log" "$data/secret"
chmod 700 "$data/secret"

say 'building'
# shellcheck disable=SC2086
cargo build $profile --workspace --bins --exclude tests

pids=()
stop() {
  trap - EXIT INT TERM
  say 'stopping'
  # Gateways first: their clients are told to come back while everything behind them still works.
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do kill "${pids[i]}" 2>/dev/null || true; done
  [ ${#pids[@]} = 0 ] || wait "${pids[@]}" 2>/dev/null || true
  [ -z "${folder:-}" ] || stop_services
}

if [ -z "$postgres_url" ] || [ -z "$nats_url" ]; then
  find_services
  start_services "$data/services"
  postgres_url=${postgres_url:-$PARLOR_TEST_POSTGRES}
  nats_url=${nats_url:-$PARLOR_TEST_NATS}
fi
trap stop EXIT
trap 'exit 130' INT TERM

# Every service has a secret of its own; the others know its SHA-256 sum. The keys of notices on the bus are made by the
# first process that needs them.
export PARLOR__NATS__SERVERS=$nats_url PARLOR__NATS__NOTICE_KEYS=$data/secret/notice-keys
for service in conversation messaging scheduling gateway; do
  file=$data/secret/$service
  [ -s "$file" ] || (umask 077; head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$file")
  sum=$(sha256sum <"$file" | cut -d' ' -f1)
  export "PARLOR__IDENTITY__ACCEPTED__${service^^}=$sum"
done

at=127.0.0.1
export PARLOR__PEERS__AUTH=http://$at:50051 PARLOR__PEERS__CONVERSATION=http://$at:50052
export PARLOR__PEERS__MESSAGING=http://$at:50053,http://$at:50063 PARLOR__PEERS__SCHEDULING=http://$at:50054

start() { # name, service, gRPC or HTTP port, admin port
  local name=$1 service=$2 port=$3 admin=$4
  (
    export PARLOR__LISTEN__ADMIN=$at:$admin
    [ ! -e "$data/secret/$service" ] || export PARLOR__IDENTITY__SECRET_FILE=$data/secret/$service
    if [ "$service" = gateway ]; then
      export PARLOR__SERVICE__LISTEN=$at:$port
    else
      export PARLOR__LISTEN__GRPC=$at:$port PARLOR__DATABASE__URL=$postgres_url
      [ "$service" != messaging ] || export PARLOR__SERVICE__UPLOADS__URL=file://$data/uploads
    fi
    exec "${CARGO_TARGET_DIR:-target}/$build/parlor-$service" >"$data/log/$name.log" 2>&1
  ) &
  pids+=($!)
  for _ in $(seq 300); do
    ! curl -fs "http://$at:$admin/readyz" >/dev/null || { printf '  %-14s %s:%s, admin %s:%s\n' "$name" $at "$port" $at "$admin"; return; }
    kill -0 "${pids[-1]}" 2>/dev/null || break
    sleep 0.1
  done
  tail -n 20 "$data/log/$name.log" >&2
  fail "$name does not become ready; its log is $data/log/$name.log"
}

say 'starting'
start auth auth 50051 9051
start conversation conversation 50052 9052
start messaging-1 messaging 50053 9053
start messaging-2 messaging 50063 9063
start scheduling scheduling 50054 9054
start gateway-1 gateway 3000 9050
start gateway-2 gateway 3001 9060
say "ready: http://$at:3000/docs and http://$at:3001, logs in $data/log. Ctrl-C stops everything."
wait -n "${pids[@]}" || true
fail 'a process has ended; see the logs'
