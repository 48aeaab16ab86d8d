"""RQ, unmodified, over TLS while the pair changes its primary: no worker ends or reconnects, no job is lost or run twice,
no enqueue is refused; workers that fork for each job and workers that do not.

Run by tests/it/queues.rs: prints `ready`, works until its input ends, then exits with 0 when nothing was noticed.
Imported by the workers that it starts, for the job.
"""

import os
import sys
import time

import queue_story as story
import redis
import rq
from rq.job import Dependency, JobStatus


def work(number):
    story.done(number)
    return number


def main():
    connection = redis.Redis.from_url(os.environ["QUEUE_URL"])
    queues = [rq.Queue("forking", connection=connection), rq.Queue("simple", connection=connection)]

    def enqueue(number):
        """Most to the worker that does not fork: it is the faster one. Every 20th waits for the one before it."""
        queue = queues[number % 8 != 0]
        jobs = [queue.enqueue("rq_workers.work", f"job:{number}", result_ttl=600)]
        if number % 20 == 1:
            jobs.append(queue.enqueue("rq_workers.work", f"next:{number}", depends_on=Dependency(jobs=jobs), result_ttl=600))
        return [job.args[0] for job in jobs], jobs

    def collect(job):
        until = time.monotonic() + 30
        while job.get_status(refresh=True) != JobStatus.FINISHED:
            assert time.monotonic() < until, f"{job.args} is {job.get_status(refresh=False)}: {job.latest_result()}"
            time.sleep(0.02)

    def roll_call():
        """Both are registered, none failed, and nothing is left."""
        problems = [f"{queue.name}: {queue.failed_job_registry.count} failed" for queue in queues
                    if queue.failed_job_registry.count or queue.count]
        known = rq.Worker.all(connection=connection)
        return problems if len(known) == 2 else [*problems, f"registered: {known}"]

    begin = ["-m", "rq.cli", "worker", "--url"]
    workers = [
        ([*begin, os.environ["QUEUE_URL"], "forking"], "Listening on"),
        ([*begin, os.environ["QUEUE_URL_2"], "-w", "rq.worker.SimpleWorker", "simple"], "Listening on"),
    ]
    return story.tell(f"rq {rq.VERSION}", workers, enqueue, collect, roll_call)


if __name__ == "__main__":
    sys.exit(main())
