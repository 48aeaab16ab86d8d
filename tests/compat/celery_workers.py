"""Celery, unmodified, over TLS while the pair changes its primary: no worker ends or reconnects, no task is lost or run
twice, no enqueue is refused, early and late acknowledgement alike.

Run by tests/it/queues.rs: prints `ready`, works until its input ends, then exits with 0 when nothing was noticed.
Imported by the workers that it starts, as their app.
"""

import os
import sys
import time

import celery
import queue_story as story

app = celery.Celery("celery_workers", broker=os.environ["QUEUE_URL"], backend=os.environ["QUEUE_URL"])
app.conf.update(
    # The first error is an error: nothing is tried again behind the test's back.
    task_publish_retry=False, broker_connection_retry_on_startup=False, broker_connection_retry=False,
    worker_cancel_long_running_tasks_on_connection_loss=False, worker_prefetch_multiplier=4, result_expires=600,
    worker_send_task_events=True, broker_heartbeat=2)


@app.task
def early(number):
    story.done(f"early:{number}")
    return number


@app.task(acks_late=True)
def late(number):
    story.done(f"late:{number}")
    return number


@app.task
def total(numbers):
    story.done(f"total:{sum(numbers)}")
    return sum(numbers)


def enqueue(number):
    """One of each; every 25th time also three tasks and a last one that waits for them (a chord)."""
    given = [f"early:{number}", f"late:{number}"]
    results = [early.delay(number), late.apply_async((number,), countdown=1 if number % 10 == 0 else 0)]
    if number % 25 == 0:
        base = 1_000_000 + number * 10
        results.append(celery.chord([early.s(base + n) for n in range(3)])(total.s()))
        given += [f"early:{base + n}" for n in range(3)] + [f"total:{3 * base + 3}"]
    return given, results


def collect(result):
    """The result, which the back end announces by a message as well."""
    result.get(timeout=30)


def roll_call():
    """Both workers answer a broadcast: their subscriptions are alive."""
    until = time.monotonic() + 10
    answers = []
    while len(answers) < 2 and time.monotonic() < until:
        answers = app.control.ping(timeout=1)
    return [] if len(answers) == 2 else [f"a broadcast reached {answers}"]


def main():
    arguments = ["-m", "celery", "-A", "celery_workers", "worker", "-c", "2", "-l", "INFO", "-n"]
    workers = [([*arguments, f"w{n}@test"], " ready.") for n in range(2)]
    return story.tell(f"celery {celery.__version__}", workers, enqueue, collect, roll_call)


if __name__ == "__main__":
    sys.exit(main())
