#!/usr/bin/env python3
"""felt.py SECONDS: asks Prometheus what the proxies have seen in the last SECONDS, prints it, and ends with 1 if a client
could have felt anything but a connection that was closed between two commands.
"""

import json
import sys
import urllib.parse
import urllib.request


def ask(query):
    url = "http://prometheus:9090/api/v1/query?" + urllib.parse.urlencode({"query": query})
    with urllib.request.urlopen(url, timeout=10) as reply:
        return json.load(reply)["data"]["result"]


def counted(metric, label, seconds):
    found = ask(f"sum by ({label}) (increase({metric}[{seconds}s])) > 0")
    return {line["metric"][label]: round(float(line["value"][1])) for line in found}


def main():
    seconds = int(sys.argv[1])
    changes = counted("changeover_changes_total", "kind", seconds)
    felt = counted("changeover_client_felt_total", "what", seconds)
    lost = sum(counted("changeover_lost_bytes_total", "job", seconds).values())
    primaries = {
        node["metric"]["node"]: node["value"][1] for node in ask("sum by (node) (changeover_primary) > 0")}
    print(f"Prometheus, last {seconds} s (increase() rounds):")
    print(f"  changes of primary, as the two proxies counted them: {changes or 'none'}")
    print(f"  felt by clients: {felt or 'nothing'}")
    print(f"  bytes of history lost: {lost}")
    print(f"  primary now: {', '.join(f'{node} (says {count} of 2 proxies)' for node, count in primaries.items())}")
    felt.pop("reconnect", None)
    raise SystemExit(1 if felt or lost or not changes or list(primaries.values()) != ["2"] else 0)


main()
