"""The queue of jobs on DBOS, from outside of the process that runs them.

One queue holds all jobs, since each queue that is polled costs. Its partitions are the lanes of
:mod:`service.jobs.lanes`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Mapping
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from dbos import DBOSClient, DBOSPortableJSONSerializer, EnqueueOptions
from dbos._serialization import DefaultSerializer

APPLICATION = "registry-admin"
VERSION = "1"
"""DBOS runs a job only where the version is that which it was accepted by. Ours records no steps
with DBOS, so any release can go on with any job, and this never changes."""

QUEUE = "jobs"
WORKFLOW = "job"
POLL_SECONDS = 0.15
"""Measured: a poll costs 3 ms of a core, and a job waits for half of this on average."""

AT_ONCE = 8
"""Most jobs at once in a worker; with PostgreSQL each holds a connection for its lock."""

ALIVE = frozenset({"ENQUEUED", "PENDING", "DELAYED"})
SERIALIZER = DBOSPortableJSONSerializer()
"""The default is pickle: code execution for whoever can write to the database."""


def _refuse(_serializer: object, _text: str) -> object:
    raise TypeError("nothing is unpickled that comes from the database")


# Not public: whatever serializer is configured, DBOS unpickles what a row says is a pickle.
DefaultSerializer.deserialize = _refuse  # type: ignore[assignment, method-assign]

POSTGRES_LIMITS = {"connect_timeout": "5", "keepalives_idle": "30", "tcp_user_timeout": "15000"}

# With a handler of ours DBOS adds none of its own, and what it logs goes where all the rest goes.
logging.getLogger("dbos").addHandler(logging.NullHandler())
logging.getLogger("dbos").setLevel(logging.WARNING)


def bounded(url: str) -> str:
    """Give a database URL with limits to how long a silent server is waited for."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return url
    query = POSTGRES_LIMITS | dict(parse_qsl(parts.query))
    return urlunsplit(parts._replace(query=urlencode(query)))


class Queue:
    """The queue. One a process, made after any fork; it connects when first needed."""

    def __init__(self, url: str) -> None:
        """Use the tables that DBOS keeps in the database at ``url``, beside ours."""
        self._url = bounded(url)
        self._made: DBOSClient | None = None
        self._making = threading.Lock()

    def enqueue(self, transaction: object, job_id: str, exclusive: str | None, lane: str) -> None:
        """Put a job into its lane, within a transaction of the store's own connection."""
        options: EnqueueOptions = {
            "workflow_name": WORKFLOW,
            "queue_name": QUEUE,
            "workflow_id": job_id,
            "workflow_id_reuse_policy": "reject",
            "app_version": VERSION,
            "queue_partition_key": lane,
        }
        self._client.enqueue_in_transaction(cast("Any", transaction), options, job_id, exclusive)

    def drop(self, job_id: str) -> None:
        """Take a job that was never begun out of the queue.

        Never to be called for a running one: its lane would be free while it still works.
        """
        self._client.cancel_workflow(job_id)

    def alive(self, job_ids: Collection[str]) -> Collection[str]:
        """Those of the jobs that wait or run, or will be run again."""
        found = self._client.list_workflows(
            workflow_ids=list(job_ids), load_input=False, load_output=False
        )
        return {one.workflow_id for one in found if one.status in ALIVE}

    def pending(self) -> Mapping[str, str]:
        """The jobs that have been handed to a worker, and which."""
        found = self._client.list_workflows(status="PENDING", load_input=False, load_output=False)
        return {one.workflow_id: one.executor_id or "" for one in found}

    def forget(self, job_ids: Collection[str]) -> None:
        """Delete what DBOS has of jobs that ended."""
        self._client.delete_workflows(list(job_ids))

    def register(self) -> None:
        """Say how the queue is to be worked off; known to all workers within a second."""
        self._client.register_queue(
            QUEUE,
            partition_concurrency=1,
            worker_concurrency=AT_ONCE,
            polling_interval_sec=POLL_SECONDS,
        )

    def close(self) -> None:
        """Close the connections."""
        if self._made is not None:
            self._made.destroy()

    @property
    def _client(self) -> DBOSClient:
        with self._making:
            if self._made is None:
                self._made = DBOSClient(
                    system_database_url=self._url,
                    serializer=SERIALIZER,
                    application_name=APPLICATION,
                    lazy=True,
                    retry_connection_errors=False,
                )
            return self._made
