"""The steps that change a registry during a deletion. Each may run twice without harm.

A registry before 3.0 cannot delete a tag alone. There the tag is first pointed at a unique
placeholder, an empty manifest list that needs no blob, and the placeholder is then deleted by
its digest, which takes the tag with it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping

from service.domain.audit import Change
from service.domain.content import DOCKER_LIST, RawManifest
from service.domain.deletion_record import Deletion, RemovedTag
from service.domain.errors import (
    DeletionDisabled,
    DigestMismatch,
    ManifestUnknown,
    RegistryAdminError,
    RegistryReadOnly,
    RepositoryUnknown,
)
from service.domain.ports import Registry, Writability
from service.domain.reference import Digest, Repository, Tag

PLACEHOLDER_ANNOTATION = "registry-admin.placeholder"

log = logging.getLogger(__name__)


def placeholder(deletion_id: str, tag: Tag) -> RawManifest:
    """Make the manifest that stands in for a tag while it is removed; unique, and recomputable.

    Registries 2.3 to 2.8 accept a manifest list without children.
    """
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_LIST,
        "manifests": [],
        "annotations": {PLACEHOLDER_ANNOTATION: f"{deletion_id}/{tag}"},
    }
    body = json.dumps(document, separators=(",", ":")).encode()
    return RawManifest(Digest.of(body), DOCKER_LIST, body)


def require_writable(registry: Registry, repository: Repository) -> Writability:
    """Raise RegistryReadOnly where nothing can be pushed."""
    found = registry.writability(repository)
    if found.read_only:
        raise RegistryReadOnly(
            f"The registry '{registry.name}' is read-only (storage maintenance). Nothing was "
            "changed. Try again when its maintenance has ended."
        )
    return found


def require_deletable(registry: Registry, repository: Repository) -> None:
    """Raise RegistryReadOnly or DeletionDisabled, before anything is changed."""
    if require_writable(registry, repository).delete_enabled is False:
        raise DeletionDisabled(
            f"The registry '{registry.name}' runs with deletion disabled. Nothing was changed. "
            "Enable it by the environment variable REGISTRY_STORAGE_DELETE_ENABLED=true of its "
            "container, or by 'storage: {delete: {enabled: true}}' in its configuration file, "
            "and restart it."
        )


class Steps:
    """Carries the steps of one deletion out, looking before each."""

    def __init__(self, registry: Registry, change: Change, deletion: Deletion) -> None:
        """Work on ``registry`` under ``change``."""
        self.changed = False
        """True once the registry has accepted a change."""
        self.moved: set[Tag] = set()
        """Tags found on another manifest than planned, and left there."""
        self._registry = registry
        self._writer = registry.writer(change)
        self._deletion = deletion
        self._repository = deletion.repository

    def untag(self, tags: Iterable[RemovedTag]) -> None:
        """Take tags off their manifests, which stay; leave those that have moved.

        Raise DigestMismatch when the first one has moved and nothing was changed yet.
        """
        for removed in tags:
            current = self._target(removed.tag)
            if current is None and removed.tag not in self._listed():
                continue  # gone already
            if current == removed.digest:
                self._untag(removed)
            elif current is not None:
                self._leave(removed.tag, current)

    def remove(self, manifests: Iterable[Digest]) -> None:
        """Delete manifests, in order."""
        for digest in manifests:
            self._writer.delete_manifest(self._repository, digest)
            self.changed = True

    def untag_leftovers(self, tags: Iterable[RemovedTag]) -> None:
        """Remove tags that should have gone with their manifests: old registries leave them."""
        left = self._listed()
        for removed in tags:
            if removed.tag not in left:
                continue
            current = self._target(removed.tag)
            if current in {None, removed.digest}:
                self._untag(RemovedTag(removed.tag, current))
            else:
                self.moved.add(removed.tag)

    def remove_placeholders(self, tags: Mapping[Tag, Digest | None]) -> None:
        """Finish tags that a dead process left on their placeholder."""
        for removed in self._deletion.tags:
            stand_in = placeholder(self._deletion.id, removed.tag)
            if tags.get(removed.tag) == stand_in.digest:
                self.remove([stand_in.digest])

    def _leave(self, tag: Tag, current: Digest) -> None:
        if not self.changed:
            raise DigestMismatch(
                f"The tag '{tag}' moved to {current} while it was being deleted. Nothing was "
                "changed. Look at it again and repeat the request.",
                {"current": current},
            )
        self.moved.add(tag)

    def _target(self, tag: Tag) -> Digest | None:
        try:
            return self._registry.resolve(self._repository, tag)
        except (ManifestUnknown, RepositoryUnknown):
            return None

    def _listed(self) -> set[Tag]:
        try:
            return set(self._registry.tags(self._repository))
        except RepositoryUnknown:
            return set()

    def _untag(self, removed: RemovedTag) -> None:
        if not self._writer.delete_tag(self._repository, removed.tag):
            self._untag_by_placeholder(removed)
        self.changed = True

    def _untag_by_placeholder(self, removed: RemovedTag) -> None:
        self._require_certain()
        stand_in = placeholder(self._deletion.id, removed.tag)
        self._writer.put_manifest(self._repository, removed.tag, stand_in)
        changed_before, self.changed = self.changed, True
        try:
            self._writer.delete_manifest(self._repository, stand_in.digest)
        except RegistryAdminError:
            if self._put_back(removed):
                self.changed = changed_before
            raise

    def _require_certain(self) -> None:
        # With deletion off the tag would stay on its placeholder.
        if not self._registry.writability(self._repository).delete_enabled:
            raise DeletionDisabled(
                f"The registry '{self._registry.name}' cannot delete a tag alone, and does not "
                "tell whether deletion is enabled. The tag was left as it was. Delete the "
                "manifest with all its tags instead, or enable deletion in its configuration."
            )

    def _put_back(self, removed: RemovedTag) -> bool:
        """Point the tag at its manifest again, at once; tell whether that is done.

        Where it is not, whoever recovers the deletion removes the placeholder.
        """
        bodies = (*self._deletion.manifests, *self._deletion.supports)
        original = next((raw for raw in bodies if raw.digest == removed.digest), None)
        if original is None:
            return False
        try:
            self._writer.put_manifest(self._repository, removed.tag, original)
        except RegistryAdminError as error:
            log.warning("tag %s is left on its placeholder for now: %s", removed.tag, error)
            return False
        return True
