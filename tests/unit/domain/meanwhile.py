"""A registry that goes on living while it is asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from service.domain.content import RawManifest
from service.domain.reference import Digest, Repository, Tag
from tests.fakes import V2, Behaviour, FakeRegistry

Question = Literal["repositories", "tags", "resolve", "content", "manifest"]
Happening = Callable[[], object]


class LivingRegistry(FakeRegistry):
    """Lets something happen each time after a question has been answered."""

    def __init__(self, behaviour: Behaviour = V2) -> None:
        super().__init__(behaviour=behaviour)
        self._happenings: defaultdict[str, list[Happening]] = defaultdict(list)

    def after(self, question: Question, *happenings: Happening) -> None:
        """Let each of ``happenings`` happen once, one after each such question."""
        self._happenings[question] += happenings

    def repositories(self) -> Iterator[Repository]:
        yield from list(super().repositories())
        self._happen("repositories")

    def tags(self, repository: Repository) -> Sequence[Tag]:
        found = super().tags(repository)
        self._happen("tags")
        return found

    def resolve(self, repository: Repository, tag: Tag) -> Digest:
        found = super().resolve(repository, tag)
        self._happen("resolve")
        return found

    def content(self, repository: Repository, digest: Digest) -> RawManifest:
        found = super().content(repository, digest)
        self._happen("content")
        return found

    def manifest(self, repository: Repository, reference: Tag | Digest) -> RawManifest:
        found = super().manifest(repository, reference)
        self._happen("manifest")
        return found

    def remove(self, repository: str, tag: str) -> None:
        """Remove a tag, its manifest, and what that needs."""
        contents = self.contents[Repository(repository)]
        digest = contents.tags.pop(Tag(tag))
        contents.manifests.pop(digest, None)
        self._seen_manifests.pop(digest, None)

    def _happen(self, question: Question) -> None:
        with self._mutex:  # questions are asked by many threads
            if self._happenings[question]:
                self._happenings[question].pop(0)()
