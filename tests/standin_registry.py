"""A registry played over HTTP from a FakeRegistry's contents: distribution 2.8, 3.x and others."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

from service.domain.audit import Attempt, AuditTrail, Change
from service.domain.content import OCI_INDEX, RawManifest
from service.domain.errors import (
    DeletionDisabled,
    InvalidName,
    ManifestRefused,
    ManifestUnknown,
    RegistryReadOnly,
)
from service.domain.reference import Digest, Repository, Tag, parse_reference
from tests.fakes import Contents, FakeRegistry
from tests.fakes_store import FakeStore
from tests.standin import Reply, Seen, json_reply, oci_error, plain

API_VERSION = ("Docker-Distribution-Api-Version", "registry/2.0")
CATALOG_DEFAULT = 100
CATALOG_MOST = 1000


@dataclass(frozen=True)
class Manners:
    """How a registry words things. The defaults are distribution 2.8's."""

    pages_tags: bool = False
    emptied: str = "null"
    """An emptied repository's tags: ``null``, ``[]`` or ``404``."""
    catalog_most: int = CATALOG_MOST
    absolute_links: bool = False


V2_MANNERS = Manners()
V3_MANNERS = Manners(pages_tags=True, emptied="404")


def change() -> Change:
    return AuditTrail(FakeStore().audit).begin(Attempt("play", "registry"))


