"""Every request this adapter makes of a registry, in one place.

Paths: OCI Distribution Specification 1.1, "Endpoints"; the catalog is distribution's own.
Scopes: https://distribution.github.io/distribution/spec/auth/scope/.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote

from service.adapters.registry.transport import Request
from service.domain.content import ACCEPTED, MANIFEST_LIMIT, OCI_INDEX, RawManifest
from service.domain.reference import Digest, Repository, Tag

PAGE_LIMIT = 16 * 1024 * 1024
"""Most bytes of a page of names; old registries list all tags of a repository in one."""

CATALOG_SCOPE = "registry:catalog:*"
ANY_MANIFEST = {"Accept": ", ".join(ACCEPTED)}
"""Sent always: without one of the types a registry converts, answers a child, or nothing."""


def pull(repository: Repository) -> str:
    """Return the scope for reading."""
    return f"repository:{repository}:pull"


class Routes:
    """Requests below a registry's base path, which is empty but behind some proxies."""

    def __init__(self, base_path: str = "") -> None:
        """Prefix every path with ``base_path``, which does not end in a slash."""
        self._base = f"{base_path}/v2"

    def ping(self) -> Request:
        """Ask whether this is a registry, and whether we are logged in."""
        return Request("GET", f"{self._base}/")

    def catalog(self, n: int | None, last: str | None = None) -> Request:
        """Ask for a page of repositories, beyond ``last``."""
        parameters = [f"n={n}"] if n else []
        parameters += [f"last={quote(last, safe='')}"] if last else []
        query = "?" + "&".join(parameters) if parameters else ""
        return Request("GET", f"{self._base}/_catalog{query}", CATALOG_SCOPE, limit=PAGE_LIMIT)

    def tags(self, repository: Repository, n: int | None) -> Request:
        """Ask for a page of tags."""
        query = f"?n={n}" if n else ""
        target = f"{self._base}/{repository}/tags/list{query}"
        return Request("GET", target, pull(repository), limit=PAGE_LIMIT)

    def manifest(
        self, repository: Repository, reference: Tag | Digest, method: Literal["GET", "HEAD"]
    ) -> Request:
        """Ask for a manifest, or for its digest alone."""
        target = self._manifest(repository, reference)
        return Request(method, target, pull(repository), ANY_MANIFEST, limit=MANIFEST_LIMIT)

    def put_manifest(
        self, repository: Repository, reference: Tag | Digest, manifest: RawManifest
    ) -> Request:
        """Put exact bytes."""
        return Request(
            "PUT",
            self._manifest(repository, reference),
            f"repository:{repository}:pull,push",
            {"Content-Type": manifest.media_type},
            manifest.body,
        )

    def delete(self, repository: Repository, reference: Tag | Digest) -> Request:
        """Delete a manifest, or where the registry can a tag."""
        scope = f"repository:{repository}:delete"
        return Request("DELETE", self._manifest(repository, reference), scope)

    def blob(self, repository: Repository, digest: Digest, limit: int) -> Request:
        """Ask for a blob of at most ``limit`` bytes."""
        target = f"{self._base}/{repository}/blobs/{digest}"
        return Request("GET", target, pull(repository), limit=limit)

    def first_byte(self, repository: Repository, digest: Digest) -> Request:
        """Ask for a blob's first byte, and read no more even where all of it comes."""
        target = f"{self._base}/{repository}/blobs/{digest}"
        headers = {"Range": "bytes=0-0"}
        return Request("GET", target, pull(repository), headers, limit=1, peek=True)

    def part(self, repository: Repository, digest: Digest, offset: int, length: int) -> Request:
        """Ask for ``length`` bytes of a blob from ``offset`` on."""
        target = f"{self._base}/{repository}/blobs/{digest}"
        headers = {"Range": f"bytes={offset}-{offset + length - 1}"}
        return Request("GET", target, pull(repository), headers, limit=length)

    def referrers(self, repository: Repository, digest: Digest) -> Request:
        """Ask for what refers to a manifest."""
        target = f"{self._base}/{repository}/referrers/{digest}"
        headers = {"Accept": OCI_INDEX}
        return Request("GET", target, pull(repository), headers, limit=MANIFEST_LIMIT)

    def _manifest(self, repository: Repository, reference: Tag | Digest) -> str:
        return f"{self._base}/{repository}/manifests/{reference}"
