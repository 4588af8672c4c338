"""Repositories of a registry."""

from __future__ import annotations

from service.api import auth, context
from service.api.base import Answer, Blueprint
from service.api.fields import Flag, about, number, text
from service.api.openapi import UPSTREAM, Operation
from service.api.paging import Found, Options, PageOptions, page, page_of
from service.domain.errors import CatalogUnsupported, RepositoryUnknown
from service.domain.ports import Registry
from service.domain.reference import Repository

READ = "registry:read"
REPOSITORIES = "/v1/registries/<registry>/repositories"
REPOSITORY = REPOSITORIES + "/<anything:repository>"

blueprint = Blueprint("repositories", "What a registry holds, by repository.")


class RepositoryNameSchema(Answer):
    """A repository, by name alone."""

    name = text("The repository's name.", "library/alpine")


class RepositorySchema(Answer):
    """A repository."""

    name = text("The repository's name.", "library/alpine")
    tag_count = number("How many tags it has; 0 when it was emptied.", 3)


class RepositoriesOptions(PageOptions):
    """Which repositories."""

    include_empty = Flag(
        load_default=False, metadata=about("List those without any tag, too.", example=False)
    )


@blueprint.read(
    REPOSITORIES,
    Operation(
        "listRepositories",
        READ,
        page_of(RepositoryNameSchema, "RepositoryPage"),
        says="Repositories, sorted by name.",
        problems=(*UPSTREAM, CatalogUnsupported),
        headers=("Link",),
    ),
    RepositoriesOptions,
)
def list_repositories(options: Options, registry: Registry) -> Found:
    """List repositories.

    Those without tags are left out unless asked for, and those the token is not for, always.
    """
    reader, sees = context.reader(registry), auth.caller().sees_repository
    empty = options["include_empty"]

    def find(n: int, last: str | None) -> list[dict[str, str]]:
        names = reader.repositories(n, last, include_empty=empty, visible=sees)
        return [{"name": name} for name in names]

    return page(find, options, key=lambda found: found["name"])


@blueprint.read(
    REPOSITORY,
    Operation(
        "getRepository",
        READ,
        RepositorySchema,
        says="The repository.",
        problems=(*UPSTREAM, RepositoryUnknown),
    ),
)
def get_repository(registry: Registry, repository: Repository) -> dict[str, object]:
    """Get a repository."""
    return {"name": repository, "tag_count": context.reader(registry).tag_count(repository)}
