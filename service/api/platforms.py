"""Platforms, as tags and manifests name them."""

from __future__ import annotations

from service.api.base import Answer
from service.api.fields import text
from service.domain.content import Platform


class PlatformSchema(Answer):
    """Operating system and processor."""

    os = text("The operating system.", "linux")
    architecture = text("The processor.", "arm64")
    variant = text("Its variant.", "v8", nullable=True)


def dump_platform(platform: Platform) -> dict[str, object]:
    """Do what PlatformSchema does, faster."""
    return {
        "os": platform.os,
        "architecture": platform.architecture,
        "variant": platform.variant,
    }