class PlayedRegistry:
    """Answers requests out of ``fake``, with the checks and behaviour of that."""

    def __init__(self, fake: FakeRegistry, manners: Manners = V2_MANNERS) -> None:
        self.fake = fake
        self.manners = manners
        self._writer = fake.writer(change())
        self._routes: list[tuple[re.Pattern[str], Callable[[Seen, str, str], Reply]]] = [
            (re.compile(r"/v2/()()"), lambda *_: Reply(200, [API_VERSION], b"{}")),
            (re.compile(r"/v2/_catalog()()"), self._catalog),
            (re.compile(r"/v2/(.+)/tags/list()"), self._tags),
            (re.compile(r"/v2/(.+)/manifests/([^/]+)"), self._manifest),
            (re.compile(r"/v2/(.+)/blobs/([^/]+)"), self._blob),
            (re.compile(r"/v2/(.+)/referrers/([^/]+)"), self._referrers),
        ]

    def __call__(self, seen: Seen) -> Reply:
        for pattern, play in self._routes:
            match = pattern.fullmatch(seen.path)
            if match:
                return play(seen, match[1], match[2])
        return plain(404, "404 page not found\n")

    def _contents(self, repository: str) -> Contents | None:
        return self.fake.contents.get(Repository(repository))

    def _catalog(self, seen: Seen, _repository: str, _reference: str) -> Reply:
        if not self.fake.behaviour.catalog:
            return oci_error(401, "UNAUTHORIZED")
        n = int(seen.query.get("n", min(CATALOG_DEFAULT, self.manners.catalog_most)))
        if n > self.manners.catalog_most:
            return oci_error(400, "PAGINATION_NUMBER_INVALID")
        names = sorted(self.fake.contents, key=lambda name: name.replace("/", "\0"))
        last = seen.query.get("last", "").replace("/", "\0")
        after = [name for name in names if name.replace("/", "\0") > last]
        return self._page(seen, "repositories", after, n)

    def _tags(self, seen: Seen, repository: str, _reference: str) -> Reply:
        contents = self._contents(repository)
        if contents is None:
            return oci_error(404, "NAME_UNKNOWN")
        if not contents.tags and self.manners.emptied == "404":
            return oci_error(404, "NAME_UNKNOWN")
        if not contents.tags:
            return json_reply({"name": repository, "tags": json.loads(self.manners.emptied)})
        if not self.manners.pages_tags:
            return json_reply({"name": repository, "tags": list(reversed(contents.tags))})
        names = [tag for tag in sorted(contents.tags) if tag > seen.query.get("last", "")]
        return self._page(seen, "tags", names, int(seen.query.get("n", CATALOG_MOST)))

    def _page(self, seen: Seen, key: str, names: Sequence[str], n: int) -> Reply:
        reply = json_reply({key: list(names[:n])})
        if len(names) <= n:
            return reply
        target = f"{seen.path}?{urlencode({'last': names[n - 1], 'n': n})}"
        host = f"http://{seen.headers['host']}" if self.manners.absolute_links else ""
        link = ("Link", f'<{host}{target}>; rel="next"')
        return Reply(200, [*reply.headers, link], reply.body)

    def _manifest(self, seen: Seen, repository: str, reference: str) -> Reply:
        try:
            name, parsed = Repository.parse(repository), parse_reference(reference)
        except InvalidName:
            return oci_error(400, "NAME_INVALID")
        if seen.method in {"GET", "HEAD"}:
            return self._get(name, parsed)
        if self.fake.behaviour.read_only:
            return plain(405, "405 method not allowed\n")
        return self._put(seen, name, parsed) if seen.method == "PUT" else self._delete(name, parsed)

    def _get(self, repository: Repository, reference: Tag | Digest) -> Reply:
        try:
            raw = self.fake.manifest(repository, reference)
        except ManifestUnknown:
            return oci_error(404, "MANIFEST_UNKNOWN")
        headers = [
            ("Content-Type", raw.media_type),
            ("Docker-Content-Digest", raw.digest),
            ("ETag", f'"{raw.digest}"'),
            API_VERSION,
        ]
        return Reply(200, headers, raw.body)

    def _put(self, seen: Seen, repository: Repository, reference: Tag | Digest) -> Reply:
        digest = Digest.of(seen.body)
        raw = RawManifest(digest, seen.headers["content-type"], seen.body)
        try:
            self._writer.put_manifest(repository, reference, raw)
        except ManifestRefused:
            return oci_error(400, "MANIFEST_BLOB_UNKNOWN")
        return Reply(201, [("Docker-Content-Digest", digest)])

    def _delete(self, repository: Repository, reference: Tag | Digest) -> Reply:
        if isinstance(reference, Tag):
            return self._untag(repository, reference)
        try:
            contents = self.fake.contents.get(repository, Contents())
            known = reference in contents.manifests
            self._writer.delete_manifest(repository, reference)
        except DeletionDisabled:
            return oci_error(405, "UNSUPPORTED")
        except RegistryReadOnly:
            return plain(405, "405 method not allowed\n")
        return Reply(202) if known else oci_error(404, "MANIFEST_UNKNOWN")

    def _untag(self, repository: Repository, tag: Tag) -> Reply:
        if self._writer.delete_tag(repository, tag):
            return Reply(202)
        if self.fake.behaviour.delete_by_tag:
            return oci_error(405, "UNSUPPORTED")
        return oci_error(400, "DIGEST_INVALID")

    def _blob(self, seen: Seen, repository: str, digest: str) -> Reply:
        contents = self._contents(repository)
        body = contents.blobs.get(Digest(digest)) if contents else None
        if contents and digest in contents.vouched:
            # Its length is in the registry's cache, its bytes are nowhere.
            return Reply(200, [("Content-Type", "application/octet-stream")], length=7)
        if body is None:
            return oci_error(404, "BLOB_UNKNOWN")
        headers = [("Content-Type", "application/octet-stream"), ("Docker-Content-Digest", digest)]
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", seen.headers.get("range", ""))
        if wanted is None:
            return Reply(200, headers, body)
        first, last = int(wanted[1]), min(int(wanted[2]), len(body) - 1)
        if first > last:
            return Reply(416, headers)
        told = ("Content-Range", f"bytes {first}-{last}/{len(body)}")
        return Reply(206, [*headers, told], body[first : last + 1])

    def _referrers(self, _seen: Seen, repository: str, digest: str) -> Reply:
        found = self.fake.referrers(Repository(repository), Digest(digest))
        if found is None:
            return plain(404, "404 page not found\n")
        manifests = [
            {
                "mediaType": each.media_type,
                "digest": each.digest,
                "size": each.size,
                "artifactType": each.artifact_type,
                "annotations": dict(each.annotations),
            }
            for each in found
        ]
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
        return Reply(200, [("Content-Type", OCI_INDEX)], json.dumps(document).encode())


