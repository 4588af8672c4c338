"""Real, valid, deterministic container images, built in memory and pushed over HTTP.

The same arguments give the same bytes, hence the same digests, on one machine.
"""

import base64
import gzip
import hashlib
import io
import json
import platform
import struct
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Self
from urllib.parse import urljoin

import requests

CREATED = "2024-05-01T12:00:00Z"
TIMEOUT = (5, 30)  # seconds to connect, and between two bytes
BUSYBOX = Path("/bin/busybox")
HOST_ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "unknown")

PT_INTERP = 3  # the program header of ELF that names a loader

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
IN_TOTO = "application/vnd.in-toto+json"
EMPTY_CONFIG = "application/vnd.oci.empty.v1+json"


@dataclass(frozen=True)
class Flavour:
    """The media types of one family of manifests."""

    manifest: str
    index: str
    config: str
    layer: str
    foreign_layer: str


DOCKER = Flavour(
    manifest="application/vnd.docker.distribution.manifest.v2+json",
    index="application/vnd.docker.distribution.manifest.list.v2+json",
    config="application/vnd.docker.container.image.v1+json",
    layer="application/vnd.docker.image.rootfs.diff.tar.gzip",
    foreign_layer="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
)
OCI = Flavour(
    manifest="application/vnd.oci.image.manifest.v1+json",
    index="application/vnd.oci.image.index.v1+json",
    config="application/vnd.oci.image.config.v1+json",
    layer="application/vnd.oci.image.layer.v1.tar+gzip",
    foreign_layer="application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
)


@dataclass(frozen=True)
class Platform:
    """What an image runs on."""

    architecture: str
    os: str = "linux"
    variant: str | None = None

    def as_json(self) -> dict[str, str]:
        """Give the members an index's descriptor and a config use."""
        members = {"architecture": self.architecture, "os": self.os}
        return members | ({"variant": self.variant} if self.variant else {})


AMD64 = Platform("amd64")
ARM64 = Platform("arm64", variant="v8")
ARM_V7 = Platform("arm", variant="v7")
NO_PLATFORM = Platform("unknown", os="unknown")


def digest_of(content: bytes) -> str:
    """Give `sha256:<64 hex>` of the bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def canonical(document: Mapping[str, Any]) -> bytes:
    """Give the JSON bytes this module pushes for a document."""
    return json.dumps(document, indent=2).encode()


def descriptor(media_type: str, content: bytes, **members: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Describe the bytes as a manifest refers to them; members that are None are left out."""
    known = {"mediaType": media_type, "size": len(content), "digest": digest_of(content)}
    return known | {name: value for name, value in members.items() if value is not None}


