"""Collecting garbage, verifying and deleting in bulk on a real engine and a real registry."""

import threading
from collections.abc import Iterator

import pytest

from demo.images import Manifest, digest_of, sample
from demo.processes import wait_until
from service.domain.collectable import MODES, Mode
from tests.e2e.bed.api import REGISTRY, at_once, get, manifest_path, problem, tag_path
from tests.e2e.bed.collecting import (
    LIVE,
    RESTARTS,
    Client,
    Probe,
    Site,
    await_step,
    blob_bytes,
    churning,
    damage,
    ended,
    inspected,
    is_writable,
    probing,
    start,
    steps,
    succeeded,
)
from tests.e2e.bed.registry import MakeRegistry
from tests.e2e.bed.service import MakeService

VERIFICATIONS = f"{REGISTRY}/verifications"
DELETIONS = f"{REGISTRY}/deletions"
SAFE: tuple[Mode, ...] = ("read-only", "stopped")
FOUND = ("dangling_tags", "missing_blobs", "corrupt_blobs")


@pytest.fixture(scope="module")
def shared(module_registry: MakeRegistry, module_service: MakeService) -> Site:
    made = module_registry(run=RESTARTS)
    return Site(made, module_service(made))


@pytest.fixture
def site(shared: Site) -> Iterator[Site]:
    """One for all tests that leave of it no more than garbage and the tags of `fill`."""
    shared.fill()
    yield shared
    wait_until(shared.is_at_rest, 60, "the end of all jobs")


@pytest.fixture
def own_site(registry: MakeRegistry, service: MakeService) -> Site:
    made = registry(run=RESTARTS)
    return Site(made, service(made))


@pytest.mark.parametrize("mode", MODES)
def test_garbage_goes_to_the_byte_and_the_registry_is_as_it_was(site: Site, mode: Mode) -> None:
    before, held = inspected(site.registry), blob_bytes(site.registry)
    result = site.collect(mode)
    assert result["bytes_freed"] == result["bytes_eligible"] == held - blob_bytes(site.registry)
    assert result["bytes_freed"] > 0
    assert result["blobs_deleted"] == result["blobs_eligible"] == len(result["eligible"])
    doomed = {site.doomed.digest, *map(digest_of, site.doomed.blobs[::2])}
    assert doomed <= set(result["eligible"])
    assert result["registry_version"]
    assert result["verified"] == {"tags": 1, "manifests": 1, "missing_blobs": []}
    site.require_as_before(before)
    # What was swept can be pushed again, and is whole: nothing vouches for what is gone.
    client = Client(site.registry, "again", 1)
    client.repository = "app"
    client.push(site.doomed, "doomed", threading.Event())
    assert damage(site.registry, client.acknowledged) == []
    require_verified(site)


def require_verified(site: Site) -> None:
    found = succeeded(site.service, VERIFICATIONS, deep=True)
    assert [found[name] for name in FOUND] == [[], [], []]


def test_a_dry_run_touches_nothing(site: Site) -> None:
    state, held = site.registry.container.attrs["State"], blob_bytes(site.registry)
    found = [site.collect(mode, dry_run=True) for mode in MODES]
    assert site.registry.container.attrs["State"] == state
    assert blob_bytes(site.registry) == held
    real = site.collect("read-only")
    for result in found:
        assert (result["blobs_deleted"], result["bytes_freed"]) == (0, 0)
        assert result["bytes_eligible"] == real["bytes_freed"] > 0
        assert result["eligible"] == real["eligible"]


def test_a_registry_that_nobody_pushed_to(registry: MakeRegistry, service: MakeService) -> None:
    made = registry(run=RESTARTS)
    asked = service(made)
    uploads_begun: tuple[Mode, ...] = ("read-only",)
    for modes in (MODES, uploads_begun):
        for mode in modes:
            result = succeeded(asked, mode=mode, **LIVE.get(mode, {}))
            counts = {result[name] for name in result if name.startswith(("blobs", "bytes"))}
            assert counts == {0}
        assert is_writable(made)


def test_pulls_go_on_and_pushes_are_refused_meanwhile(site: Site) -> None:
    registry = site.registry
    path = f"/v2/app/blobs/{digest_of(site.kept.blobs[0])}"
    pull = Probe(lambda: registry.ask(path, timeout=5).status, lambda status: status == 200)
    push = Probe(
        lambda: registry.ask("/v2/app/blobs/uploads/", "POST", timeout=5).status,
        lambda status: status == 202,
    )
    with probing(pull, push):
        result = site.collect("read-only")
    assert set(pull.statuses) <= {0, 200}
    assert set(push.statuses) == {0, 202, 405}
    assert push.statuses[405] > 0
    assert result["pushes_down_seconds"] > result["pulls_down_seconds"] > 0


