"""DBOS in the process that runs the jobs. It is a singleton: one of these a process."""

from __future__ import annotations

from collections.abc import Callable

from dbos import DBOS, DBOSConfig

from service.jobs.queue import APPLICATION, QUEUE, SERIALIZER, VERSION, WORKFLOW, bounded

ATTEMPTS_LIMIT = 100
"""How often DBOS hands out a job. We count how often it was begun, which is what matters, and
give up long before this."""

SELDOM_SECONDS = 60.0
"""How often DBOS looks for what we do not use: schedules."""


def migrate(url: str) -> None:
    """Create or upgrade DBOS's own tables."""
    DBOS.migrate(bounded(url))


class Engine:
    """Takes jobs out of the queue and calls ``run`` for each in a thread of its own."""

    def __init__(self, url: str, executor: str, run: Callable[[str, str | None], None]) -> None:
        """``executor`` names this process: no two that live may have the same name."""
        self._config: DBOSConfig = {
            "name": APPLICATION,
            "application_version": VERSION,
            "executor_id": executor,
            "system_database_url": bounded(url),
            "serializer": SERIALIZER,
            "log_level": "WARNING",
            "run_migrations": False,
            "scheduler_polling_interval_sec": SELDOM_SECONDS,
        }
        self._run = run

    def launch(self) -> None:
        """Begin; jobs that an earlier process of the same name left are begun anew."""

        def job(job_id: str, exclusive: str | None) -> None:
            self._run(job_id, exclusive)

        self._launched = DBOS(config=self._config)
        DBOS.workflow(name=WORKFLOW, max_recovery_attempts=ATTEMPTS_LIMIT)(job)
        DBOS.listen_queues([QUEUE])
        DBOS.launch()

    def stop(self, seconds: int) -> None:
        """Take no more jobs, wait for those that run, then let go; may outlast ``seconds``."""
        DBOS.destroy(destroy_registry=True, workflow_completion_timeout_sec=seconds)

    def adopt(self, executor: str) -> None:
        """Put everything back into the queue that a dead worker had been handed."""
        # Not public: recovery is thought to be asked for by DBOS's own control plane.
        DBOS._recover_pending_workflows([executor])  # noqa: SLF001

    def put_back(self, job_id: str, executor: str) -> None:
        """Put one job back into its lane that a worker was handed and never began."""
        # Not public: there is no way to name a single one.
        self._launched._sys_db.reenqueue_for_recovery(job_id, [executor], QUEUE)  # noqa: SLF001
