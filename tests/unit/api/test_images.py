"""Images over HTTP: pushing one, and how one is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pytest

from service.domain.audit import Attempt
from service.domain.engine import Engine, PushName, RegistryLogin
from service.domain.errors import PushFailed
from service.domain.job import JobRequest, Work
from service.domain.pushing import engine_host
from service.domain.reference import Repository, Tag
from service.jobs.collecting import collection
from service.jobs.pushing import pushing
from tests.fakes import image
from tests.fakes_engine import FakeEngine, Hear, Stop
from tests.fakes_jobs import WorkerDied
from tests.unit.api.conftest import Bed, FakeRegistries
from tests.unit.domain.collecting import parse

PUSH = "/v1/images/push"
BODY = {"source": "app:1", "registry": "default", "repository": "team/app", "tag": "2"}
NAME = "127.0.0.1:5000/team/app:2"
DIGESTS = ["sha256:" + 64 * digit for digit in "ab"]
HISTORY = [
    {"CreatedBy": "CMD [sh]", "Size": 0},
    {"CreatedBy": "COPY app /app", "Size": 70},
    {"CreatedBy": "ENV A=1", "Size": 0},
    {"CreatedBy": "ADD rootfs.tar /", "Size": 30},
]


class OneEngine(FakeRegistries):
    """Registries that all are on one engine."""

    def __init__(self, registries: FakeRegistries, engine: FakeEngine) -> None:
        super().__init__(registries.registries)
        self.one = engine

    def engine(self, name: str) -> Engine:
        del name
        return self.one


class YardBed(Bed):
    """An engine with an image, which pushes to the registry."""

    def wire(self) -> Sequence[Work]:
        self.registries = OneEngine(self.registries, self.engine)
        self.image_id = self.engine.add_image("app:1")
        made = self.engine.images[self.image_id]
        made.update({"RootFS": {"Layers": DIGESTS}, "History": HISTORY, "Size": 100})
        self.engine.uploads = self.upload
        self.built = image("pushed")
        self.logins: list[RegistryLogin | None] = []
        return (
            pushing(self.registries, self.trail),
            collection(self.registries, self.store.deletions, self.trail, parse),
        )

    def upload(self, name: PushName, login: RegistryLogin | None, hear: Hear, stop: Stop) -> bool:
        self.logins.append(login)
        if stop():
            return False
        digest = self.registry.push("team/app", self.built, name.tag)
        for message in messages(digest):
            hear(message)
        return True

    def names(self) -> dict[str, str]:
        return {tag: key for key, one in self.engine.images.items() for tag in one["RepoTags"]}

    def pushed(self, **changed: object) -> Any:  # noqa: ANN401 - JSON
        answer = self.ask(PUSH, "POST", body=BODY | changed)
        assert answer.status == 202, answer.text
        self.jobs.run_all()
        return self.ask(answer.headers["Location"]).json


def messages(digest: str) -> Sequence[Mapping[str, Any]]:
    first, second = (one.partition(":")[2][:12] for one in DIGESTS)
    return [
        {"status": "The push refers to repository [x]"},
        {"status": "Preparing", "progressDetail": {}, "id": first},
        {"status": "Preparing", "progressDetail": {}, "id": second},
        {"status": "Layer already exists", "progressDetail": {}, "id": first},
        {"status": "Pushing", "progressDetail": {"current": 35, "total": 70}, "id": second},
        {"status": "Pushed", "progressDetail": {}, "id": second},
        {"progressDetail": {}, "aux": {"Tag": "2", "Digest": digest, "Size": 500}},
    ]


@pytest.fixture
def bed() -> YardBed:
    return YardBed()


def test_a_push_tells_what_it_did_and_leaves_no_name(bed: YardBed) -> None:
    before = bed.names()
    job = bed.pushed()
    assert (job["state"], job["kind"], job["registry"]) == ("succeeded", "image-push", "default")
    assert job["result"] == {
        "digest": bed.built.digest,
        "size": bed.ask("/v1/registries/default/repositories/team/app/-/tags/2").json["size"],
        "layers_pushed": 1,
        "layers_existing": 1,
    }
    assert bed.names() == before
    log = bed.ask(f"/v1/jobs/{job['id']}/log", headers={"Accept": "text/plain"}).text
    assert log.count(f"layer {'b' * 12}: ") == 3
    assert "layer aaaaaaaaaaaa: layer already exists" in log


def test_the_credentials_are_those_of_the_registry(bed: YardBed) -> None:
    bed.registry.known_as = RegistryLogin("me", "secret")
    bed.pushed()
    assert bed.logins == [bed.registry.known_as]
    assert "secret" not in repr(bed.registry.known_as)


def test_a_name_that_was_there_is_there_again(bed: YardBed) -> None:
    other = bed.engine.add_image(NAME)
    before = bed.names()
    assert bed.pushed()["state"] == "succeeded"
    assert bed.names() == before
    assert before[NAME] == other


def test_a_name_on_the_image_itself_is_left_alone(bed: YardBed) -> None:
    bed.engine.images[bed.image_id]["RepoTags"].append(NAME)
    before = bed.names()
    assert bed.pushed()["state"] == "succeeded"
    assert bed.names() == before
    assert [write.kind for write in bed.engine.writes] == ["push"]


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("write", range(1, 7))
def test_whatever_dies_the_names_are_as_they_were(
    bed: YardBed,
    write: int,
    when: Literal["before", "after"],
    there: bool,  # noqa: FBT001
) -> None:
    if there:
        bed.engine.add_image(NAME)
    before = bed.names()
    bed.engine.die(write, when, WorkerDied("killed"))
    bed.pushed()
    bed.engine.revive()
    bed.jobs.run_all()
    job = bed.ask("/v1/jobs?kind=image-push").json["items"][0]
    assert job["state"] == "succeeded", job
    assert bed.registry.resolve(Repository("team/app"), Tag("2")) == bed.built.digest
    assert bed.names() == before


def test_a_failed_push_leaves_no_name(bed: YardBed) -> None:
    def fail(*_: object) -> bool:
        raise PushFailed("The registry burnt down.")

    bed.engine.uploads, before = fail, bed.names()
    job = bed.pushed()
    assert (job["state"], job["error"]["code"]) == ("failed", "push-failed")
    assert bed.names() == before


def test_a_tag_that_is_elsewhere_afterwards_fails_the_push(bed: YardBed) -> None:
    def strange(name: PushName, _: object, hear: Hear, __: Stop) -> bool:
        bed.registry.push("team/app", bed.built, name.tag)
        for message in messages(DIGESTS[0]):
            hear(message)
        return True

    bed.engine.uploads = strange
    job = bed.pushed()
    assert job["error"]["code"] == "push-failed"
    assert "127.0.0.1:5000" in job["error"]["detail"]


def test_limits_of_the_token_are_those_of_the_target(bed: YardBed) -> None:
    elsewhere = bed.token("image:push", registries=("other",))
    other = bed.token("image:push", repositories=("mine/*",))
    for token in (elsewhere, other):
        answer = bed.ask(PUSH, "POST", body=BODY, token=token)
        assert answer.problem == (403, "insufficient-scope")
    token = bed.token("image:push", registries=("default",), repositories=("team/*",))
    assert bed.ask(PUSH, "POST", body=BODY, token=token).status == 202
    assert bed.ask(PUSH, "POST", body=BODY, token=bed.token("registry:write")).status == 403


def test_no_push_beside_a_collection(bed: YardBed) -> None:
    params = {"mode": "read-only", "dry_run": False, "delete_untagged": False}
    with bed.trail.attempt(Attempt("arrange", "tests")) as change:
        bed.jobs.submit(
            change,
            JobRequest("gc", params, "tests", registry="default", exclusive="registry/default"),
        )
    assert bed.ask(PUSH, "POST", body=BODY).problem == (409, "gc-already-active")


def test_pushes_and_collections_of_a_registry_exclude_each_other(bed: YardBed) -> None:
    bed.ask(PUSH, "POST", body=BODY)
    assert [one.exclusive for one in bed.jobs.records.unended("queued", 9)] == ["registry/default"]


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"source": "nowhere:1"}, (404, "image-unknown")),
        ({"source": "No:1"}, (422, "validation-failed")),
        ({"source": "a:1:2"}, (422, "validation-failed")),
        ({"registry": "nowhere"}, (404, "registry-unknown")),
        ({"repository": "UPPER"}, (400, "invalid-repository-name")),
        ({"tag": "-x"}, (400, "invalid-tag")),
        ({"more": 1}, (422, "validation-failed")),
    ],
)
def test_bad_input_is_refused(
    bed: YardBed, changed: Mapping[str, object], problem: tuple[int, str]
) -> None:
    assert bed.ask(PUSH, "POST", body={**BODY, **changed}).problem == problem
    assert bed.engine.writes == []


def test_an_id_is_no_name(bed: YardBed) -> None:
    for source in (bed.image_id, bed.image_id.removeprefix("sha256:")[:12]):
        answer = bed.ask(PUSH, "POST", body=BODY | {"source": source})
        assert answer.problem == (404, "image-unknown")


# How an image is made.


def test_an_image_is_taken_apart(bed: YardBed) -> None:
    box = bed.engine.run("web-1", "app:1")
    bed.engine.run("secret", "app:1")
    bed.engine.add_image("other:1")
    bed.engine.run("web-2", "other:1")
    bed.engine.write_file("web-1", "/x", b"12345")
    found = bed.ask("/v1/images/app:1/anatomy").json
    assert found["size"] == 100
    assert found["layers"] == [
        {"digest": DIGESTS[0], "size": 30, "created_by": "ADD rootfs.tar /", "empty": False},
        {"digest": None, "size": 0, "created_by": "ENV A=1", "empty": True},
        {"digest": DIGESTS[1], "size": 70, "created_by": "COPY app /app", "empty": False},
        {"digest": None, "size": 0, "created_by": "CMD [sh]", "empty": True},
    ]
    assert found["containers"] == [{"name": "web-1", "id": box.id, "writable_layer_size": 5}]


@pytest.mark.parametrize("slash", ["/", "%2F"])
def test_an_image_is_named_with_slashes(bed: YardBed, slash: str) -> None:
    bed.engine.add_image("localhost:5000/team/app:1")
    assert bed.ask(f"/v1/images/localhost:5000{slash}team{slash}app:1/anatomy").status == 200
    assert bed.ask(f"/v1/images/{bed.image_id}/anatomy").status == 200
    for unknown in ("nowhere", "a b", "..", "-x"):
        assert bed.ask(f"/v1/images/{unknown}/anatomy").problem == (404, "image-unknown")


def test_a_limited_token_sees_the_images_of_the_containers_that_it_sees(bed: YardBed) -> None:
    bed.engine.run("web-1", "app:1")
    token = bed.token("container:read", registries=("default",))
    refused = bed.ask("/v1/images/app:1/anatomy", token=token)
    assert refused.problem == (403, "insufficient-scope")
    absent = bed.ask("/v1/images/none:1/anatomy", token=token)
    assert absent.json["detail"] == refused.json["detail"].replace("app:1", "none:1")
    bed.engine.run("registry", "app:1")
    (mine,) = bed.ask("/v1/images/app:1/anatomy", token=token).json["containers"]
    assert mine["name"] == "registry"
    of_repositories = bed.token("container:read", repositories=("*",))
    assert bed.ask("/v1/images/app:1/anatomy", token=of_repositories).status == 403
    denied = bed.ask("/v1/images/app:1/anatomy", token=bed.token("image:push"))
    assert denied.problem == (403, "insufficient-scope")


def test_names_of_registries_for_engines() -> None:
    hosts = {
        "http://127.0.0.1:5000": "127.0.0.1:5000",
        "http://registry": "registry:80",
        "http://registry.example": "registry.example:80",
        "https://registry.example": "registry.example",
        "https://registry": "registry:443",
        "https://registry.example:5443/base": "registry.example:5443",
    }
    assert {url: engine_host(url) for url in hosts} == hosts
    assert str(PushName("a/b", Tag("c"))) == "a/b:c"