def test_two_at_once_are_one(site: Site) -> None:
    answers = at_once([lambda: start(site.service) for _ in range(4)])
    statuses = sorted(answer.status for answer in answers)
    assert statuses == [202, 409, 409, 409]
    (accepted,) = (answer.json() for answer in answers if answer.status == 202)
    for answer in answers:
        if answer.status == 409:
            assert problem(answer, 409, "gc-already-active")["job"] == accepted["id"]


def test_nothing_is_changed_through_the_service_meanwhile(site: Site) -> None:
    job = start(site.service).json()
    answer = site.service.ask(tag_path("app", "kept"), "DELETE")
    assert problem(answer, 409, "gc-already-active")["job"] == job["id"]
    assert answer.headers["retry-after"]
    wait_until(lambda: site.state(job["id"]) == "succeeded", 60, "collected")
    assert site.service.ask(tag_path("app", "kept"), "DELETE").status == 200


CANCELLED = [
    pytest.param("read-only", steps("read-only"), id="read-only"),
    pytest.param("stopped", ("collect", "put-back"), id="stopped"),
    pytest.param("live", ("collect", "put-back"), id="live"),
    pytest.param("stopped", steps("stopped"), id="stopped, each", marks=pytest.mark.soak),
    pytest.param("live", steps("live"), id="live, each", marks=pytest.mark.soak),
]


@pytest.mark.parametrize(("mode", "at"), CANCELLED)
def test_cancelled_at_each_step(site: Site, mode: Mode, at: tuple[str, ...]) -> None:
    for step in at:
        site.fill()
        before = inspected(site.registry)
        job = start(site.service, mode=mode, **LIVE.get(mode, {})).json()
        await_step(site.service, step)
        answer = site.service.ask(f"/v1/jobs/{job['id']}/cancel", "POST")
        wait_until(lambda: site.state(job["id"]) not in {"queued", "running"}, 60, "ended")  # noqa: B023
        promised = answer.status == 202
        assert promised or problem(answer, 409, "job-not-cancellable")
        assert site.state(job["id"]) == ("cancelled" if promised else "succeeded"), step
        site.require_as_before(before)


# Corruption.


def churned(
    site: Site, modes: tuple[Mode, ...], runs: int, clients: int = 2, pool: int = 20
) -> list[Client]:
    """Collect while clients push and delete without pause; give them."""
    pushing = [Client(site.registry, f"c{number}", pool) for number in range(clients)]
    with churning(pushing):
        for mode in modes:
            for _ in range(runs):
                pushed = sum(client.pushed for client in pushing)
                wait_until(lambda: sum(c.pushed for c in pushing) > pushed + pool, 60, "pushes")  # noqa: B023
                site.collect(mode)
    return pushing


def require_sound(site: Site, clients: list[Client]) -> None:
    """Everything that was acknowledged is there: on the disk, and as a deep verification has it.

    A registry that is stopped in the middle of a client's DELETE has removed the manifest and not
    yet its tag: such a tag dangles, but it is none that was acknowledged.
    """
    for client in clients:
        assert client.acknowledged
        assert damage(site.registry, client.acknowledged) == []
    found = succeeded(site.service, VERIFICATIONS, deep=True)
    assert (found["missing_blobs"], found["corrupt_blobs"]) == ([], [])
    dangling = {(one["repository"], one["tag"]) for one in found["dangling_tags"]}
    assert dangling.isdisjoint(name for client in clients for name in client.acknowledged)


@pytest.mark.timeout(300)
def test_nothing_is_lost_while_clients_push(own_site: Site) -> None:
    require_sound(own_site, churned(own_site, SAFE, 1))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_nothing_is_lost_in_many_collections_of_much(own_site: Site) -> None:
    clients = churned(own_site, SAFE, 20, clients=4, pool=150)
    assert sum(client.pushed for client in clients) >= 300
    require_sound(own_site, clients)


