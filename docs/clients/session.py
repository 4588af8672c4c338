"""A session with the generated client: list, delete, restore, collect and wait.

Usage: session.py REPOSITORY TAG, with API and TOKEN in the environment.
"""

import os
import sys
import time
from collections.abc import Iterator
from typing import Protocol, TypeVar, runtime_checkable
from urllib.parse import parse_qs, urlsplit

from httpx import Timeout
from registry_admin_client import AuthenticatedClient
from registry_admin_client.api.deletions import restore_deletion
from registry_admin_client.api.gc_runs import create_gc_run
from registry_admin_client.api.jobs import get_job
from registry_admin_client.api.repositories import list_repositories
from registry_admin_client.api.tags import delete_tag, get_tag, list_tags
from registry_admin_client.models import (
    Deletion,
    GcOptions,
    Job,
    RepositoryPage,
    Restoration,
    RestoreOptions,
    Tag,
    TagPage,
)
from registry_admin_client.types import UNSET, Unset

REGISTRY = "default"
LONGER_THAN_ANSWERS_ARE_HELD = Timeout(70)  # seconds

Wanted = TypeVar("Wanted")


@runtime_checkable
class Problem(Protocol):
    """What every problem has, whatever its class."""

    @property
    def code(self) -> str:
        """What happened; never changes its meaning."""

    @property
    def detail(self) -> str:
        """What happened, and what to do."""


def got(answer: Wanted | Problem | None, wanted: type[Wanted]) -> Wanted:
    """Give the answer, or end with what the service says is wrong."""
    if isinstance(answer, wanted):
        return answer
    if isinstance(answer, Problem):
        sys.exit(f"refused: {answer.code}: {answer.detail}")
    sys.exit("not an answer that the document knows")


def repositories(client: AuthenticatedClient) -> Iterator[str]:
    """Give the names of all repositories, page by page."""
    last: str | Unset = UNSET
    while True:
        answer = list_repositories.sync(REGISTRY, client=client, n=1000, last=last)
        page = got(answer, RepositoryPage)
        yield from (one.name for one in page.items)
        if page.next_ is None:
            return
        last = parse_qs(urlsplit(page.next_).query)["last"][0]


def finished(client: AuthenticatedClient, job: Job) -> Job:
    """Wait for the end of a job."""
    while job.state in {"queued", "running"}:
        time.sleep(1)
        job = got(get_job.sync(job.id, client=client), Job)
    return job


def session(client: AuthenticatedClient, repository: str, tag: str) -> None:
    """Delete a tag and put it back; then collect garbage."""
    print("repositories:", *repositories(client))
    page = got(list_tags.sync(REGISTRY, repository, client=client, detail=True), TagPage)
    print("tags:", *(one.name for one in page.items))

    deletion = got(delete_tag.sync(REGISTRY, repository, tag, client=client), Deletion)
    print("deleted:", *deletion.tags_removed, f"with {len(deletion.manifests_removed)} manifests")
    gone = get_tag.sync(REGISTRY, repository, tag, client=client)
    assert gone is not None
    assert not isinstance(gone, Tag)
    print("a problem:", gone.code, gone.status)

    options = RestoreOptions(force=False)
    restored = restore_deletion.sync(REGISTRY, str(deletion.id), client=client, body=options)
    print("restored:", *got(restored, Restoration).tags_restored)

    how = GcOptions(mode="read-only")
    started = create_gc_run.sync(REGISTRY, client=client, body=how, prefer="wait=60")
    job = finished(client, got(started, Job))
    if job.result is None:
        sys.exit(f"collection {job.state}: {job.error}")
    print("collection", job.state, "freed", job.result["bytes_freed"], "bytes")


def main() -> None:
    """Start the session."""
    repository, tag = sys.argv[1:]
    with AuthenticatedClient(
        base_url=os.environ["API"],
        token=os.environ["TOKEN"],
        timeout=LONGER_THAN_ANSWERS_ARE_HELD,
    ) as client:
        session(client, repository, tag)


if __name__ == "__main__":
    main()
