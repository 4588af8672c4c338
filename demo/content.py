"""What the demonstration registry holds."""

from demo import images
from demo.images import DOCKER, Manifest, Pusher, sample

SHARED = ("team/app", "1.0", "stable")  # a repository, and two tags on one manifest


def fill(pusher: Pusher) -> None:
    """Push single, multi-arch, shared, signed and artifact manifests, Docker's and OCI's."""
    for version in ("1.36", "1.37"):
        pusher.push("library/busybox", images.multi_arch(version, flavour=DOCKER), version)
    app = sample("app 1.0", created="2024-05-01T12:00:00Z")
    repository, *tags = SHARED
    pusher.push(repository, app, *tags)
    pusher.push(repository, images.signature(app, repository), images.cosign_tag(app))
    pusher.push(repository, sample("app 1.1", created="2024-06-01T12:00:00Z"), "1.1")
    pusher.push(repository, images.multi_arch("app 2.0", attested=True), "2.0", "latest")
    fill_tools(pusher)


def fill_tools(pusher: Pusher) -> None:
    """Push an image of Docker's kind, an artifact, and an artifact about the image."""
    tool = sample("tool", flavour=DOCKER)
    pusher.push("team/tools", tool, "1.0")
    pusher.push("team/tools", images.artifact(b"rules: []\n"), "policy")
    list_of_parts = about(tool)
    pusher.push("team/tools", images.referrers_index([list_of_parts]), images.fallback_tag(tool))


def about(subject: Manifest) -> Manifest:
    """Build a bill of materials that refers to its subject."""
    parts = b'{"bomFormat": "CycloneDX", "components": []}'
    kind = "application/vnd.cyclonedx+json"
    return images.artifact(parts, artifact_type=kind, media_type=kind, subject=subject)
