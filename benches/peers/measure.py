#!/usr/bin/env python3
"""Measure TLS proxies for Redis against each other, in alternating rounds.

    ./netns.sh ./peers.sh start
    ./netns.sh ./measure.py run --rounds 5
    ./netns.sh ./measure.py run --peers haproxy1,changeover --workloads get-c50,set-c50
    ./netns.sh ./measure.py idle --peers haproxy1,changeover
    ./measure.py table FILE..        the tables again
    ./netns.sh ./measure.py run --goals      only what the goals compare
    ./measure.py targets FILE..      what was set out to be reached, and what was

--extra NAME=HOST:PORT:tls|plain:PID[,PID..]  adds one more proxy; it must
forward to the Redis of peers.sh (127.0.0.1:22000) and use server.crt and
server.key of $RUN (CN localhost).  Children of the given pids are counted too.

In each round every peer is measured once per workload, in an order that is
shuffled per round (seeded).  Reported: medians over the rounds; "ratio" is the
median over the rounds of (this peer / base peer IN THE SAME ROUND).  "foreign"
is CPU used by anything else on the machine, in cores (sampled by tick, so
coarse): a measurement waits until the machine is quiet (--quiet, bounded) and
is repeated, at most --retries times, while foreign CPU is above --max-foreign;
the quietest attempt is kept.  "proxy us" counts all CPU time (user + system) of the proxy's
processes, also the kernel's loopback work done in their system calls.
"""
import argparse, json, os, random, statistics as st, subprocess, sys, time

HERE = os.path.dirname(os.path.realpath(__file__))
RUN = os.environ.get("RUN", os.path.realpath(HERE + "/../../target/peers"))
RLOAD = RUN + "/rload"

# name: (rload arguments, value size, keyspace)
WORKLOADS = {}
for cmd in ("get", "set"):
    for c in (1, 50, 200):
        WORKLOADS[f"{cmd}-c{c}"] = (f"-m {cmd} -c {c}", 64, 1000)
    for p in (16, 64):
        WORKLOADS[f"{cmd}-c50-P{p}"] = (f"-m {cmd} -c 50 -P {p}", 64, 1000)
    WORKLOADS[f"{cmd}-16k"] = (f"-m {cmd} -c 50", 16384, 500)
WORKLOADS["get-1m"] = ("-m get -c 4", 1 << 20, 16)
WORKLOADS["rate5k"] = ("-m get -c 20 -r 5000", 64, 1000)
# Latencies of few connections depend on who shares a CPU with whom, and the scheduler decides that anew every time: between
# 24 and 43 us for the same proxy.  So there the proxy has a CPU of its own.
PLACED = {"get-c1": "proxy", "rate5k": "proxy"}
WORKLOADS["hs"] = ("-m hs -c 8", 64, 1000)      # full handshake + PING + close
WORKLOADS["hsr"] = ("-m hsr -c 8", 64, 1000)    # the same, resumed session
MAIN = [w for w in WORKLOADS if not w.startswith("hs")]


def children(pid):
    out = [pid]
    try:
        for t in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{t}/children") as f:
                for c in f.read().split():
                    out += children(int(c))
    except OSError:
        pass
    return out


def peers(args):
    text = subprocess.run([HERE + "/peers.sh", "list"], capture_output=True, text=True, check=True).stdout
    table = {}
    for line in text.splitlines():
        name, host, port, tls, pids = line.split("\t")
        table[name] = dict(host=host, port=int(port), tls=tls == "1", pids=[int(p) for p in pids.split(",")])
    for x in args.extra:
        name, rest = x.split("=", 1)
        host, port, tls, pids = rest.split(":")
        all_pids = [c for p in pids.split(",") for c in children(int(p))]
        table[name] = dict(host=host, port=int(port), tls=tls == "tls", pids=all_pids)
    names = args.peers.split(",") if args.peers else list(table)
    names += [n for n in (x.split("=")[0] for x in args.extra) if n not in names]
    missing = [n for n in names if n not in table]
    if missing:
        sys.exit(f"not running: {', '.join(missing)} (peers.sh start)")
    return {n: table[n] for n in names}, table["redis"]["pids"]


def rload(peer, redis_pids, argv, limit):
    cmd = [RLOAD, "-h", peer["host"], "-p", str(peer["port"])]
    if peer["tls"]:
        cmd += ["-T", "-A", RUN + "/ca.crt", "-S", SUITE]
    own = [p for p in peer["pids"] if p not in redis_pids]
    if own:
        cmd += ["-x", "proxy=" + ",".join(map(str, own))]
    cmd += ["-x", "redis=" + ",".join(map(str, redis_pids))] + argv
    r = subprocess.run(cmd, capture_output=True, text=True, timeout=limit)
    if r.stderr:
        print("   ", r.stderr.strip().splitlines()[0], file=sys.stderr)
    try:
        d = json.loads(r.stdout)
    except ValueError:
        return None
    d["cmd"] = " ".join(cmd)
    return d


