#!/usr/bin/env bash
# test.sh [BINARY]: the demo for real. Builds, starts, waits until all is healthy, patches both hosts under load, and
# checks that no client noticed, that both were restarted and are healthy again, and that nothing runs as root. Removes
# everything at the end. COMPOSE="docker compose" or COMPOSE=docker-compose chooses the tool.
set -euo pipefail
binary=${1:+$(realpath "$1")}
cd "$(dirname "$0")"

fail() {
    echo "FAILED: $*" >&2
    ./demo.sh logs >&2 || true
    exit 1
}

container() {
    docker ps --all --quiet --filter label=com.docker.compose.project=changeover-demo \
        --filter "label=com.docker.compose.service=$1"
}

state() {
    docker inspect --format "$2" "$(container "$1")"
}

healthy() {
    for _ in $(seq 60); do
        if [ "$(state "$1" '{{.State.Health.Status}}')" = healthy ]; then
            return
        fi
        sleep 1
    done
    fail "$1 is not healthy"
}

# Of the Redis process; a restarted one has another.
run_id() {
    docker exec "$(container "$1")" redis-cli INFO server | tr -d '\r' | grep '^run_id:'
}

trap './demo.sh down >/dev/null 2>&1 || true; rm -rf prebuilt' EXIT
./demo.sh up "${binary:-}" || fail 'up'
healthy node-a
healthy node-b
for service in node-a node-b load; do
    [ "$(docker exec "$(container "$service")" id -u)" != 0 ] || fail "$service runs as root"
done
sleep 5
before="$(run_id node-a) $(run_id node-b)"
./demo.sh patch || fail 'patch'
after="$(run_id node-a) $(run_id node-b)"
for id in $before; do
    case "$after" in *"$id"*) fail "a Redis was not restarted: $before, $after" ;; esac
done
for node in node-a node-b; do
    healthy "$node"
    [ "$(state "$node" '{{.RestartCount}}')" = 1 ] || fail "$node was restarted $(state "$node" '{{.RestartCount}}') times"
done
./demo.sh status
echo 'docker demo: passed'
