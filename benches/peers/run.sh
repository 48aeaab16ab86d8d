#!/bin/bash
# One command: start everything that is installed, measure it in alternating rounds, print the tables of
# docs/performance.md, stop everything. `make peers` and `make goals` call it.
#     ./run.sh           every installed peer, every workload; LIMIT seconds for the rounds, then the idle connections
#     ./run.sh goals     only what the goals compare
#     ROUNDS=5 SECS=2 PEERS=redis,redis-tls,haproxy1,.. WORKLOADS=get-c50,.. LIMIT=3000 ./run.sh
set -u
cd "$(dirname "$(readlink -f "$0")")" || exit 1
[ -n "${INSIDE-}" ] || INSIDE=1 exec ./netns.sh "./$(basename "$0")" "$@"
export RUN=${RUN:-$(cd ../.. && pwd)/target/peers}
PEERS=${PEERS-}
OPTIONS=() LIMIT=${LIMIT:-3000}
if [ "${1-}" = goals ]; then
	OPTIONS=(--goals) SECS=${SECS:-1.5} LIMIT=${GOALS_LIMIT:-720}
	PEERS=redis,redis-tls,changeover,changeover-off,haproxy1,floor-mux-tls
elif [ -n "${WORKLOADS-}" ]; then
	OPTIONS=(--workloads "$WORKLOADS")
else
	OPTIONS=(--workloads get-c50,set-c50,get-c200,set-c200,get-c1,get-c50-P16,get-c50-P64,set-c50-P64,get-16k,set-16k,get-1m,rate5k,hs,hsr)
fi
trap './peers.sh stop' EXIT
./peers.sh start ${PEERS//,/ } || exit 1
STARTED=$(./peers.sh list | cut -f1 | paste -sd,)
if [ -z "$PEERS" ]; then PEERS=$STARTED; else
	# What was asked for and is not installed has been said, and is left out.
	PEERS=$(tr , '\n' <<<"$PEERS" | grep -xFf <(tr , '\n' <<<"$STARTED") | paste -sd,)
fi
./measure.py run --peers "$PEERS" --rounds "${ROUNDS:-5}" --secs "${SECS:-2}" --warm 0.4 --limit "$LIMIT" "${OPTIONS[@]}" \
	--quiet-wait "${QUIET_WAIT:-2}" --retries "${RETRIES:-0}" --out "$RUN/run.json"
printf '\n### Idle connections\n\n'
IDLE=$(tr , '\n' <<<"$PEERS" | grep -vxE 'redis|haproxy2|nginx2|.*-plain|twemproxy|floor-(proxy|mux)' | paste -sd,)
./measure.py idle --peers "$IDLE" --steps 1000,5000 --out "$RUN/idle.json"
printf '\n### After a change\n\n'
./peers.sh stop
./again.sh 5000
printf '\n### What was set out to be reached\n'
./measure.py targets --idle "$RUN/idle.json" "$RUN/run.json"
