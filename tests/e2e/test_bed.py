"""The test bed is what it says: each shape is so, each image is real, nothing stays behind."""

import pytest

from demo.images import digest_of, sample
from tests.e2e.bed.http import Answer
from tests.e2e.bed.registry import MakeRegistry, RunningRegistry

ZEROS = "sha256:" + 64 * "0"


def delete_nothing(registry: RunningRegistry) -> Answer:
    return registry.ask(f"/v2/any/manifests/{ZEROS}", "DELETE")


def test_a_new_registry_is_empty(registry: MakeRegistry) -> None:
    assert registry().snapshot() == {}


@pytest.mark.parametrize(("delete", "status"), [(True, 404), (False, 405)])
def test_delete_is_as_asked(registry: MakeRegistry, delete: bool, status: int) -> None:  # noqa: FBT001
    assert delete_nothing(registry(delete=delete)).status == status


def test_a_snapshot_shows_each_tag_with_its_digest(registry: MakeRegistry) -> None:
    made = registry()
    with made.pusher() as pusher:
        digest = pusher.push("team/app", sample("one"), "1.0", "latest")
        pusher.push("team/other", sample("two"), "2.0")
    assert made.snapshot()["team/app"] == {"1.0": digest, "latest": digest}
    assert made.snapshot()["team/other"] == {"2.0": sample("two").digest}
    assert digest_of(sample("two").body) == sample("two").digest


def test_read_only_keeps_what_it_was_seeded_with(registry: MakeRegistry) -> None:
    filled = registry()
    with filled.pusher() as pusher:
        pusher.push("app", sample("one"), "1")
    made = registry(seed=filled, read_only=True)
    refused = made.ask("/v2/app/blobs/uploads/", "POST")
    assert made.snapshot() == filled.snapshot() != {}
    assert refused.status == 405
    assert refused.headers["content-type"].startswith("text/plain")


def test_htpasswd_asks_for_a_password(registry: MakeRegistry) -> None:
    made = registry(htpasswd=("ada", "s3cret"))
    refused = made.ask("/v2/", credentials=None)
    assert refused.status == 401
    assert refused.headers["www-authenticate"].startswith("Basic ")
    assert made.ask("/v2/").status == 200
