#!/usr/bin/env bash
# The init of a container that stands for one host of the pair: starts Redis and changeover and keeps them running, as
# systemd would with the units of docs/operations.md.
#
# A drained changeover (exit code 0) stays down until the host reboots. A file /fleet/reboot.NODE asks for a reboot: all
# ends in good order, and then the container, which its restart policy starts again.
set -u

: "${NODE:?the name of this node}" "${PEER:?the name of the other node}"
redis=0 changeover=0

# Comes up as a replica of the other node, always. But for the very first time, somebody has to have the data.
start_redis() {
    local follow=(--replicaof "node-$PEER" 6379)
    if [ "${FIRST_PRIMARY:-}" = yes ] && [ ! -e /data/started ]; then
        follow=()
    fi
    touch /data/started
    redis-server --dir /data --bind 0.0.0.0 --protected-mode no --save '' --appendonly yes \
        --repl-diskless-sync-delay 0 --repl-backlog-ttl 0 --repl-backlog-size 16mb \
        --repl-ping-replica-period 1 --repl-timeout 10 --replica-announce-ip "node-$NODE" \
        --loglevel warning "${follow[@]}" &
    redis=$!
}

start_changeover() {
    changeover run --listen 0.0.0.0:6380 --cert /certs/server.crt --key /certs/server.key \
        --node a=node-a:6379 --node b=node-b:6379 --self "$NODE" \
        --admin "unix:/fleet/$NODE.sock" --metrics 0.0.0.0:9121 --state-dir /data \
        --channel-secret-file /fleet/channel.secret \
        --drain-spread 2s --drain-deadline 10s --workers 2 &
    changeover=$!
}

# Clients first; then Redis, which waits until its replica has everything.
end() {
    trap '' TERM INT
    local pid
    for pid in "$changeover" "$redis"; do
        if [ "$pid" != 0 ] && kill "$pid" 2>/dev/null; then
            wait "$pid"
        fi
    done
    echo "node $NODE: $1"
    exit 0
}

trap 'end stopped' TERM INT
rm -f "/fleet/reboot.$NODE"
start_redis
start_changeover
while true; do
    if [ -e "/fleet/reboot.$NODE" ]; then
        rm -f "/fleet/reboot.$NODE"
        end rebooting
    fi
    if ! kill -0 "$redis" 2>/dev/null; then
        echo "node $NODE: redis-server ended; starting it again"
        sleep 1
        start_redis
    fi
    if [ "$changeover" != 0 ] && ! kill -0 "$changeover" 2>/dev/null; then
        if wait "$changeover"; then
            echo "node $NODE: changeover is drained"
            changeover=0
        else
            echo "node $NODE: changeover failed; starting it again"
            sleep 1
            start_changeover
        fi
    fi
    # In the background, so that a signal is not kept waiting.
    sleep 0.2 &
    wait $!
done
