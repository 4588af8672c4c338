"""Whether untagged manifests may be collected: before 3.0 that breaks tagged indexes."""

from __future__ import annotations

from service.domain.collectable import untagged_is_safe
from service.domain.concurrency import spread
from service.domain.content import parse_manifest
from service.domain.errors import DeleteUntaggedUnsafe, ManifestUnknown, RepositoryUnknown
from service.domain.ports import Registry
from service.domain.reference import Digest, Repository
from service.domain.survey import resolve_all


def require_untagged_safe(registry: Registry, version: str | None) -> None:
    """Raise DeleteUntaggedUnsafe when the version would remove the children of tagged indexes."""
    if untagged_is_safe(version):
        return
    holding = [name for name in sorted(registry.repositories()) if _holds_index(registry, name)]
    if holding:
        raise DeleteUntaggedUnsafe(
            f"Registry {version or 'of unknown version'} removes the children of tagged indexes "
            f"with delete_untagged, and {len(holding)} repositories hold an index. Nothing was "
            "changed. Collect without delete_untagged, or upgrade the registry to 3.0 or later.",
            {"repositories": holding},
        )


def _holds_index(registry: Registry, repository: Repository) -> bool:
    try:
        targets = set(filter(None, resolve_all(registry, repository).values()))
    except RepositoryUnknown:
        return False

    def is_index(digest: Digest) -> bool:
        try:
            return parse_manifest(registry.content(repository, digest)).is_index
        except ManifestUnknown:
            return False

    return any(spread(is_index, sorted(targets)))
