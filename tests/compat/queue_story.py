"""What the stories of the job queues have in common: workers as processes, a producer, and the reckoning at the end.

A job that runs writes a line to the file $QUEUE_DONE, which has nothing to do with Redis. QUEUE_URL and QUEUE_URL_2 lead
to the two proxies; each gets half of the workers.
"""

import collections
import os
import re
import subprocess
import sys
import threading
import time

# What a worker that had to reconnect, or that met an error, writes to its log. (Celery also warns of running as root.)
COMPLAINT = re.compile(r"(?i)(?<!security_)error|traceback|lost|reconnect|refused|missed|unrecoverable|exception|warm shutdown")
PACE = 0.02


def done(name):
    with open(os.environ["QUEUE_DONE"], "a", encoding="ascii") as file:
        file.write(name + "\n")


def start(number, arguments):
    """A worker whose lines go to a file; the second one talks to the other proxy."""
    url = os.environ["QUEUE_URL" if number == 0 else "QUEUE_URL_2"]
    log = f"{os.environ['QUEUE_DONE']}.worker{number}"
    with open(log, "wb") as out:
        return log, subprocess.Popen(
            [sys.executable, *arguments], stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            cwd=os.path.dirname(os.path.abspath(__file__)), env={**os.environ, "QUEUE_URL": url})


def read(log):
    with open(log, encoding="utf-8", errors="replace") as file:
        return file.read()


def wait_ready(workers, words):
    until = time.monotonic() + 30
    for (log, process), word in zip(workers, words):
        while word not in read(log):
            assert process.poll() is None and time.monotonic() < until, f"a worker did not start:\n{read(log)}"
            time.sleep(0.05)


def produce(enqueue, stop):
    """Enqueues until told to stop. Returns names of jobs, their results, and what went wrong."""
    names, results, problems = [], [], []
    number = 0
    while not stop.is_set():
        try:
            given, waiting = enqueue(number)
            names += given
            results += waiting
        except Exception as e:  # any error is the finding
            problems.append(f"enqueue {number} was refused: {e!r}")
        number += 1
        time.sleep(PACE)
    return names, results, problems


def reckon(names, problems):
    """Every job that was given has run, once."""
    if not os.path.exists(os.environ["QUEUE_DONE"]):
        problems.append("nothing has run")
        return
    with open(os.environ["QUEUE_DONE"], encoding="ascii") as file:
        ran = collections.Counter(file.read().split())
    for what, wrong in (
        ("lost", [name for name in names if not ran[name]]),
        ("run twice", [name for name, times in ran.items() if times > 1]),
        ("never given", list(ran.keys() - set(names))),
    ):
        if wrong:
            problems.append(f"{len(wrong)} of {len(names)} were {what}: {wrong[:5]}")


def tell(title, arguments, enqueue, collect, roll_call):
    workers = [start(number, words) for number, (words, _) in enumerate(arguments)]
    try:
        wait_ready(workers, [word for _, word in arguments])
        stop = threading.Event()
        threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
        print("ready", flush=True)
        names, results, problems = produce(enqueue, stop)
        for result in results:
            try:
                collect(result)
            except Exception as e:  # any error is the finding
                problems.append(f"no result: {e!r}")
                break
        problems += roll_call()
        reckon(names, problems)
        for log, process in workers:
            if process.poll() is not None:
                problems.append(f"a worker ended with {process.returncode}:\n{read(log)[-3000:]}")
            problems += [f"a worker says: {line}" for line in read(log).splitlines() if COMPLAINT.search(line)][:5]
    finally:
        for _, process in workers:
            process.terminate()
        for _, process in workers:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
    for problem in problems[:20]:
        print(problem)
    print(f"{title}: {len(names)} jobs, {len(problems)} problems")
    return 1 if problems or len(names) < 100 else 0
