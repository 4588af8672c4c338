"""Changing a registry, under an audited change; nothing is sent twice."""

from __future__ import annotations

from http import HTTPStatus

from service.adapters.registry.answers import UNSUPPORTED, Asked, error_codes, refusal
from service.adapters.registry.conversation import Conversation
from service.adapters.registry.manifests import named
from service.adapters.registry.routes import Routes
from service.domain.audit import Change
from service.domain.content import SCHEMA1_TYPES, RawManifest
from service.domain.errors import ManifestUnknown, RegistryAnswerInvalid
from service.domain.reference import Digest, Repository, Tag

_CANNOT_UNTAG = frozenset({UNSUPPORTED, "DIGEST_INVALID", "TAG_INVALID"})


class HttpRegistryWriter:
    """The RegistryWriter port over HTTP."""

    def __init__(self, conversation: Conversation, routes: Routes, change: Change) -> None:
        """Write as long as ``change`` is open."""
        self._conversation = conversation
        self._routes = routes
        self._change = change

    def put_manifest(
        self, repository: Repository, reference: Tag | Digest, manifest: RawManifest
    ) -> None:
        """Put exact bytes; raise ManifestRefused, RegistryReadOnly, RegistryAnswerInvalid."""
        self._change.require_open()
        request = self._routes.put_manifest(repository, reference, manifest)
        answer = self._conversation.ask(request)
        if answer.status != HTTPStatus.CREATED:
            raise refusal(answer, self._asked("PUT", repository, reference))
        stored = answer.headers.get("Docker-Content-Digest", manifest.digest)
        if stored != manifest.digest and manifest.media_type not in SCHEMA1_TYPES:
            raise RegistryAnswerInvalid(
                f"{self._conversation.origin} took the manifest {manifest.digest} and names it "
                "by another digest. Look at what it has stored before going on."
            )

    def delete_manifest(self, repository: Repository, digest: Digest) -> None:
        """Delete a manifest and every tag on it, gone already or not.

        Raise DeletionDisabled or RegistryReadOnly.
        """
        self._change.require_open()
        answer = self._conversation.ask(self._routes.delete(repository, digest))
        if not answer.succeeded and answer.status != HTTPStatus.NOT_FOUND:
            raise refusal(answer, self._asked("DELETE", repository, digest))

    def delete_tag(self, repository: Repository, tag: Tag) -> bool:
        """Delete a tag alone; False, nothing changed, where the registry wants a digest.

        Distribution does it from 3.0 on. Before, and where deletion is off, it says
        DIGEST_INVALID or UNSUPPORTED. Raise RegistryReadOnly.
        """
        self._change.require_open()
        answer = self._conversation.ask(self._routes.delete(repository, tag))
        if answer.succeeded or answer.status == HTTPStatus.NOT_FOUND:
            return True
        refused = answer.status in {HTTPStatus.BAD_REQUEST, HTTPStatus.METHOD_NOT_ALLOWED}
        if refused and error_codes(answer) & _CANNOT_UNTAG:
            return False
        raise refusal(answer, self._asked("DELETE", repository, tag))

    def _asked(self, method: str, repository: Repository, reference: Tag | Digest) -> Asked:
        what = f"manifest {named(repository, reference)}"
        return Asked(self._conversation.origin, method, what, ManifestUnknown)
