#!/bin/bash
# How long until every connection is served again after a change of primary: `changeover` before a pair of Redis,
# 5,000 idle TLS connections, one announced switchover, then one SET on each of them at once.
#     ./netns.sh ./again.sh [CONNECTIONS]
# Lanes on: nothing has to be opened. Lanes off: every session needs a connection of its own to the new primary.
set -u
cd "$(dirname "$(readlink -f "$0")")" || exit 1
export RUN=${RUN:-$(cd ../.. && pwd)/target/peers}
CHANGEOVER=${CHANGEOVER:-$(cd ../.. && pwd)/target/release/changeover}
N=${1:-5000}
ulimit -n "$(ulimit -Hn)"
started=()
trap 'kill "${started[@]}" 2>/dev/null; wait' EXIT
redis() { # port, more
	local port=$1; shift
	redis-server --bind 127.0.0.1 --port "$port" --save '' --appendonly no --protected-mode no --maxclients 20000 \
		--tcp-backlog 4096 --repl-diskless-sync-delay 0 --dir "$RUN" "$@" >"$RUN/again-$port.out" 2>&1 &
	started+=($!)
}
wait_for() { for _ in $(seq 100); do eval "$1" >/dev/null 2>&1 && return; sleep .1; done; echo "never: $1" >&2; exit 1; }
redis 22030
redis 22031 --replicaof 127.0.0.1 22030
wait_for 'redis-cli -p 22031 info replication | grep -q master_link_status:up'
echo '| lanes | connections | switchover, whole command (ms) | half are served after (ms) | all after (ms) | errors | closed | proxy CPU (ms) |'
echo '|---|---:|---:|---:|---:|---:|---:|---:|'
for lanes in on off; do
	port=22027; [ $lanes = off ] && port=22028
	rm -rf "$RUN/again-$lanes.state"
	"$CHANGEOVER" run --listen 127.0.0.1:$port --cert "$RUN/server.crt" --key "$RUN/server.key" --workers 1 --lanes $lanes \
		--node a=127.0.0.1:22030 --node b=127.0.0.1:22031 --admin "unix:$RUN/again-$lanes.sock" \
		--state-dir "$RUN/again-$lanes.state" --log warn >"$RUN/again-$lanes.out" 2>&1 &
	pid=$!; started+=($pid)
	wait_for "$CHANGEOVER status --admin unix:$RUN/again-$lanes.sock"
	"$RUN/rload" -p $port -T -A "$RUN/ca.crt" -m again -c "$N" -d 64 -x proxy=$pid \
		-e "$CHANGEOVER switchover --admin unix:$RUN/again-$lanes.sock >$RUN/again-$lanes.report 2>&1" >"$RUN/again-$lanes.json" ||
		{ cat "$RUN/again-$lanes.report" "$RUN/again-$lanes.out" >&2; continue; }
	python3 - "$lanes" "$RUN/again-$lanes.json" <<-'P'
		import json, sys
		d = json.load(open(sys.argv[2]))
		print(f"| {sys.argv[1]} | {d['answered']} of {d['conns']} | {d['change_ms']:.0f} | {d['p50_ms']:.0f} | {d['all_ms']:.0f} | {d['err']} | {d['lost']} | {d['cpu_proxy'] * 1e3:.0f} |")
	P
	kill $pid; wait $pid 2>/dev/null
done
