#!/usr/bin/env bash
# Redis' own test suite in external-server mode, over TLS: straight to a Redis, and through changeover, side by side.
#
#   tests/compat/redis_suite.sh SOURCES [WORKDIR] [UNIT...]
#
# SOURCES is an unpacked source tree of Redis, or the URL of a .tar.gz of one (it is not part of this repository):
#   https://github.com/redis/redis/archive/refs/tags/7.0.15.tar.gz
# The Redis that is tested is the redis-server in PATH. Needs tclsh, tcl-tls and redis-server.
# Every unit runs on its own, because the suite ends at the first exception; the routes run beside each other.
# CHANGEOVER names the executable, ROUTES the routes, TAGS what the suite's --tags gets, BASE_PORT the first port.
set -euo pipefail

sources=${1:?usage: $0 SOURCES [WORKDIR] [UNIT...]}
work=${2:-$(mktemp -d)}
shift; shift || true
here=$(cd "$(dirname "$0")" && pwd)
changeover=${CHANGEOVER:-$here/../../target/release/changeover}
routes=${ROUTES:-"direct one pair"}
base=${BASE_PORT:-25300}
tags=${TAGS:--slow}
started=()

cleanup() {
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
}
trap cleanup EXIT

mkdir -p "$work"
work=$(cd "$work" && pwd)
case $sources in
    http*://*) mkdir -p "$work/sources"; curl -fsSL "$sources" | tar -xz --strip-components=1 -C "$work/sources"; sources=$work/sources ;;
esac
"$changeover" certs --dir "$work/tls" --client --force >/dev/null

# redis NAME PORT TLS_PORT [OPTIONS...]
redis() {
    local name=$1 port=$2 tls=$3; shift 3
    mkdir -p "$work/$name"
    redis-server --port "$port" --tls-port "$tls" --tls-cert-file "$work/tls/server.crt" \
        --tls-key-file "$work/tls/server.key" --tls-ca-cert-file "$work/tls/ca.crt" --tls-auth-clients optional \
        --dir "$work/$name" --save '' --logfile "$work/$name/log" --repl-diskless-sync-delay 0 \
        --enable-protected-configs yes --enable-debug-command yes --enable-module-command yes "$@" &
    started+=($!)
    until redis-cli -p "$port" ping >/dev/null 2>&1; do sleep 0.1; done
}

# proxy NAME PORT OPTIONS...
proxy() {
    local name=$1 port=$2; shift 2
    mkdir -p "$work/$name/state"
    "$changeover" run --listen "127.0.0.1:$port" --cert "$work/tls/server.crt" --key "$work/tls/server.key" \
        --admin "unix:$work/$name/admin" --state-dir "$work/$name/state" "$@" 2>"$work/$name/proxy.log" &
    started+=($!)
    until redis-cli -p "$port" --tls --cacert "$work/tls/ca.crt" ping >/dev/null 2>&1; do sleep 0.1; done
}

# route NAME NUMBER: starts what is behind it and sets `port`
route() {
    local name=$1 at=$((base + 10 * $2)) nodes
    redis "$name" "$at" $((at + 1))
    nodes=(--node "a=127.0.0.1:$at")
    case $name in
        *pair)
            redis "$name-replica" $((at + 2)) $((at + 3)) --replicaof 127.0.0.1 "$at"
            until redis-cli -p $((at + 2)) info replication | grep -q master_link_status:up; do sleep 0.1; done
            nodes+=(--node "b=127.0.0.1:$((at + 2))") ;;
    esac
    case $name in
        direct*) port=$((at + 1)) ;;
        *-own) port=$((at + 4)); proxy "$name" "$port" "${nodes[@]}" --lanes off ;;
        *) port=$((at + 4)); proxy "$name" "$port" "${nodes[@]}" ;;
    esac
}

# suite NAME PORT UNITS...: a tree of its own for each route, because the suite writes into it
suite() {
    local name=$1 port=$2 control=$3 unit; shift 3
    mkdir -p "$work/$name/tree/src" "$work/$name/out"
    cp -r "$sources/tests" "$sources/runtest" "$sources/utils" "$work/$name/tree/"
    cp "$sources"/src/*.json "$work/$name/tree/src/" 2>/dev/null || true
    ln -sfn "$work/tls" "$work/$name/tree/tests/tls"
    for tool in redis-server redis-cli redis-benchmark; do ln -sf "$(command -v $tool)" "$work/$name/tree/src/$tool"; done
    cd "$work/$name/tree"
    # The proxy itself blocks in a WAIT, to be told of a demotion; INFO counts that client, and the suite waits for counts.
    # A node that is told to be a replica is no primary: a client of the proxy is held instead of hearing -READONLY.
    local skip=()
    case $name in direct*) ;; *)
        skip=(--skiptest "MULTI / EXEC with REPLICAOF" --skiptest "/state change")
        sed -i 's/^    status \[srv $level "client"\] \[lindex $args 0\]$/    own_less [lindex $args 0] [status [srv $level "client"] [lindex $args 0]]/' \
            tests/test_helper.tcl
        echo 'proc own_less {field value} { if {$field eq "blocked_clients"} { incr value -1 }; return $value }' \
            >>tests/support/util.tcl ;;
    esac
    for unit in "$@"; do
        timeout "${UNIT_SECONDS:-240}" ./runtest --host 127.0.0.1 --port "$port" --tls --tags "$tags" \
            "${skip[@]}" --single "$unit" --baseport "$control" --timeout 60 >"$work/$name/out/${unit//\//_}" 2>&1 || true
        # A unit that failed half way may have left the node a replica.
        case $name in direct*) ;; *) redis-cli -p $((port - 4)) replicaof no one >/dev/null ;; esac
    done
}

if [ $# -gt 0 ]; then units=("$@"); else
    mapfile -t units < <(cd "$sources" && ./runtest --list-tests | grep '^unit/' | grep -Ev '^unit/(cluster|moduleapi|tls|oom|shutdown)')
fi
number=0
runs=()
for name in $routes; do
    route "$name" $number
    suite "$name" "$port" $((base + 500 + 50 * number)) "${units[@]}" &
    runs+=($!)
    number=$((number + 1))
done
wait "${runs[@]}"
python3 "$here/redis_suite_table.py" "$work" $routes