@dataclass(frozen=True)
class Layer:
    """A gzipped tar; `urls` makes it a foreign one, which is never pushed."""

    content: bytes
    diff_id: str
    created_by: str
    urls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """A manifest's exact bytes, with the blobs and manifests that must be there before it."""

    media_type: str
    body: bytes
    blobs: tuple[bytes, ...] = ()
    children: tuple["Manifest", ...] = ()
    platform: Platform | None = None

    @cached_property
    def digest(self) -> str:
        """The digest a registry gives it."""
        return digest_of(self.body)

    @property
    def size(self) -> int:
        """Bytes of the manifest and all it needs, each blob and child once."""
        parts = {digest_of(blob): len(blob) for blob in self.blobs}
        return len(self.body) + sum(parts.values()) + sum(child.size for child in self.children)

    def describe(self, **members: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """Give the descriptor an index or a `subject` holds for it."""
        return descriptor(self.media_type, self.body, **members)


def layer(files: Mapping[str, bytes | str], created_by: str = "COPY . /") -> Layer:
    """Pack files by path: bytes are an executable file's content, text is a link's target."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                archive.addfile(entry)
            else:
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    packed = gzip.compress(buffer.getvalue(), compresslevel=6, mtime=0)
    return Layer(packed, digest_of(buffer.getvalue()), created_by)


def foreign_layer(url: str = "https://layers.example/base.tar.gz") -> Layer:
    """Make a layer that clients fetch elsewhere (Windows base images have such)."""
    content = layer({"base.txt": b"kept elsewhere\n"}, created_by="Apply image base")
    return Layer(content.content, content.diff_id, content.created_by, urls=(url,))


@cache
def base_layer(architecture: str = "amd64") -> Layer:
    """Give the layer that images of one architecture share, with busybox where it would run."""
    if architecture == HOST_ARCHITECTURE and is_static(BUSYBOX):
        files: dict[str, bytes | str] = {"bin/busybox": BUSYBOX.read_bytes(), "bin/sh": "busybox"}
        return layer(files, created_by="ADD busybox /")
    return layer({"etc/architecture": f"{architecture}\n".encode()}, created_by="ADD base /")


def is_static(program: Path) -> bool:
    """Tell whether the file is an ELF program that needs no loader, so runs in an empty root."""
    content = program.read_bytes() if program.is_file() else b""
    if content[:5] != b"\x7fELF\x02":
        return False
    table, size, count = struct.unpack_from("<32xQ14xHH", content)
    kinds = [struct.unpack_from("<I", content, table + size * row)[0] for row in range(count)]
    return PT_INTERP not in kinds


def image(  # noqa: PLR0913 - an image's parts, each with its usual value
    layers: Sequence[Layer],
    *,
    flavour: Flavour = OCI,
    platform: Platform = AMD64,
    created: str = CREATED,
    settings: Mapping[str, Any] | None = None,
    annotations: Mapping[str, str] | None = None,
    subject: Manifest | None = None,
) -> Manifest:
    """Build an image; `settings` are the config's own members (Env, Entrypoint, Labels...)."""
    config = image_config(layers, platform, created, settings or {})
    media_types = {False: flavour.layer, True: flavour.foreign_layer}
    document = {
        "schemaVersion": 2,
        "mediaType": flavour.manifest,
        "config": descriptor(flavour.config, config),
        "layers": [
            descriptor(media_types[bool(one.urls)], one.content, urls=list(one.urls) or None)
            for one in layers
        ],
    }
    if annotations is not None:
        document["annotations"] = dict(annotations)
    if subject is not None:
        document["subject"] = subject.describe()
    blobs = (config, *(one.content for one in layers if not one.urls))
    return Manifest(flavour.manifest, canonical(document), blobs, platform=platform)


def image_config(
    layers: Sequence[Layer], platform: Platform, created: str, settings: Mapping[str, Any]
) -> bytes:
    """Build the config; an empty step stands between the layers, as a Dockerfile's CMD does."""
    steps: list[dict[str, Any]] = [
        {"created": created, "created_by": one.created_by} for one in layers
    ]
    steps.insert(1, {"created": created, "created_by": 'CMD ["sh"]', "empty_layer": True})
    members = platform.as_json() | {
        "created": created,
        "config": dict(settings),
        "rootfs": {"type": "layers", "diff_ids": [one.diff_id for one in layers]},
        "history": steps,
    }
    return canonical(members)


def sample(
    text: str, *, flavour: Flavour = OCI, platform: Platform = AMD64, created: str = CREATED
) -> Manifest:
    """Build an image with a full config, on the shared base, that differs by its text."""
    own = layer({"etc/motd": f"{text}\n".encode()}, created_by=f"RUN echo {text} > /etc/motd")
    settings = {
        "User": "1000:1000",
        "Env": ["PATH=/bin", "LANG=C.UTF-8"],
        "Entrypoint": ["/bin/busybox"],
        "Cmd": ["cat", "/etc/motd"],
        "WorkingDir": "/etc",
        "ExposedPorts": {"8080/tcp": {}},
        "Labels": {"org.opencontainers.image.title": text},
    }
    layers = [base_layer(platform.architecture), own]
    return image(layers, flavour=flavour, platform=platform, created=created, settings=settings)


def index(
    children: Sequence[Manifest],
    *,
    flavour: Flavour = OCI,
    annotations: Mapping[str, str] | None = None,
    attested: bool = False,
) -> Manifest:
    """Build an OCI index or a Docker manifest list; `attested` adds what buildx adds to it."""
    attestations = [attestation(child) for child in children] if attested else []
    rows = [child.describe(platform=platform_of(child)) for child in children]
    for child, statement in zip(children, attestations, strict=False):
        notes = {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": child.digest,
        }
        rows.append(statement.describe(annotations=notes, platform=NO_PLATFORM.as_json()))
    document: dict[str, Any] = {"schemaVersion": 2, "mediaType": flavour.index, "manifests": rows}
    if annotations is not None:
        document["annotations"] = dict(annotations)
    return Manifest(flavour.index, canonical(document), children=(*children, *attestations))


def platform_of(child: Manifest) -> dict[str, str] | None:
    """Give the platform as an index says it; a nested index has none."""
    return child.platform.as_json() if child.platform else None


def multi_arch(text: str, *, flavour: Flavour = OCI, attested: bool = False) -> Manifest:
    """Build an index of one sample image for amd64, arm64 and arm/v7."""
    children = [
        sample(f"{text} {one.architecture}", flavour=flavour, platform=one)
        for one in (AMD64, ARM64, ARM_V7)
    ]
    return index(children, flavour=flavour, attested=attested)


def attestation(target: Manifest) -> Manifest:
    """Build the attestation manifest buildx puts beside an image."""
    statement = canonical({"_type": "https://in-toto.io/Statement/v0.1", "subject": target.digest})
    config = image_config([Layer(statement, digest_of(statement), "")], NO_PLATFORM, CREATED, {})
    document = {
        "schemaVersion": 2,
        "mediaType": OCI.manifest,
        "config": descriptor(OCI.config, config),
        "layers": [descriptor(IN_TOTO, statement)],
    }
    return Manifest(OCI.manifest, canonical(document), (config, statement), platform=NO_PLATFORM)


def artifact(
    content: bytes,
    *,
    artifact_type: str = "application/vnd.example.sbom.v1+json",
    media_type: str = "application/octet-stream",
    subject: Manifest | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Manifest:
    """Build what is no image: an artifact type, the empty config, one layer of anything."""
    empty = b"{}"
    document = {
        "schemaVersion": 2,
        "mediaType": OCI.manifest,
        "artifactType": artifact_type,
        "config": descriptor(EMPTY_CONFIG, empty),
        "layers": [descriptor(media_type, content)],
    }
    if annotations is not None:
        document["annotations"] = dict(annotations)
    if subject is not None:
        document["subject"] = subject.describe()
    return Manifest(OCI.manifest, canonical(document), (empty, content))


def signature(target: Manifest, reference: str = "example.test/app") -> Manifest:
    """Build a signature shaped as cosign's; push it with the tag `cosign_tag(target)`."""
    payload = canonical(
        {
            "critical": {
                "identity": {"docker-reference": reference},
                "image": {"docker-manifest-digest": target.digest},
                "type": "cosign container image signature",
            },
            "optional": None,
        }
    )
    config = image_config(
        [Layer(payload, digest_of(payload), "")], Platform("", os=""), "0001-01-01T00:00:00Z", {}
    )
    signed = base64.b64encode(hashlib.sha256(payload).digest()).decode()
    notes = {"dev.cosignproject.cosign/signature": signed}
    document = {
        "schemaVersion": 2,
        "mediaType": OCI.manifest,
        "config": descriptor(OCI.config, config),
        "layers": [descriptor(SIMPLE_SIGNING, payload, annotations=notes)],
    }
    return Manifest(OCI.manifest, canonical(document), (config, payload))


def cosign_tag(target: Manifest, kind: str = "sig") -> str:
    """Name the tag cosign gives a signature (`sig`), attestation (`att`) or `sbom`."""
    return f"{fallback_tag(target)}.{kind}"


def fallback_tag(target: Manifest) -> str:
    """Name the tag that lists the referrers where a registry has no referrers API."""
    return target.digest.replace(":", "-")


def referrers_index(referrers: Sequence[Manifest]) -> Manifest:
    """Build the index that belongs at `fallback_tag` of the subject."""
    rows = []
    for one in referrers:
        document = json.loads(one.body)
        artifact_type = document.get("artifactType") or document["config"]["mediaType"]
        notes = document.get("annotations")
        rows.append(one.describe(artifactType=artifact_type, annotations=notes))
    body = canonical({"schemaVersion": 2, "mediaType": OCI.index, "manifests": rows})
    return Manifest(OCI.index, body, children=tuple(referrers))


@dataclass
class Pusher:
    """Pushes to one registry over kept connections; not to be shared between threads."""

    base_url: str
    auth: tuple[str, str] | None = None
    verify: bool | str = True
    cert: tuple[str, str] | None = None
    session: requests.Session = field(default_factory=requests.Session, repr=False)
    homes: dict[str, list[str]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.session.trust_env = False  # neither proxies nor credentials of the machine
        self.session.auth = self.auth
        self.session.verify = self.verify
        self.session.cert = self.cert

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def push(self, repository: str, manifest: Manifest, *tags: str) -> str:
        """Push a manifest with all it needs, by its tags or else its digest; give the digest."""
        for blob in manifest.blobs:
            self.blob(repository, blob)
        for child in manifest.children:
            self.push(repository, child)
        for reference in tags or (manifest.digest,):
            self.manifest(repository, reference, manifest.media_type, manifest.body)
        return manifest.digest

    def blob(self, repository: str, content: bytes) -> str:
        """Push a blob unless this pusher has; mounts it from a repository that has it."""
        digest = digest_of(content)
        homes = self.homes.setdefault(digest, [])
        if repository not in homes:
            self._upload(repository, digest, content, homes[0] if homes else None)
            homes.append(repository)
        return digest

    def manifest(self, repository: str, reference: str, media_type: str, body: bytes) -> str:
        """Push a manifest alone; gives its digest, raises `requests.HTTPError` when refused."""
        path = f"/v2/{repository}/manifests/{reference}"
        self._send("PUT", path, data=body, headers={"Content-Type": media_type})
        return digest_of(body)

    def delete(self, repository: str, digest: str) -> None:
        """Delete a manifest by digest, with every tag on it."""
        self._send("DELETE", f"/v2/{repository}/manifests/{digest}")

    def _upload(self, repository: str, digest: str, content: bytes, home: str | None) -> None:
        mount = {"mount": digest, "from": home} if home else {}
        begun = self._send("POST", f"/v2/{repository}/blobs/uploads/", params=mount)
        if begun.status_code != requests.codes.created:
            headers = {"Content-Type": "application/octet-stream"}
            place = begun.headers["Location"]
            self._send("PUT", place, params={"digest": digest}, data=content, headers=headers)

    def _send(self, method: str, path: str, **options: Any) -> requests.Response:  # noqa: ANN401
        url = urljoin(self.base_url, path)
        answer = self.session.request(method, url, timeout=TIMEOUT, **options)
        answer.raise_for_status()
        return answer