def busy_now(secs=0.25):
    def total():
        f = open("/proc/stat").readline().split()
        return sum(int(f[i]) for i in (1, 2, 3, 6, 7)) / os.sysconf("SC_CLK_TCK")
    a, t = total(), time.time()
    time.sleep(secs)
    return (total() - a) / (time.time() - t)


def calm(args):
    start = time.time()
    end = start + min(args.quiet_wait, max(0, args.wait_budget))
    while busy_now() > args.quiet and time.time() < end:
        pass
    args.wait_budget -= max(0, time.time() - start - 0.3)


def pin(pids, cpus):
    for p in pids:
        for t in os.listdir(f"/proc/{p}/task"):
            try:
                os.sched_setaffinity(int(t), cpus)
            except OSError:
                pass


def place(how, own, redis_pids):
    """Who gets which CPU.  node: proxy and Redis share the last one, as on a node of their own, and the load, which would be
    elsewhere, has the others; proxy: the proxy has the last one, Redis and the load share the others."""
    every = set(range(os.cpu_count()))
    last = every if how == "free" else {max(every)}
    with_load = redis_pids if how == "proxy" and own else []
    pin(own + [p for p in redis_pids if p not in with_load], last)
    pin(with_load + [os.getpid()], every if how == "free" else every - last)


def attempt(args, *a):
    """measure; repeat while others use much of the machine; keep the quietest"""
    best = None
    for i in range(args.retries + 1):
        calm(args)
        d = rload(*a)
        if d and (best is None or foreign(d) < foreign(best)):
            best = d
        if best and foreign(best) <= args.max_foreign:
            break
    return best


def run(args):
    table, redis_pids = peers(args)
    names = list(table)
    cells = goal_cells() if args.goals else None
    wl = args.workloads.split(",") if args.workloads else [w for w in WORKLOADS if any(c[0] == w for c in cells)] if cells else MAIN
    rng = random.Random(args.seed)
    results, t0 = [], time.time()
    for rnd in range(args.rounds):
        if args.limit and (time.time() - t0) / max(rnd, 1) * (rnd + 1) > args.limit:
            print(f"{rnd} of {args.rounds} rounds: the time is up", file=sys.stderr)
            break
        for w in wl:
            opts, size, keys = WORKLOADS[w]
            data = ["-d", str(size), "-k", str(keys)]
            if w != "hs" and w != "hsr":
                subprocess.run([RLOAD, "-p", "22000", "-m", "load", "-c", "4"] + data, check=True, timeout=60)
            order = [n for n in names if cells is None or (w, n) in cells]
            rng.shuffle(order)
            for n in order:
                secs = args.secs * (2 if w == "rate5k" else 1)
                own = [p for p in table[n]["pids"] if p not in redis_pids]
                place(args.place or PLACED.get(w, "free"), own, redis_pids)
                argv = opts.split() + data + ["-t", str(secs), "-w", str(args.warm)]
                d = attempt(args, table[n], redis_pids, argv, secs + args.warm + 60)
                if d is None:
                    continue
                d.update(round=rnd, workload=w, peer=n)
                results.append(d)
                if args.verbose:
                    print(rnd, w, n, round(d["ops_s"]), file=sys.stderr)
            with open(args.out, "w") as f:
                json.dump(dict(base=args.base, suite=SUITE, secs=args.secs, started=t0, results=results), f)
        print(f"round {rnd + 1} of {args.rounds} done, {time.time() - t0:.0f} s", file=sys.stderr, flush=True)
    if not args.goals:
        show(results, args.base)


def med(xs):
    return st.median(xs) if xs else float("nan")


def per_op(d, key):
    return d.get("cpu_" + key, 0.0) / d["ops"] * 1e6 if d["ops"] else float("nan")


def foreign(d):
    return (d["busy"] - d["cpu_self"] - d.get("cpu_proxy", 0) - d["cpu_redis"]) / d["secs"]


