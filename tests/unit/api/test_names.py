"""Names in paths: slashes, tricks, and what is no name at all."""

import pytest

from tests.fakes import image
from tests.unit.api.conftest import Bed

REPOSITORIES = "/v1/registries/default/repositories"
FIVE = "a/b/c/d/e"
LONGEST = "a" * 255
TAG_128 = "t" * 128


@pytest.fixture
def bed() -> Bed:
    made = Bed()
    for name in ("team/app", FIVE, LONGEST, "a/tags", "a"):
        made.registry.push(name, image(name), "1.0", TAG_128)
    return made


@pytest.mark.parametrize("name", ["team/app", FIVE, LONGEST, "a/tags", "a"])
def test_names_with_slashes_are_read_as_they_are_or_escaped(bed: Bed, name: str) -> None:
    for written in (name, name.replace("/", "%2F"), name.replace("/", "%2f")):
        assert bed.ask(f"{REPOSITORIES}/{written}").json == {"name": name, "tag_count": 2}
        tags = bed.ask(f"{REPOSITORIES}/{written}/-/tags").json
        assert [tag["name"] for tag in tags["items"]] == ["1.0", TAG_128]
        assert bed.ask(f"{REPOSITORIES}/{written}/-/tags/{TAG_128}").json["name"] == TAG_128


TRICKS = [
    "../../etc",
    "..",
    "team/../app",
    "team/./app",
    ".",
    "team//app",
    "/team/app",
    "team/app/",
    "%00",
    "team%00",
    "team%0aapp",
    "team/app%0d%0aX-Evil:1",
    "team%252Fapp",
    "%2e%2e%2f%2e%2e",
    "%252e%252e",
    "team/-/app",
    "-/-/-",
    "team/app/-",
    "Team/app",
    "team_-app",
    "a" * 256,
    "a/" * 150 + "a",
    "%ff%fe",
    "team/%c0%af",
    "%F0%9F%90%B3",
    "team app",
    "team%3Fx=1",
    "team%23",
    "team\\app",
    "sha256:" + "a" * 64,
    "app:1.0",
    "app@sha256:" + "a" * 64,
]


@pytest.mark.parametrize("name", TRICKS)
@pytest.mark.parametrize("rest", ["", "/-/tags", "/-/tags/1.0", "/-/manifests/1.0/raw"])
def test_what_is_no_repository_name_never_reaches_the_registry(
    bed: Bed, name: str, rest: str
) -> None:
    answer = bed.ask(f"{REPOSITORIES}/{name}{rest}")
    assert answer.status in {400, 404}
    assert answer.mimetype == "application/problem+json"
    assert "Location" not in answer.headers
    assert bed.registry.reads == []


@pytest.mark.parametrize("name", ["BAD", "..", "%00", "a" * 256, "team//app", "a_-b"])
def test_such_names_are_told_apart_from_unknown_ones(bed: Bed, name: str) -> None:
    answer = bed.ask(f"{REPOSITORIES}/{name}/-/tags")
    assert answer.problem == (400, "invalid-repository-name")


@pytest.mark.parametrize(
    "tag", [".hidden", "-x", "t" * 129, "%00", "a%20b", "a:b", "%E2%82%AC", "a%2Fb"]
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_malformed_tags_are_400(bed: Bed, method: str, tag: str) -> None:
    body = {"tag": "1.0"} if method == "PUT" else None
    answer = bed.ask(f"{REPOSITORIES}/team/app/-/tags/{tag}", method, body=body)
    assert answer.problem == (400, "invalid-tag")
    assert bed.registry.reads == []


@pytest.mark.parametrize(
    "digest",
    [
        "sha256:abc",
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 65,
        "sha512:" + "a" * 128,
        "md5:" + "a" * 32,
        "sha256:" + "a" * 63 + "%00",
    ],
)
@pytest.mark.parametrize("rest", ["", "/raw", "/tags", "/referrers"])
def test_malformed_digests_are_400(bed: Bed, digest: str, rest: str) -> None:
    answer = bed.ask(f"{REPOSITORIES}/team/app/-/manifests/{digest}{rest}")
    assert answer.problem == (400, "invalid-digest")
    assert bed.registry.reads == []


def test_a_manifest_is_deleted_by_digest_alone(bed: Bed) -> None:
    answer = bed.ask(f"{REPOSITORIES}/team/app/-/manifests/1.0", "DELETE")
    assert answer.problem == (400, "invalid-digest")


@pytest.mark.parametrize("registry", ["none", "..", "%00", "a" * 300, "DEFAULT", "default%20"])
def test_registries_that_are_not_configured_are_404(bed: Bed, registry: str) -> None:
    answer = bed.ask(f"/v1/registries/{registry}/repositories")
    assert answer.problem == (404, "registry-unknown")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/registries/",
        "//v1/registries",
        "/v1//registries",
        "/v1/registries/default/",
        f"{REPOSITORIES}/",
        "/V1/registries",
        "/v1",
        "/v1/",
        "/v2/",
        "/docs/problems/../../etc/passwd",
        "/docs/assets/..%2f..%2fapp.py",
        "/docs/assets/%2e%2e/app.py",
        "/static/x",
    ],
)
def test_other_paths_are_not_found_and_never_redirected(bed: Bed, path: str) -> None:
    answer = bed.ask(path)
    assert answer.problem == (404, "not-found")


@pytest.mark.parametrize("deletion", ["1", "x" * 32, "%00" * 32, "0" * 33, "A" * 32])
def test_ids_that_none_can_have_are_404(bed: Bed, deletion: str) -> None:
    answer = bed.ask(f"/v1/registries/default/deletions/{deletion}")
    assert answer.problem == (404, "deletion-unknown")
    answer = bed.ask(f"/v1/tokens/{deletion}")
    assert answer.problem == (404, "token-unknown")


def test_the_instance_is_a_reference_whatever_was_sent(bed: Bed) -> None:
    answer = bed.ask(f"{REPOSITORIES}/%00%20%22%E2%82%AC")
    assert answer.json["instance"] == f"{REPOSITORIES}/%00%20%22%E2%82%AC"
