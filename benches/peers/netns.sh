#!/bin/bash
# Run a command in a private network namespace with plain loopback and a plain
# congestion control, without changing the machine's settings:
#     ./netns.sh ./peers.sh start ; ./netns.sh ./measure.py ...
# Reason: where the machine's default is "bbr", every send over loopback costs
# about 1.5 us more (pacing), on all sides alike, and hides differences.
# Without root, or with NS= (empty), the command runs where it is.
NS=${NS-changeover}
if [ -n "$NS" ] && [ "$(id -u)" = 0 ] && command -v ip >/dev/null; then
	[ -e "/run/netns/$NS" ] || { ip netns add "$NS" && ip netns exec "$NS" ip link set lo up; }
	ip netns exec "$NS" sysctl -qw net.ipv4.tcp_congestion_control=cubic 2>/dev/null ||
		ip netns exec "$NS" sysctl -qw net.ipv4.tcp_congestion_control=reno
	exec ip netns exec "$NS" "$@"
fi
exec "$@"