@dataclass
class TokenServer:
    """Plays a token server, and guards a registry with the tokens it gives.

    ``field`` and ``lifetime`` are how it words a token; ``scheme`` and ``quote`` how the guard
    words its challenge. ``users`` may have tokens; without any, everybody may.
    """

    realm: str = ""
    service: str = "registry.test"
    token_field: str = "token"
    lifetime: int | None = 300
    scheme: str = "Bearer"
    quoted_realm: bool = True
    names_scope: bool = True
    users: dict[str, str] = field(default_factory=dict)
    refresh_tokens: set[str] = field(default_factory=set)
    allowed: set[str] | None = None
    """Scopes that are granted, None for all."""
    tokens: dict[str, str] = field(default_factory=dict)
    issued: int = 0

    def __call__(self, seen: Seen) -> Reply:
        """Answer as the token server."""
        query = seen.query
        if seen.method == "POST":
            query = dict(Seen("", "?" + seen.body.decode(), {}, b"", 0).query)
            if query.get("refresh_token") not in self.refresh_tokens:
                return json_reply({"error": "invalid_grant"}, 401)
        elif self.users and not self._knows(seen.headers.get("authorization", "")):
            return json_reply({"details": "incorrect username or password"}, 401)
        self.issued += 1
        token = f"token-{self.issued}"
        self.tokens[token] = query.get("scope", "")
        lifetime = {} if self.lifetime is None else {"expires_in": self.lifetime}
        return json_reply({self.token_field: token, **lifetime})

    def guard(self, registry: Callable[[Seen], Reply]) -> Callable[[Seen], Reply]:
        """Let requests to ``registry`` pass that carry a token for what they need."""

        def play(seen: Seen) -> Reply:
            needed = scope_of(seen)
            token = seen.headers.get("authorization", "").removeprefix("Bearer ")
            granted = self.tokens.get(token)
            if granted is None or not self._covers(granted, needed):
                return self._challenge(needed, insufficient=granted is not None)
            return registry(seen)

        return play

    def _covers(self, granted: str, needed: str) -> bool:
        if self.allowed is not None and needed not in self.allowed:
            return not needed
        return not needed or needed in granted.split()

    def _challenge(self, needed: str, *, insufficient: bool) -> Reply:
        realm = f'"{self.realm}"' if self.quoted_realm else self.realm
        words = [f"realm={realm}", f'service="{self.service}"']
        words += [f'scope="{needed}"'] if needed and self.names_scope else []
        words += ['error="insufficient_scope"'] if insufficient else []
        reply = oci_error(401, "UNAUTHORIZED")
        value = f"{self.scheme} {','.join(words)}"
        return Reply(401, [*reply.headers, ("WWW-Authenticate", value)], reply.body)

    def _knows(self, authorization: str) -> bool:
        user, _, password = _basic(authorization).partition(":")
        return bool(user) and self.users.get(user) == password


def _basic(authorization: str) -> str:
    return base64.b64decode(authorization.removeprefix("Basic ")).decode()


def basic_guard(
    user: str, password: str, registry: Callable[[Seen], Reply], challenge: str = 'Basic realm="r"'
) -> Callable[[Seen], Reply]:
    """Let requests pass that carry this password."""

    def play(seen: Seen) -> Reply:
        if _basic(seen.headers.get("authorization", "")) == f"{user}:{password}":
            return registry(seen)
        reply = oci_error(401, "UNAUTHORIZED")
        return Reply(401, [*reply.headers, ("WWW-Authenticate", challenge)], reply.body)

    return play


def scope_of(seen: Seen) -> str:
    """What distribution wants a token to allow for a request."""
    if seen.path == "/v2/_catalog":
        return "registry:catalog:*"
    match = re.fullmatch(r"/v2/(.+)/(?:tags|manifests|blobs|referrers)/.+", seen.path)
    if not match:
        return ""
    actions = {"PUT": "pull,push", "DELETE": "delete"}.get(seen.method, "pull")
    return f"repository:{match[1]}:{actions}"
