#!/usr/bin/env bash
# Health of a node's container: would a load balancer send clients here? Asks what it would ask.
set -eu
exec 3<>/dev/tcp/127.0.0.1/9121
printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3
read -r -t 1 _ code _ <&3
[ "$code" = 200 ]
