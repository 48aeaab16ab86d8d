#!/usr/bin/env bash
# redis-py's own test suite, over TLS: straight to a Redis, and through changeover, RESP2 and RESP3.
#
#   tests/compat/redis_py_suite.sh SOURCES [WORKDIR] [FILE...]
#
# SOURCES is an unpacked source tree of redis-py, or the URL of a .tar.gz of one (it is not part of this repository):
#   https://github.com/redis/redis-py/archive/refs/tags/v8.1.0.tar.gz
# Needs redis-server, and a Python (PYTHON) with what the tree's dev_requirements.txt names. Tests that need a cluster,
# modules, Sentinel, or servers of their own are left out on every route alike, and so are files that meet no server. The
# suite drops TLS where a client is made from its URL; one line is changed for all routes so that it does not. Every file
# runs on its own, because a test that hangs ends its run.
# tests/test_asyncio/test_cwe_404.py is not run: it binds a fixed port, and routes run beside each other.
# ROUTES, CHANGEOVER, BASE_PORT and PROXY_OPTIONS are as in redis_suite.sh; PROTOCOLS is "2 3".
set -euo pipefail

sources=${1:?usage: $0 SOURCES [WORKDIR] [FILE...]}
work=${2:-$(mktemp -d)}
shift; shift || true
here=$(cd "$(dirname "$0")" && pwd)
routes=${ROUTES:-"direct one two one-own"}
protocols=${PROTOCOLS:-"2 3"}
python=${PYTHON:-python3}
base=${BASE_PORT:-25600}
# shellcheck source=tests/compat/suite_routes.sh
. "$here/suite_routes.sh"

prepare
marks="not onlycluster and not fixed_client and not multidb_integration and not redismod and not ssl and not replica \
and not cp_integration"

# pass NAME NUMBER FILES...: every protocol, one after the other, each against servers of its own
pass() {
    local name=$1 number=$2 protocol file out; shift 2
    trap cleanup EXIT
    mkdir -p "$work/$name"
    proxy_log=$work/$name/proxy.log
    cp -r "$sources" "$work/$name/tree"
    cd "$work/$name/tree"
    sed -i 's/^        connection_class = Connection$/        connection_class = url_options.get("connection_class", Connection)/' \
        tests/conftest.py
    for protocol in $protocols; do
        route "$name" "$number"
        mkdir -p "$work/$name/resp$protocol"
        for file in "$@"; do
            out=$work/$name/resp$protocol/$(tr / _ <<<"${file%.py}")
            PYTHONPATH=. timeout "${FILE_SECONDS:-600}" "$python" -m pytest -q -p no:cacheprovider --timeout 60 -m "$marks" \
                --redis-url "rediss://127.0.0.1:$port/0?ssl_ca_certs=$work/tls/ca.crt" --protocol "$protocol" \
                --legacy-responses=true --junit-xml="$out.xml" "$file" >"$out.out" 2>&1 || true
        done
        cleanup
    done
}

if [ $# -gt 0 ]; then files=("$@"); else
    mapfile -t files < <(cd "$sources" && ls tests/test_{cache,client,commands,connect,connection,connection_pool}.py \
        tests/test_{encoding,function,hash,keyspace_notifications,lock,monitor,multiprocessing,pipeline,pubsub}.py \
        tests/test_{retry,scripting}.py \
        tests/test_asyncio/test_{client,commands,connect,connection,connection_pool,encoding,hash}.py \
        tests/test_asyncio/test_{keyspace_notifications,lock,monitor,pipeline,pubsub,retry,scripting}.py 2>/dev/null)
fi
number=0
runs=()
for name in $routes; do
    rm -rf "${work:?}/$name"
    (pass "$name" $number "${files[@]}") &
    runs+=($!)
    number=$((number + 1))
done
wait "${runs[@]}"
python3 "$here/redis_py_suite_table.py" "$work" "$protocols" $routes
