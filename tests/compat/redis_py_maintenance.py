"""redis-py with maintenance notifications demanded, while proxies are drained and the primary changes: not one error,
every increment exactly once.

Run by tests/it/maintenance.rs. Works until the file --stop exists; exit code 0 when nothing was noticed. The clients
are configured with the first proxy's address only, as an IP address, so that they ask for one.
"""

import argparse
import os
import threading
import time
import traceback

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from counting import step


def work(pool, args, number, problems, counts):
    key, value = f"py:{number}", 0
    r = redis.Redis(connection_pool=pool)
    try:
        while not os.path.exists(args.stop):
            value = step(r, key, value, problems)
            if number == 0:
                popped = r.blpop([f"{key}:q"], timeout=1) if value % 100 == 0 else None
                if popped:
                    problems.append(f"{key}: popped {popped}")
            time.sleep(0.002 if number < 4 else 0.3)
    except Exception as error:  # whatever it is, the application saw it
        problems.append(f"{key}: {error!r} after {value}: {traceback.format_exc()}")
    counts[number] = value


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--stop", required=True)
    args = parser.parse_args()
    try:
        from redis.maint_notifications import MaintNotificationsConfig
    except ImportError:
        print(f"redis-py {redis.__version__} is too old for maintenance notifications")
        raise SystemExit(0)
    pool = redis.ConnectionPool(
        host="127.0.0.1", port=args.port, connection_class=redis.SSLConnection, ssl_ca_certs=args.ca, protocol=3,
        # As redis.Redis() has by itself: the pool may need one connection more just while a door is closed.
        retry=Retry(ConstantBackoff(0.1), 30),
        maint_notifications_config=MaintNotificationsConfig(enabled=True))
    problems, counts = [], {}
    threads = [threading.Thread(target=work, args=(pool, args, number, problems, counts)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"redis-py {redis.__version__}: {sum(counts.values())} increments, problems: {problems}")
    raise SystemExit(1 if problems or min(counts.values()) < 10 else 0)


main()
