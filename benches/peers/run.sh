#!/bin/bash
# One command: start everything that is installed, measure it in alternating rounds, print the tables of
# docs/performance.md, stop everything. `make peers` calls it.
#     ROUNDS=5 SECS=2 PEERS=redis,redis-tls,haproxy1,.. WORKLOADS=get-c50,.. ./run.sh
set -u
cd "$(dirname "$(readlink -f "$0")")" || exit 1
[ -n "${INSIDE-}" ] || INSIDE=1 exec ./netns.sh "./$(basename "$0")" "$@"
ROUNDS=${ROUNDS:-5} SECS=${SECS:-2}
RUN=${RUN:-$(cd ../.. && pwd)/target/peers}
WORKLOADS=${WORKLOADS:-get-c50,set-c50,get-c200,set-c200,get-c1,get-c50-P16,get-c50-P64,set-c50-P64,get-16k,set-16k,get-1m,rate5k,hs,hsr}
PEERS=${PEERS-}
trap './peers.sh stop' EXIT
./peers.sh start ${PEERS//,/ } || exit 1
[ -n "$PEERS" ] || PEERS=$(./peers.sh list | cut -f1 | paste -sd,)
./measure.py run --peers "$PEERS" --rounds "$ROUNDS" --secs "$SECS" --warm 0.4 --workloads "$WORKLOADS" \
	--quiet-wait "${QUIET_WAIT:-2}" --retries "${RETRIES:-0}" --out "$RUN/run.json"
printf '\n### What was set out to be reached\n'
./measure.py targets "$RUN/run.json"
printf '\n### Idle connections\n\n'
IDLE=$(tr , '\n' <<<"$PEERS" | grep -vxE 'redis|haproxy2|nginx2|.*-plain|twemproxy|floor-(proxy|mux)' | paste -sd,)
./measure.py idle --peers "$IDLE" --steps 1000,5000
printf '\n### After a change\n\n'
./peers.sh stop
./again.sh 5000
