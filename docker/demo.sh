#!/usr/bin/env bash
# The demo by a word: `up` builds and starts it, `patch` patches both hosts and says what the clients noticed, `status`
# shows the pair, `down` removes it with its data. Needs Docker with Compose v2, or docker-compose 1.29.
set -euo pipefail
cd "$(dirname "$0")"

if [ -n "${COMPOSE:-}" ]; then
    read -ra tool <<<"$COMPOSE"
elif docker compose version >/dev/null 2>&1; then
    tool=(docker compose)
elif command -v docker-compose >/dev/null; then
    tool=(docker-compose)
else
    echo 'neither `docker compose` nor docker-compose is installed' >&2
    exit 1
fi

compose() {
    "${tool[@]}" --project-name changeover-demo --file compose.yaml "$@"
}

operator() {
    if [ -t 1 ]; then
        compose run --rm operator "$@"
    else
        compose run --rm -T operator "$@"
    fi
}

# With a binary that was built already, for a machine without Rust's image or crates.io; else Docker builds it.
up() {
    rm -rf prebuilt
    if [ -n "${1:-}" ]; then
        mkdir prebuilt
        strip -o prebuilt/changeover "$1"
        export BUILDER=debian:bookworm-slim
    fi
    compose build
    compose up -d
    echo 'Prometheus: http://127.0.0.1:9090. Next: ./demo.sh patch'
}

totals() {
    compose exec -T load cat /tmp/totals.json
}

number() {
    sed -E "s/.*\"$1\": ([0-9]+).*/\1/"
}

# Fails when a client noticed anything.
patch() {
    local begun=$SECONDS after result=0
    compose kill -s SIGUSR1 load
    operator changeover patch --fleet /etc/changeover/fleet.toml --state /fleet/rollout
    sleep 3
    after=$(totals)
    echo
    echo "Clients, meanwhile: $after"
    compose exec -T load felt.py $((SECONDS - begun)) || result=1
    if [ "$(number problems <<<"$after")" = 0 ] && [ "$(number commands <<<"$after")" -gt 0 ] && [ "$result" = 0 ]; then
        echo 'Both hosts were patched and restarted, and no request failed.'
    else
        echo 'A client noticed something: ./demo.sh logs' >&2
        return 1
    fi
}

case "${1:-}" in
up) up "${2:-}" ;;
patch) patch ;;
status)
    operator changeover status --admin unix:/fleet/a.sock || true
    totals
    echo
    ;;
logs) compose logs --tail=100 ;;
ps) compose ps ;;
down) compose down --volumes --remove-orphans ;;
*)
    echo 'usage: demo.sh up [BINARY] | patch | status | logs | ps | down' >&2
    exit 2
    ;;
esac
