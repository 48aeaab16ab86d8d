# Servers and proxies for redis_suite.sh and redis_py_suite.sh, which source it: what is behind a route.
#
# It uses `work`, `sources` and `base` of its user, and `proxy_log`; it sets `port`, and `started` of the shell that calls.

changeover=${CHANGEOVER:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/target/release/changeover}
read -ra proxy_options <<<"${PROXY_OPTIONS---probe-interval 10s --probe-fast-interval 10s --probe-deadline 30s --workers 1}"
started=()

# What this shell (one for each route) has started.
cleanup() {
    for pid in "${started[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
    for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
    started=()
}

# Makes `work` and certificates, and unpacks the sources if they are a URL.
prepare() {
    mkdir -p "$work"
    work=$(cd "$work" && pwd)
    case $sources in
        http*://*) mkdir -p "$work/sources"; curl -fsSL "$sources" | tar -xz --strip-components=1 -C "$work/sources"; sources=$work/sources ;;
    esac
    "$changeover" certs --dir "$work/tls" --client --force >/dev/null
}

# answers PORT OPTIONS...: waits until what was started last answers; ends the route if it has died
answers() {
    local port=$1; shift
    until redis-cli -p "$port" "$@" ping >/dev/null 2>&1; do
        kill -0 "${started[-1]}" 2>/dev/null || { echo "nothing serves port $port: is it in use?" >&2; exit 1; }
        sleep 0.1
    done
}

# redis NAME PORT TLS_PORT [OPTIONS...]
redis() {
    local name=$1 port=$2 tls=$3; shift 3
    rm -rf "$work/nodes/$name"; mkdir -p "$work/nodes/$name"
    redis-server --port "$port" --tls-port "$tls" --tls-cert-file "$work/tls/server.crt" \
        --tls-key-file "$work/tls/server.key" --tls-ca-cert-file "$work/tls/ca.crt" --tls-auth-clients optional \
        --dir "$work/nodes/$name" --save '' --logfile "$work/nodes/$name/log" --repl-diskless-sync-delay 0 \
        --enable-protected-configs yes --enable-debug-command yes --enable-module-command yes "$@" &
    started+=($!)
    answers "$port"
}

# proxy NAME PORT OPTIONS...
proxy() {
    local name=$1 port=$2; shift 2
    rm -rf "$work/nodes/$name/proxy"; mkdir -p "$work/nodes/$name/proxy"
    "$changeover" run --listen "127.0.0.1:$port" --cert "$work/tls/server.crt" --key "$work/tls/server.key" \
        "${proxy_options[@]}" --admin "unix:$work/nodes/$name/proxy/admin" --state-dir "$work/nodes/$name/proxy" "$@" 2>>"$proxy_log" &
    started+=($!)
    answers "$port" --tls --cacert "$work/tls/ca.crt"
}

# route NAME NUMBER: starts what is behind it and sets `port`
route() {
    local name=$1 at=$((base + 10 * $2)) nodes=() lanes=on
    case $name in *-own) lanes=off ;; esac
    redis "$name" "$at" $((at + 1))
    nodes=(--node "a=127.0.0.1:$at" --lanes "$lanes")
    case $name in
        pair*|*two*)
            redis "$name-replica" $((at + 2)) $((at + 3)) --replicaof 127.0.0.1 "$at"
            until redis-cli -p $((at + 2)) info replication | grep -q master_link_status:up; do sleep 0.1; done
            nodes+=(--node "b=127.0.0.1:$((at + 2))") ;;
    esac
    case $name in
        direct*) port=$((at + 1)) ;;
        *) port=$((at + 4)); proxy "$name" "$port" "${nodes[@]}" --self a ;;
    esac
    case $name in two*) proxy "$name-replica" $((at + 5)) "${nodes[@]}" --self b ;; esac
}