def show(results, base, quiet=0.35):
    """CPU columns: all measurements.  Throughput and latency columns: only those
    with foreign CPU <= quiet; where a peer has none such, all, marked ~."""
    order = []
    for d in results:
        if d["workload"] not in order:
            order.append(d["workload"])
    seen = []
    for d in results:
        if d["peer"] not in seen:
            seen.append(d["peer"])
    fixed = [p for p in "redis redis-tls changeover changeover2 changeover-off haproxy1 haproxy2 nginx1 nginx2 hitch1 stunnel envoy-tcp envoy-redis haproxy-plain "
             "twemproxy floor-proxy floor-proxy-tls floor-mux floor-mux-tls".split() if p in seen]
    names = fixed + [p for p in seen if p not in fixed]
    for w in order:
        hs = w.startswith("hs")
        if hs:
            print(f"\n### {w}\n\n| peer | connections/s | proxy CPU us | per CPU-second | x {base} | min-max | Redis us | load us | p50 us | p99 us | resumed | n, foreign |")
        else:
            print(f"\n### {w}\n\n| peer | ops/s | x {base} | proxy us/op | x {base} | min-max | Redis us/op | load us/op | p50 us | p99 us | p999 us | n, foreign |")
        print("|---|---:|---:|---:|---:|---|---:|---:|---:|---:|---:|---:|")
        by = {}
        for d in results:
            if d["workload"] == w and d["ops"]:
                by.setdefault(d["peer"], {})[d["round"]] = d
        b = by.get(base, {})
        for n in names:
            if n not in by:
                continue
            rs = by[n]
            cpu = [per_op(d, "proxy") for d in rs.values()]
            both = [r for r in rs if r in b]
            has = "cpu_proxy" in next(iter(rs.values()))
            rc = f"{med([per_op(rs[r], 'proxy') / per_op(b[r], 'proxy') for r in both if per_op(b[r], 'proxy')]):.2f}" if has and both else ""
            calm_ = {r: d for r, d in rs.items() if foreign(d) <= quiet}
            cb = [r for r in calm_ if r in b and foreign(b[r]) <= quiet]
            if cb:
                ro = f"{med([rs[r]['ops_s'] / b[r]['ops_s'] for r in cb]):.2f}"
            else:
                ro = f"~{med([rs[r]['ops_s'] / b[r]['ops_s'] for r in both]):.2f}" if both else ""
            bad = sum(d["err"] + d["bad"] + d["lost"] for d in rs.values())
            label = n + (f" (ERRORS {bad})" if bad else "")
            v = list(rs.values())
            q, mark = (list(calm_.values()), "") if calm_ else (v, "~")
            m = lambda k: f"{mark}{med([d[k] for d in q]):.0f}"
            px = f"{med(cpu):.2f}" if has else ""
            mm = f"{min(cpu):.{2 if max(cpu) < 5 else 1}f}-{max(cpu):.{2 if max(cpu) < 5 else 1}f}" if has else ""
            rd, ld = med([per_op(d, "redis") for d in v]), med([per_op(d, "self") for d in v])
            fg = f"{len(q)} of {len(v)}, {med([foreign(d) for d in v]):.2f}"
            if hs:
                who = med(cpu) if has else rd
                print(f"| {label} | {m('ops_s')} | {px} | {1e6 / who:.0f} | {rc} | {mm} | {rd:.1f} | {ld:.1f} | {m('p50')} | {m('p99')} | {med([d['resumed'] / d['ops'] for d in v]):.2f} | {fg} |")
            else:
                print(f"| {label} | {m('ops_s')} | {ro} | {px} | {rc} | {mm} | {rd:.2f} | {ld:.2f} | {m('p50')} | {m('p99')} | {m('p999')} | {fg} |")


def idle(args):
    """RSS with 0, 1,000 and 5,000 idle connections.  All peers are stopped and the
    one peer (and Redis) started afresh each time; --extra ones are taken as they are."""
    steps = [int(x) for x in args.steps.split(",")]
    out = []
    extra = {x.split("=")[0]: x for x in args.extra}
    names = [n for n in args.peers.split(",") if n and n not in extra] + list(extra)
    for rnd in range(args.rounds):
        for n in names:
            if n not in extra:
                subprocess.run([HERE + "/peers.sh", "stop"], check=True, timeout=60)
                subprocess.run([HERE + "/peers.sh", "start", n], check=True, timeout=60)
                time.sleep(1)
            only = argparse.Namespace(extra=[extra[n]] if n in extra else [], peers=n)
            table, redis_pids = peers(only)
            argv = ["-m", "idle", "-c", str(steps[-1]), "-t", "5"]
            if steps[:-1]:
                argv += ["-s", ",".join(map(str, steps[:-1]))]
            d = rload(table[n], redis_pids, argv, 200)
            if d:
                d.update(peer=n, round=rnd)
                out.append(d)
    json.dump(out, open(args.out, "w"))
    print("| peer | RSS KiB at 0 | " + " | ".join(f"at {s}" for s in steps) + " | KiB per connection (first to last step) | after all closed | CPU ms/s while idle | Redis KiB per connection |")
    print("|---|" + "---:|" * (len(steps) + 5))
    for n in names:
        ds = [d for d in out if d["peer"] == n]
        if not ds:
            continue
        key = "rss_proxy" if "rss_proxy" in ds[0]["steps"][0] else "rss_redis"
        rss = [med([d["steps"][i][key] for d in ds]) for i in range(len(steps) + 2)]
        red = med([(d["steps"][-2]["rss_redis"] - d["steps"][0]["rss_redis"]) / steps[-1] for d in ds])
        per = (rss[len(steps)] - rss[1]) / (steps[-1] - steps[0]) if len(steps) > 1 else (rss[1] - rss[0]) / steps[0]
        cpu = med([d.get("cpu_proxy", d["cpu_redis"]) / d["secs"] * 1e3 for d in ds])
        print(f"| {n} | " + " | ".join(f"{x:.0f}" for x in rss[:-1]) + f" | {per:.1f} | {rss[-1]:.0f} | {cpu:.1f} | {red:.1f} |")


