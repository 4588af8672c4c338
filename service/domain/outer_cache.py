"""Making sure of the cache that a registry keeps outside of itself."""

from __future__ import annotations

from collections.abc import Iterator

from service.domain.content import Descriptor, parse_manifest
from service.domain.errors import CacheShared, CatalogUnsupported, Unknown
from service.domain.ports import BlobCache, Registry
from service.domain.reference import Repository


def require_filled_by(registry: Registry, cache: BlobCache) -> None:
    """Raise CacheShared where ``cache`` is not the one that the registry fills.

    The registry is asked for one blob, which it must know of then. One that holds none, or lists
    none, is taken at its word.
    """
    try:
        repository, blob = next(_blobs(registry), (None, None))
    except CatalogUnsupported:
        return
    if repository is None or blob is None:
        return
    registry.check_blob(repository, blob, deep=False)
    if not cache.holds(repository, blob.digest):
        raise CacheShared(
            f"The Redis at redis_url is not the one in which the registry '{registry.name}' caches "
            "what it knows of blobs, or another database of it: what the registry was asked for "
            "just now is not in it. Nothing was changed. Set redis_url to what the registry's own "
            "configuration has under redis."
        )


def _blobs(registry: Registry) -> Iterator[tuple[Repository, Descriptor]]:
    for repository in registry.repositories():
        for tag in registry.tags(repository):
            try:
                manifest = parse_manifest(registry.manifest(repository, tag))
            except Unknown:  # a dangling tag
                continue
            yield from ((repository, blob) for blob in manifest.blobs if not blob.is_foreign)
