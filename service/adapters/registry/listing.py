"""Names: the catalog and the tags of a repository."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from typing import TypeVar

from service.adapters.registry.answers import Asked, document_of, refusal
from service.adapters.registry.conversation import Conversation
from service.adapters.registry.origin import Origin
from service.adapters.registry.pages import follow
from service.adapters.registry.routes import Routes
from service.adapters.registry.transport import Answer, Request
from service.domain.errors import (
    CatalogUnsupported,
    InvalidName,
    RegistryAnswerInvalid,
    RegistryUnauthorized,
    RepositoryUnknown,
    shown,
)
from service.domain.reference import Repository, Tag

Name = TypeVar("Name", Repository, Tag)
_NO_CATALOG = frozenset({401, 403, 404, 405, 501})

log = logging.getLogger(__name__)


class Listing:
    """Lists what one registry holds. Safe to share between threads."""

    def __init__(self, conversation: Conversation, routes: Routes) -> None:
        """Ask by ``conversation``."""
        self._conversation = conversation
        self._routes = routes
        self._origin = conversation.origin

    def repositories(self) -> Iterator[Repository]:
        """Yield every repository once; raise CatalogUnsupported."""
        pages = follow(self._ask_catalog, self._routes.catalog, self._origin)
        seen: set[Repository] = set()
        for page in pages:
            for name in self._names(page, "repositories", Repository.parse):
                if name not in seen:
                    seen.add(name)
                    yield name

    def tags(self, repository: Repository) -> Sequence[Tag]:
        """List every tag once, none for an emptied repository; raise RepositoryUnknown."""

        def first(n: int | None) -> Request:
            return self._routes.tags(repository, n)

        found: dict[Tag, None] = {}
        for page in follow(self._conversation.ask, first, self._origin):
            if page.status == HTTPStatus.NOT_FOUND and self._is_listed(repository):
                break  # distribution 3 answers so for a repository that has lost its last tag
            if page.status != HTTPStatus.OK:
                what = f"repository {repository}"
                asked = Asked(self._origin, "GET", what, RepositoryUnknown, repository)
                raise refusal(page, asked)
            found.update(dict.fromkeys(self._names(page, "tags", Tag.parse)))
        return list(found)

    def _ask_catalog(self, request: Request) -> Answer:
        try:
            answer = self._conversation.ask(request)
        except RegistryUnauthorized as error:
            # Wrong credentials are refused everywhere: is it the catalog alone?
            self._conversation.ask(self._routes.ping())
            raise self._unsupported("status 401") from error
        if answer.status in _NO_CATALOG:
            raise self._unsupported(f"status {answer.status}")
        if answer.status not in {HTTPStatus.OK, HTTPStatus.BAD_REQUEST}:
            raise refusal(answer, self._asked_catalog())
        return answer

    def _asked_catalog(self) -> Asked:
        return Asked(self._origin, "GET", "catalog", CatalogUnsupported)

    def _unsupported(self, why: str) -> CatalogUnsupported:
        return CatalogUnsupported(
            f"{self._origin} offers no catalog, or not to the service's user: {why}. Nothing was "
            "changed. Repositories can be reached by their names all the same."
        )

    def _is_listed(self, repository: Repository) -> bool:
        """Tell whether the catalog names a repository, asking for the one place where it stands."""
        before = _just_before(repository)
        try:
            page = self._ask_catalog(self._routes.catalog(1, before))
            names = self._names(page, "repositories", Repository.parse)
            if names and _heeded(names[0], before):
                return repository in names
            return bool(names) and repository in self.repositories()
        except CatalogUnsupported:
            return False

    def _names(self, page: Answer, key: str, parse: Callable[[str], Name]) -> list[Name]:
        """Return the names of a page; those that no client could use are left out."""
        if page.status != HTTPStatus.OK:
            raise refusal(page, self._asked_catalog())
        document = document_of(page, self._origin, "a list of names")
        listed = document.get(key)
        # What is not there is not nothing: a deletion would take its manifests for untagged.
        if key not in document or not isinstance(listed, list | None):
            raise RegistryAnswerInvalid(
                f"{self._origin} answers no list as '{key}'. Nothing was changed."
            )
        return [name for text in listed or () if (name := _parsed(text, parse, self._origin))]


def _parsed(text: object, parse: Callable[[str], Name], origin: Origin) -> Name | None:
    try:
        if isinstance(text, str):
            return parse(text)
    except InvalidName:
        pass
    log.debug("left out of what %s lists: %s", origin, shown(str(text)))
    return None


def _just_before(repository: Repository) -> str:
    """Return the text that sorts right before a name: no name stands between them."""
    return f"{repository[:-1]}{chr(ord(repository[-1]) - 1)}~"


def _heeded(name: Repository, last: str) -> bool:
    """Tell whether a page began beyond ``last``; distribution sorts ``/`` before all else."""
    return name > last or name.replace("/", "\0") > last.replace("/", "\0")