# What was set out to be reached: (workloads, what, of whom, against whom, comparison, limit).
C50 = "get-c50 set-c50"
TARGETS = [
    (C50 + " get-c200 set-c200", "proxy CPU", "changeover", "haproxy1", "<=", 0.55),
    (C50 + " get-c200 set-c200", "ops/s", "changeover", "haproxy1", ">=", 1.6),
    (C50 + " get-c200 set-c200", "all CPU", "changeover", "redis-tls", "<=", 1.0),
    (C50 + " get-c200 set-c200", "Redis CPU", "changeover", "redis", "<=", 0.25),
    ("get-c1", "p50 added", "changeover", "haproxy1", "<=", 1.0),
    ("get-c50-P16", "ops/s", "changeover", "haproxy1", ">=", 1.3),
    ("get-c50-P64 set-c50-P64", "ops/s", "changeover", "haproxy1", ">=", 1.15),
    ("get-16k set-16k", "ops/s", "changeover", "haproxy1", ">=", 1.4),
    ("get-16k set-16k", "proxy CPU", "changeover", "haproxy1", "<=", 0.6),
    ("get-1m", "proxy CPU", "changeover", "haproxy1", "<=", 0.5),
    ("rate5k", "p50", "changeover", "haproxy1", "<=", 1.0),
    ("rate5k", "p99", "changeover", "haproxy1", "<=", 1.0),
    ("hs hsr", "proxy CPU", "changeover", "haproxy1", "<=", 1 / 2.2),
    (C50 + " get-16k set-16k get-c50-P16 get-c50-P64", "proxy CPU", "changeover-off", "haproxy1", "<=", 1.0),
    (C50 + " get-c200 get-c50-P16 get-c50-P64 get-16k set-16k get-1m hs hsr", "proxy CPU", "changeover", "floor-mux-tls", "", 0),
]


def goal_cells():
    """Which peers the goals need for which workload."""
    cells = set()
    for workloads, what, of, against, _, _ in TARGETS:
        for w in workloads.split():
            cells |= {(w, of), (w, against)} | ({(w, "redis")} if "added" in what else set())
    return cells


def measured(what, d, redis):
    """One figure of one measurement; `redis` is direct Redis' in the same round."""
    if what == "p50 added":
        return d["p50"] - redis["p50"]
    if what in ("p50", "p99"):
        return d[what]
    if what == "ops/s":
        return d["ops_s"]
    return {"proxy CPU": per_op(d, "proxy"), "Redis CPU": per_op(d, "redis"),
            "all CPU": per_op(d, "proxy") + per_op(d, "redis")}[what]


MEMORY = 12  # KiB of an idle TLS connection


def apart(results):
    """(workload, peer) -> the two kinds of its measurements: those with the machine's CPUs far apart, and near.  The CPUs of a
    virtual machine are moved about: the way of a cache line from one to the other and back takes 80 ns or 380, and that
    changes within seconds.  What every peer costs follows, and so does what the load costs itself, which tells them apart."""
    kinds = {}
    for d in results:
        if d["ops"]:
            kinds.setdefault((d["workload"], d["peer"]), []).append(d)
    for key, ds in kinds.items():
        costs = [per_op(d, "self") for d in ds]
        middle = (min(costs) + max(costs)) / 2
        one = max(costs) < 1.25 * min(costs)
        kinds[key] = tuple([d for d, cost in zip(ds, costs) if one or (cost < middle) == near] for near in (False, True))
    return kinds