@pytest.mark.timeout(300)
def test_the_naive_way_loses_what_was_acknowledged(own_site: Site) -> None:
    clients = [Client(own_site.registry, f"c{number}", 20) for number in range(2)]
    ended: list[int] = []
    with churning(clients):
        for _ in range(5):
            pushed = sum(client.pushed for client in clients)
            wait_until(lambda: sum(c.pushed for c in clients) > pushed + 20, 60, "pushes")  # noqa: B023
            # It also fails now and then, over what was deleted under its hands.
            ended.append(own_site.registry.garbage_collect().exit_code)
        assert 0 in ended
        pushed = sum(client.pushed for client in clients)
        wait_until(lambda: sum(client.pushed for client in clients) > pushed + 40, 60, "pushes")
    lost = [name for client in clients for name in damage(own_site.registry, client.acknowledged)]
    assert lost
    found = succeeded(own_site.service, VERIFICATIONS)
    assert found["missing_blobs"] or found["dangling_tags"]


# Verification and bulk deletion.


def test_damage_is_found_with_the_tags_it_hurts(own_site: Site) -> None:
    one, two = sample("one"), sample("two")
    with own_site.registry.pusher() as pusher:
        pusher.push("app", one, "one", "uno")
        pusher.push("app", two, "two")
    gone, ill = digest_of(one.blobs[-1]), digest_of(two.blobs[-1])
    own_site.registry.blob_path(gone).unlink()
    path = own_site.registry.blob_path(ill)
    path.write_bytes(b"x" * path.stat().st_size)
    shallow = succeeded(own_site.service, VERIFICATIONS)
    hurt = [{"repository": "app", "tag": tag} for tag in ("one", "uno")]
    assert shallow["missing_blobs"] == [{"digest": gone, "tags": hurt}]
    assert shallow["corrupt_blobs"] == []
    deep = succeeded(own_site.service, VERIFICATIONS, deep=True)
    assert deep["missing_blobs"] == shallow["missing_blobs"]
    assert deep["corrupt_blobs"] == [{"digest": ill, "tags": [{"repository": "app", "tag": "two"}]}]


MANY = 80  # a thousand are a soak of test_scale.py


@pytest.mark.timeout(300)
def test_many_are_deleted_though_the_service_is_killed(own_site: Site) -> None:
    manifests: dict[str, Manifest] = {f"t{number}": sample(f"n {number}") for number in range(MANY)}
    with own_site.registry.pusher() as pusher:
        for tag, manifest in manifests.items():
            pusher.push("many" if int(tag[1:]) % 2 else "more", manifest, tag)
    items = [
        {"repository": "many" if int(tag[1:]) % 2 else "more", "tag": tag} for tag in manifests
    ]
    items.insert(MANY // 2, {"repository": "many", "tag": "absent"})
    job = start(own_site.service, DELETIONS, items=items).json()
    wait_until(lambda: len(own_site.registry.tags("more")) < MANY * 0.4, 60, "some are gone")
    own_site.service.kill()
    own_site.service.start()
    wait_until(lambda: own_site.state(job["id"]) == "succeeded", 120, "all are gone")
    result = get(own_site.service, f"/v1/jobs/{job['id']}")["result"]
    assert (result["deleted"], result["failed"]) == (MANY, 1)
    assert [one["item"] for one in result["items"] if "problem" in one] == [MANY // 2]
    assert own_site.registry.tags("many") == own_site.registry.tags("more") == {}
    ids = [one["deletion"]["id"] for one in result["items"] if "deletion" in one]
    assert len(set(ids)) == MANY
    records = {one["id"] for one in get(own_site.service, DELETIONS, n=1000)["items"]}
    assert records == set(ids)


# What is refused.


def test_no_container_and_one_that_is_not_there(service: MakeService) -> None:
    url = "http://127.0.0.1:1"
    tables = {"absent": {"url": url, "container": "absent"}, "none": {"url": url}}
    asked = service(settings={"registries": tables})
    told = problem(start(asked, "/v1/registries/none/gc-runs"), 409, "registry-not-collectable")
    assert "No container is configured" in told["detail"]
    told = problem(start(asked, "/v1/registries/absent/gc-runs"), 404, "container-unknown")
    assert "REGISTRY_ADMIN_REGISTRY_CONTAINER" in told["detail"]


def test_a_stopped_registry_is_left_alone(site: Site) -> None:
    site.registry.stop()
    assert problem(start(site.service), 409, "registry-not-collectable")
    assert not site.registry.container.attrs["State"]["Running"]
    site.registry.start()
    assert get(site.service, manifest_path("app", "kept"))["digest"] == site.kept.digest
    assert ended(site.service)["state"] == "succeeded"
