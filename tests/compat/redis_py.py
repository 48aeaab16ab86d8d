"""redis-py, unmodified, through the proxy: what applications do with it, over TLS, RESP2 and RESP3.

Run by tests/it/libraries.rs (`redis_py_works_with_tls`). Exit code 0 when everything was as with Redis itself.
"""

import argparse
import socket
import threading
import time

import redis


def connect(args, protocol, **more):
    return redis.Redis(
        host="localhost", port=args.port, ssl=True, ssl_ca_certs=args.ca, ssl_check_hostname=True,
        protocol=protocol, decode_responses=True, socket_timeout=30, **more)


def basics(r):
    r.flushall()
    assert r.ping() is True
    assert r.set("k", "v") and r.get("k") == "v" and r.get("nothing") is None
    assert r.incr("n") == 1 and r.incrbyfloat("f", 1.5) == 1.5
    assert r.rpush("l", *"abc") == 3 and r.lrange("l", 0, -1) == ["a", "b", "c"]
    assert r.hset("h", mapping={"f": 1, "g": 2}) == 2 and r.hgetall("h") == {"f": "1", "g": "2"}
    assert r.sadd("s", 1, 2) == 2 and r.smembers("s") == {"1", "2"}
    assert r.zadd("z", {"a": 1.5}) == 1 and r.zscore("z", "a") == 1.5
    stream_id = r.xadd("x", {"f": "v"})
    assert r.xrange("x")[0][0] == stream_id
    assert len(list(r.scan_iter(count=2))) == r.dbsize()
    big = "x" * (1 << 20)
    assert r.set("big", big) and r.get("big") == big
    try:
        r.lpush("k", 1)
        raise AssertionError("WRONGTYPE expected")
    except redis.ResponseError as e:
        assert "WRONGTYPE" in str(e)


def pipelines_and_scripts(r):
    with r.pipeline(transaction=False) as p:
        for _ in range(500):
            p.incr("pipe")
        assert p.execute() == list(range(1, 501))
    with r.pipeline() as p:
        assert p.set("t", 1).incr("t").execute() == [True, 2]

    def double(p):
        value = int(p.get("t"))
        p.multi()
        p.set("t", value * 2)

    assert r.transaction(double, "t") == [True] and r.get("t") == "4"
    script = r.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    assert script(keys=["scripted"], args=[5]) == 5 and script(keys=["scripted"], args=[5]) == 10
    lock = r.lock("lock", timeout=5)
    assert lock.acquire(blocking=False) and not r.lock("lock", timeout=5).acquire(blocking=False)
    lock.release()


def waiting(r):
    started = time.monotonic()
    assert r.blpop("empty", timeout=0.3) is None and time.monotonic() - started >= 0.25
    timer = threading.Timer(0.2, lambda: r.rpush("queue", "job"))
    timer.start()
    assert tuple(r.blpop("queue", timeout=5)) == ("queue", "job")
    timer.join()
    with r.pubsub(ignore_subscribe_messages=True) as sub:
        sub.subscribe("news")
        sub.psubscribe("ne*")
        until = time.monotonic() + 10
        while r.publish("news", "early") < 2 and time.monotonic() < until:
            time.sleep(0.01)
        assert r.publish("news", "hello") == 2
        got = []
        while len(got) < 2 and time.monotonic() < until:
            message = sub.get_message(timeout=1)
            if message and message["data"] == "hello":
                got.append(message["type"])
        assert sorted(got) == ["message", "pmessage"], got


def failover(r, port):
    """Fifty clients' worth of increments while somebody sends FAILOVER to Redis itself."""
    r.set("n", 0)
    errors, seen = [], []

    def work():
        for _ in range(100):
            try:
                seen.append(r.incr("n"))
            except redis.RedisError as e:
                errors.append(repr(e))
            time.sleep(0.01)

    threads = [threading.Thread(target=work) for _ in range(10)]
    for t in threads:
        t.start()
    time.sleep(0.2)
    with socket.create_connection(("127.0.0.1", port), 5) as operator:
        operator.sendall(b"FAILOVER\r\n")
        assert operator.recv(100) == b"+OK\r\n"
    for t in threads:
        t.join()
    assert not errors, errors[:5]
    assert sorted(seen) == list(range(1, 1001)), "every increment once"
    assert r.get("n") == "1000"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--failover-port", type=int, help="plain port of the primary, to send FAILOVER to")
    args = parser.parse_args()
    for protocol in (2, 3):
        r = connect(args, protocol, db=1, client_name="compat")
        basics(r)
        pipelines_and_scripts(r)
        waiting(r)
        assert r.client_getname() == "compat"
        r.close()
    if args.failover_port:
        failover(connect(args, 3), args.failover_port)
    print("redis-py", redis.__version__, "is content")


if __name__ == "__main__":
    main()
