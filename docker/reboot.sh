#!/usr/bin/env bash
# reboot.sh NODE: the `patch` command of fleet.toml. Here a real one would install packages; then it reboots the host,
# and ends when the host has gone down. That it comes back, and in what state, is what the rollout itself looks at.
set -eu
node=${1:?usage: reboot.sh NODE}
echo "$node: nothing to install in a demo; rebooting"
touch "/fleet/reboot.$node"
for _ in $(seq 150); do
    if [ ! -e "/fleet/reboot.$node" ]; then
        echo "$node: going down"
        exit 0
    fi
    sleep 0.2
done
rm -f "/fleet/reboot.$node"
echo "$node: did not go down within 30 s" >&2
exit 1
