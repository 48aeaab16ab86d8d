#!/usr/bin/env bash
# Redis' own test suite in external-server mode, over TLS: straight to a Redis, and through changeover, side by side.
#
#   tests/compat/redis_suite.sh SOURCES [WORKDIR] [UNIT...]
#
# SOURCES is an unpacked source tree of Redis, or the URL of a .tar.gz of one (it is not part of this repository):
#   https://github.com/redis/redis/archive/refs/tags/7.0.15.tar.gz
# The Redis that is tested is the redis-server in PATH. Needs tclsh, tcl-tls and redis-server.
# Every unit runs on its own, against servers of its own; the routes run beside each other. A route is `direct` (one
# node), `direct-two` (two), `one` (a proxy before one node), `pair` (before two) or `two` (a proxy beside each of two),
# with `-own` for lanes = "off".
# CHANGEOVER names the executable, ROUTES the routes, TAGS what the suite's --tags gets, BASE_PORT the first port,
# SUITE_OPTIONS further options of the suite, PROXY_OPTIONS those of the proxy: by default rare probes, which keeps its
# INFO out of what MONITOR and SLOWLOG show, and one worker, as Redis has one thread: the suite sends commands on several
# connections without waiting and expects them to be executed in that order.
set -euo pipefail

sources=${1:?usage: $0 SOURCES [WORKDIR] [UNIT...]}
work=${2:-$(mktemp -d)}
shift; shift || true
here=$(cd "$(dirname "$0")" && pwd)
routes=${ROUTES:-"direct direct-two one two one-own two-own"}
base=${BASE_PORT:-25300}
tags=${TAGS--slow}
# shellcheck source=tests/compat/suite_routes.sh
. "$here/suite_routes.sh"

prepare

# tree NAME: a tree of its own for each route, because the suite writes into it; sets `skip` and `proxy_log`
tree() {
    local name=$1 tool
    mkdir -p "$work/$name/tree/src" "$work/$name/out"
    proxy_log=$work/$name/proxy.log
    cp -r "$sources/tests" "$sources/runtest" "$sources/utils" "$work/$name/tree/"
    cp -r "$sources"/src/*.json "$sources/src/commands" "$work/$name/tree/src/" 2>/dev/null || true
    ln -sfn "$work/tls" "$work/$name/tree/tests/tls"
    for tool in redis-server redis-cli redis-benchmark; do ln -sf "$(command -v $tool)" "$work/$name/tree/src/$tool"; done
    cd "$work/$name/tree"
    # A proxy itself blocks in a WAIT, to be told of a demotion; INFO counts that client, and the suite waits for counts.
    # A node that is told to be a replica is no primary: a client of the proxy is held instead of hearing -READONLY. The
    # tests that do so are left out, and so is unit/tls, which changes the TLS settings of a server that clients talk to.
    skip=()
    local proxies=1
    case $name in two*) proxies=2 ;; esac
    case $name in direct*) ;; *)
        skip=(--skiptest "MULTI / EXEC with REPLICAOF" --skiptest "/stale replica state change")
        sed -i 's/^    status \[srv $level "client"\] \[lindex $args 0\]$/    own_less [lindex $args 0] [status [srv $level "client"] [lindex $args 0]]/' \
            tests/test_helper.tcl
        echo "proc own_less {field value} { if {\$field eq \"blocked_clients\"} { incr value -$proxies }; return \$value }" \
            >>tests/support/util.tcl ;;
    esac
}

# suite NAME NUMBER UNITS...
suite() {
    local name=$1 number=$2 unit skip proxy_log; shift 2
    trap cleanup EXIT
    tree "$name"
    for unit in "$@"; do
        route "$name" "$number"
        # shellcheck disable=SC2086
        timeout "${UNIT_SECONDS:-300}" ./runtest --host 127.0.0.1 --port "$port" --tls --tags "$tags" --durable \
            "${skip[@]}" ${SUITE_OPTIONS:-} --single "$unit" --baseport $((base + 500 + 50 * number)) --timeout 120 \
            >"$work/$name/out/${unit//\//_}" 2>&1 || true
        cleanup
    done
}

if [ $# -gt 0 ]; then units=("$@"); else
    mapfile -t units < <(cd "$sources" && ./runtest --list-tests | grep '^unit/' | grep -v '^unit/tls')
fi
number=0
runs=()
for name in $routes; do
    (suite "$name" $number "${units[@]}") &
    runs+=($!)
    number=$((number + 1))
done
wait "${runs[@]}"
python3 "$here/redis_suite_table.py" "$work" $routes
