"""redis-py, unmodified and with its default settings, while the pair behind it is patched: not one error, every
increment exactly once. Those of its clients that speak RESP3 demand maintenance notifications, where it knows them.

Run by tests/it/rollout/libraries.rs. Works until the file --stop exists; exit code 0 when nothing was noticed.
"""

import argparse
import os
import threading
import time

import redis

from counting import step


def options(protocol):
    if protocol == 3:
        try:
            from redis.maint_notifications import MaintNotificationsConfig
            return {"maint_notifications_config": MaintNotificationsConfig(enabled=True)}
        except ImportError:
            pass
    return {}


def work(args, number, protocol, problems, counts):
    key, value = f"py:{number}", 0
    r = redis.Redis(host="localhost", port=args.port, ssl=True, ssl_ca_certs=args.ca, protocol=protocol,
                    **options(protocol))
    try:
        while not os.path.exists(args.stop):
            value = step(r, key, value, problems)
            time.sleep(0.002)
    except Exception as error:  # whatever it is, the application saw it
        problems.append(f"{key}: {error!r} after {value}")
    counts[number] = value


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--stop", required=True)
    args = parser.parse_args()
    problems, counts = [], {}
    threads = [
        threading.Thread(target=work, args=(args, number, 2 + number % 2, problems, counts)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"redis-py {redis.__version__}: {sum(counts.values())} increments, problems: {problems}")
    raise SystemExit(1 if problems or min(counts.values()) < 100 else 0)


main()
