"""What collection must know of a registry's configuration."""

from __future__ import annotations

from typing import Any

import pytest

from service.adapters.engine.configuration import parse_configuration
from service.domain.collectable import parse_version, untagged_is_safe
from service.domain.reference import Digest
from service.domain.registry_files import RegistryFiles, registry_files

STORED = {"storage": {"filesystem": {"rootdirectory": "/data/"}, "delete": {"enabled": True}}}


def read(document: dict[str, Any], environment: dict[str, str] | None = None) -> RegistryFiles:
    return registry_files(document, environment or {}, parse_configuration)


@pytest.mark.parametrize(
    ("document", "environment", "driver", "root"),
    [
        (STORED, {}, "filesystem", "/data"),
        ({"storage": {"filesystem": None}}, {}, "filesystem", "/var/lib/registry"),
        ({"storage": {}}, {}, "filesystem", "/var/lib/registry"),
        (STORED, {"REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": "/x"}, "filesystem", "/x"),
        ({"storage": {"s3": {"bucket": "b"}, "cache": {}}}, {}, "s3", None),
        (STORED, {"REGISTRY_STORAGE_S3_BUCKET": "b"}, "s3", None),
        (STORED, {"REGISTRY_STORAGE": "azure"}, "azure", None),
        (STORED, {"REGISTRY_STORAGE_DELETE_ENABLED": "true"}, "filesystem", "/data"),
        ({"storage": "filesystem"}, {}, "filesystem", "/var/lib/registry"),
        ({"storage": "inmemory"}, {}, "inmemory", None),
        ({}, {"REGISTRY_STORAGE_FILESYSTEM": '{"rootdirectory": "/x"}'}, "filesystem", "/x"),
        (STORED, {"REGISTRY_STORAGE": "{filesystem: {rootdirectory: /x}}"}, "filesystem", "/x"),
        (STORED, {"REGISTRY_STORAGE": "filesystem:\n  rootdirectory: /x"}, "filesystem", "/x"),
        (STORED, {"REGISTRY_STORAGE": "filesystem"}, "filesystem", "/var/lib/registry"),
        (
            STORED,
            {"REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": "/x", "REGISTRY_STORAGE": "filesystem"},
            "filesystem",
            "/x",
        ),
        (STORED, {"REGISTRY_STORAGE_FILESYSTEM": "{no YAML"}, "filesystem", "/var/lib/registry"),
        (
            STORED,
            {"REGISTRY_STORAGEX": "s3", "OTEL_TRACES_EXPORTER": "none"},
            "filesystem",
            "/data",
        ),
    ],
)
def test_where_the_files_are(
    document: dict[str, Any], environment: dict[str, str], driver: str, root: str | None
) -> None:
    files = read(document, environment)
    assert (files.driver, files.root) == (driver, root)


def test_the_path_of_a_blob() -> None:
    digest = Digest.of(b"x")
    path = read(STORED).blob_path(digest)
    assert path == f"/data/docker/registry/v2/blobs/sha256/{digest.hex[:2]}/{digest.hex}/data"
    assert read({"storage": {"s3": {}}}).blob_path(digest) is None


@pytest.mark.parametrize(
    ("document", "environment", "shared"),
    [
        ({"storage": {"cache": {"blobdescriptor": "inmemory"}}}, {}, False),
        ({"storage": {"cache": {"blobdescriptor": "redis"}}}, {}, True),
        ({"storage": {"cache": {"layerinfo": "redis"}}}, {}, True),
        ({"storage": {}}, {"REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR": "redis"}, True),
        ({"storage": {"cache": None}}, {}, False),
        ({"storage": {}}, {"REGISTRY_STORAGE_CACHE": '{"blobdescriptor": "redis"}'}, True),
        (STORED, {"REGISTRY_STORAGE": "{filesystem: , cache: {blobdescriptor: redis}}"}, True),
        (
            {"storage": {"cache": {"blobdescriptor": "redis"}}},
            {"REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR": ""},
            False,
        ),
        ({}, {}, False),
    ],
)
def test_whether_what_is_known_of_blobs_outlives_a_restart(
    document: dict[str, Any], environment: dict[str, str], *, shared: bool
) -> None:
    assert read(document, environment).shared_cache is shared


@pytest.mark.parametrize(
    ("text", "version", "safe"),
    [
        ("2.8.2", (2, 8, 2), False),
        ("v2.8.3+unknown", (2, 8, 3), False),
        ("v3.0.0-rc.1", (3, 0, 0), True),
        ("v3.0.0-alpha.1", (3, 0, 0), False),
        ("2.7.1", (2, 7, 1), False),
        ("v3.1.1+unknown", (3, 1, 1), True),
        ("3.1", (3, 1, 0), True),
        ("devel", None, False),
        (None, None, False),
    ],
)
def test_which_versions_spare_the_children_of_tagged_indexes(
    text: str | None, version: tuple[int, ...] | None, *, safe: bool
) -> None:
    assert parse_version(text) == version
    assert untagged_is_safe(text) is safe