def in_kind(kinds, near, what, w, of, against):
    """Ratio of the medians of one kind, and how many measurements of each peer those are."""
    if "CPU" not in what and what != "ops/s":
        return ""
    a, b = (kinds.get((w, p), ((), ()))[near] for p in (of, against))
    if not a or not b:
        return ""
    return f"{med([measured(what, d, None) for d in a]) / med([measured(what, d, None) for d in b]):.2f} ({len(a)}, {len(b)})"


def targets(results, idle_file=None):
    kinds = apart(results)
    by = {(d["workload"], d["peer"], d["round"]): d for d in results if d["ops"]}
    rounds = sorted({d["round"] for d in results})
    print("\n| workload | what | of | against | to reach | measured (median, range, rounds) | | CPUs far | near |\n|---|---|---|---|---:|---|---|---|---|")
    for workloads, what, of, against, sign, limit in TARGETS:
        for w in workloads.split():
            xs = []
            for r in rounds:
                a, b, redis = (by.get((w, p, r)) for p in (of, against, "redis"))
                # A peer that adds nothing measurable leaves no ratio to speak of.
                if a and b and (redis or "added" not in what) and measured(what, b, redis) > 0:
                    xs.append(measured(what, a, redis) / measured(what, b, redis))
            if xs:
                m = med(xs)
                said = "" if not sign else "reached" if (m <= limit if sign == "<=" else m >= limit) else "**missed**"
                goal = f"{sign} {limit:.2f}" if sign else "as a reference"
                print(f"| {w} | {what} | {of} | {against} | {goal} | {m:.2f} ({min(xs):.2f}-{max(xs):.2f}, {len(xs)}) | {said} "
                      f"| {in_kind(kinds, False, what, w, of, against)} | {in_kind(kinds, True, what, w, of, against)} |")
    for d in json.load(open(idle_file)) if idle_file else []:
        if d["peer"] == "changeover":
            first, last = d["steps"][1], d["steps"][-2]
            kib = (last["rss_proxy"] - first["rss_proxy"]) / (last["conns"] - first["conns"])
            said = "reached" if kib <= MEMORY else "**missed**"
            print(f"| idle | KiB per connection, {first['conns']} to {last['conns']} | changeover | itself | <= {MEMORY} | {kib:.1f} | {said} | | |")


ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
sub = ap.add_subparsers(dest="what", required=True)
for name in ("run", "idle"):
    p = sub.add_parser(name)
    p.add_argument("--peers", default="")
    p.add_argument("--extra", action="append", default=[])
    p.add_argument("--rounds", type=int, default=5 if name == "run" else 1)
    p.add_argument("--suite", default="TLS_AES_128_GCM_SHA256")
    p.add_argument("--out", default=f"{RUN}/{name}.json")
    if name == "run":
        p.add_argument("--workloads", default="", help=",".join(WORKLOADS))
        p.add_argument("--secs", type=float, default=2.5)
        p.add_argument("--warm", type=float, default=0.5)
        p.add_argument("--base", default="haproxy1")
        p.add_argument("--goals", action="store_true", help="only the cells that the goals compare; prints no table")
        p.add_argument("--limit", type=float, default=0, help="seconds; no round is begun that would not end by then")
        p.add_argument("--place", choices=("free", "node", "proxy"), help="who gets which CPU, in every workload (place())")
        p.add_argument("--seed", type=int, default=1)
        p.add_argument("--quiet", type=float, default=0.3, help="cores in use by others that count as quiet")
        p.add_argument("--quiet-wait", type=float, default=10, help="seconds to wait for it, per measurement")
        p.add_argument("--wait-budget", type=float, default=900, help="seconds of waiting for quiet, in the whole run")
        p.add_argument("--max-foreign", type=float, default=0.3)
        p.add_argument("--retries", type=int, default=1)
        p.add_argument("-v", "--verbose", action="store_true")
    else:
        p.add_argument("--steps", default="1000,5000")
for name in ("table", "targets"):
    p = sub.add_parser(name)
    p.add_argument("file", nargs="+")
    p.add_argument("--base", default="haproxy1")
    p.add_argument("--quiet", type=float, default=0.35)
    p.add_argument("--idle", help="the file of `measure.py idle`, for its goal")
a = ap.parse_args()
SUITE = getattr(a, "suite", "")
if a.what == "run":
    run(a)
elif a.what == "idle":
    idle(a)
else:
    every = []
    for i, f in enumerate(a.file):  # rounds of several files stay apart
        every += [dict(d, round=d["round"] + 1000 * i) for d in json.load(open(f))["results"]]
    show(every, a.base, a.quiet) if a.what == "table" else targets(every, a.idle)
