#!/usr/bin/env python3
"""Clients of the demo: redis-py over TLS, each with a counter, a list and a value of its own that only it writes, so
that every reply can be checked at once. A reply that is not the expected one (a write was lost or doubled, or a read
was stale), or an exception that reached the application, is a problem and is printed. The library tries a command
again whose connection was found closed; a write that was executed twice by that shows in its reply.

The totals are in /tmp/totals.json, anew each second. SIGUSR1 begins to count anew; SIGTERM ends it.
"""

import argparse
import json
import os
import signal
import threading
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

FRESH = {"commands": 0, "reconnects": 0, "problems": 0, "longest_ms": 0.0}
lock = threading.Lock()
totals = dict(FRESH)
stop = threading.Event()


class Counted(redis.SSLConnection):
    """A connection that counts how often it was made again."""

    made = False

    def on_connect(self):
        super().on_connect()
        if self.made:
            with lock:
                totals["reconnects"] += 1
        self.made = True


def problem(text):
    print(f"problem: {text}", flush=True)
    with lock:
        totals["problems"] += 1


def timed(call, *args):
    begun = time.monotonic()
    reply = call(*args)
    took = (time.monotonic() - begun) * 1000
    with lock:
        totals["commands"] += 1
        totals["longest_ms"] = max(totals["longest_ms"], took)
    return reply


def check(what, told, expected):
    if told != expected:
        problem(f"{what}: got {told!r}, expected {expected!r}")


def work(args, number):
    pool = redis.ConnectionPool(
        connection_class=Counted, host=args.host, port=args.port, ssl_ca_certs=args.ca, max_connections=1,
        # redis-py 6 and later do this by default; Debian's is older.
        retry=Retry(NoBackoff(), 3), retry_on_error=[redis.ConnectionError])
    r = redis.Redis(connection_pool=pool)
    name = f"{os.getpid()}:{time.time_ns()}:{number}"
    count = 0
    while not stop.wait(args.pause):
        try:
            count += 1
            check(f"INCR by {number}", timed(r.incr, f"count:{name}"), count)
            check(f"RPUSH by {number}", timed(r.rpush, f"list:{name}", count), count)
            timed(r.set, f"value:{name}", count)
            check(f"GET by {number}", timed(r.get, f"value:{name}"), str(count).encode())
        except redis.RedisError as error:
            problem(f"client {number}: {error!r}")
            # What was executed is unknown now; go on with names that nobody has written.
            name, count = f"{name}+", 0


def write():
    with lock:
        text = json.dumps(totals)
    with open("/tmp/totals.new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace("/tmp/totals.new", "/tmp/totals.json")
    return text


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--pause", type=float, default=0.05)
    args = parser.parse_args()
    signals = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    threads = [threading.Thread(target=work, args=(args, number)) for number in range(args.clients)]
    for thread in threads:
        thread.start()
    print(f"{args.clients} clients of {args.host}:{args.port}", flush=True)
    while not stop.is_set():
        got = signal.sigtimedwait(signals, 1)
        if got is None:
            write()
        elif got.si_signo == signal.SIGUSR1:
            print(f"until now: {write()}", flush=True)
            with lock:
                totals.update(FRESH)
            write()
        else:
            stop.set()
    for thread in threads:
        thread.join()
    print(f"until now: {write()}", flush=True)


main()
