"""Registries that cache in Redis what they know of blobs, and collections of them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from demo.images import digest_of
from demo.processes import wait_until
from service.adapters import redis_cache
from service.adapters.redis_cache import RedisCache
from service.domain.collectable import MODES, Mode
from service.domain.errors import CacheUnreachable
from service.domain.reference import Digest, Repository
from tests.e2e.bed.api import problem
from tests.e2e.bed.collecting import (
    LIVE,
    RESTARTS,
    Client,
    Site,
    await_step,
    damage,
    inspected,
    start,
)
from tests.e2e.bed.redis import PASSWORD, Redis
from tests.e2e.bed.registry import MakeRegistry, RunningRegistry
from tests.e2e.bed.service import MakeService
from tests.e2e.bed.workspace import Workspace

APP = Repository("app")
ENDED = {"succeeded", "failed", "cancelled"}


@pytest.fixture(scope="module")
def server(workspace: Workspace) -> Iterator[Redis]:
    made = Redis(workspace)
    yield made
    made.close()


@pytest.fixture
def redis(server: Redis) -> Redis:
    server.empty()
    return server


@pytest.fixture
def cached(registry: MakeRegistry, redis: Redis) -> RunningRegistry:
    return registry(run=RESTARTS, env=redis.environment())


@pytest.fixture
def site(cached: RunningRegistry, service: MakeService, redis: Redis) -> Site:
    return Site(cached, service(cached, table={"redis_url": redis.url}))


def swept(site: Site) -> str:
    """A layer that is swept by a collection."""
    return digest_of(site.doomed.blobs[-1])


def vouches(site: Site, digest: str) -> bool:
    """Tell whether the registry says of a blob that it is there."""
    return site.registry.ask(f"/v2/app/blobs/{digest}", "HEAD").status == 200


def push_again(site: Site) -> list[object]:
    """Push the image anew whose layers were swept, as docker does it; give what is broken."""
    client = Client(site.registry, "again", 1)
    client.repository = "app"
    client.push(site.doomed, "doomed", threading.Event())
    assert client.acknowledged
    return damage(site.registry, client.acknowledged)


def test_a_collection_that_leaves_the_cache_breaks_the_next_push(site: Site) -> None:
    site.registry.garbage_collect()
    site.registry.restart()
    assert not site.registry.blob_path(swept(site)).exists()
    assert vouches(site, swept(site))
    assert push_again(site)


@pytest.mark.parametrize("mode", MODES)
def test_what_is_swept_is_not_vouched_for(site: Site, redis: Redis, mode: Mode) -> None:
    with redis.client() as client:
        client.set("of somebody else", "1")
    before = inspected(site.registry)
    assert vouches(site, swept(site))
    assert site.collect(mode)["blobs_deleted"] > 0
    assert not site.registry.blob_path(swept(site)).exists()
    assert not vouches(site, swept(site))
    assert push_again(site) == []
    site.require_as_before(before)
    assert "of somebody else" in redis.held()


@pytest.mark.parametrize("mode", ["read-only", "live"])
def test_what_is_swept_is_not_vouched_for_after_a_crash(site: Site, mode: Mode) -> None:
    for step in ("collect", "put-back"):
        site.fill()
        assert vouches(site, swept(site))
        job = site.start(mode)
        await_step(site.service, step)
        site.service.kill()
        site.service.start()
        wait_until(lambda: site.state(job) in ENDED, 60, "ended")  # noqa: B023
        site.registry.wait()
        gone = not site.registry.blob_path(swept(site)).exists()
        assert vouches(site, swept(site)) != gone
        assert push_again(site) == []
        with site.registry.pusher() as pusher:
            pusher.delete("app", site.doomed.digest)


def test_a_redis_that_dies_meanwhile_is_waited_for(site: Site, redis: Redis) -> None:
    before = inspected(site.registry)
    job = site.start("read-only")
    await_step(site.service, "collect")
    redis.server.kill()
    wait_until(lambda: site.state(job) in ENDED, 60, "ended")
    failed = site.state(job) == "failed"
    redis.start()
    wait_until(lambda: inspected(site.registry) == before, 30, "back")
    site.registry.wait()
    # It may have been over before the blow.
    assert failed or not vouches(site, swept(site))
    assert push_again(site) == []


# What is refused, with nothing touched.


def configure(site: Site, redis_url: str | None) -> None:
    """Tell the service of another Redis, or of none."""
    table = {"url": site.registry.url, "container": site.registry.name}
    registries = {"default": table | ({"redis_url": redis_url} if redis_url else {})}
    engines = {"local": {"url": site.registry.engine.host}}
    site.service.configure({"registries": registries, "engines": engines})
    site.service.restart()


def refuses(site: Site, redis_url: str | None, status: int, code: str) -> str:
    """Give what a collection in each mode is told with such a Redis."""
    before, state = inspected(site.registry), site.registry.container.attrs["State"]
    configure(site, redis_url)
    told = [problem(start(site.service, mode=m, **LIVE.get(m, {})), status, code) for m in MODES]
    assert inspected(site.registry) == before
    assert site.registry.container.attrs["State"] == state
    assert PASSWORD not in str(told)
    return str(told[0]["detail"])


def test_what_is_refused(site: Site, redis: Redis) -> None:
    assert "redis_url" in refuses(site, None, 409, "registry-cache-shared")
    wrong = redis.url.replace(PASSWORD, "wrong")
    assert "credentials" in refuses(site, wrong, 502, "registry-cache-unreachable")
    nobody = "redis://127.0.0.1:1/0"
    assert "cannot be reached" in refuses(site, nobody, 502, "registry-cache-unreachable")


def test_another_database_is_not_the_registry_s(site: Site, redis: Redis) -> None:
    before = inspected(site.registry)
    configure(site, f"{redis.url.removesuffix('0')}7")
    job = site.start("read-only")
    wait_until(lambda: site.state(job) in ENDED, 60, "ended")
    error = site.service.ask(f"/v1/jobs/{job}").json()["error"]
    assert error["code"] == "registry-cache-shared"
    site.require_as_before(before)
    assert site.registry.blob_path(swept(site)).exists()


# The adapter.


def test_both_families_are_removed_and_nothing_else(redis: Redis) -> None:
    ours = {f"blobs::sha256:{number}": "1" for number in range(3000)}
    ours |= {f"repository::a/{number}::blobs": "1" for number in range(3000)}
    others = {"blobs:": "1", "repository:": "1", "myblobs::1": "1", "uploads::1": "1"}
    with redis.client() as client, redis.client(3) as other:
        client.mset(ours | others)
        other.mset(ours)
        cache = RedisCache(redis.url)
        cache.check()
        assert client.dbsize() == len(ours) + len(others)
        assert cache.forget() == len(ours)
        assert redis.held() == set(others)
        assert other.dbsize() == len(ours)
        assert cache.forget() == 0


def test_a_blob_is_known_by_either_key(redis: Redis) -> None:
    digest = Digest.of(b"x")
    cache = RedisCache(redis.url)
    assert not cache.holds(APP, digest)
    for key in (f"blobs::{digest}", f"repository::app::blobs::{digest}"):
        redis.empty()
        with redis.client() as client:
            client.hset(key, "digest", str(digest))
        assert cache.holds(APP, digest)
        assert cache.holds(Repository("other"), digest) == key.startswith("blobs")


def no_password(redis: Redis) -> str:
    return f"redis://{redis.host}/0"


def weak_user(redis: Redis) -> str:
    with redis.client() as client:
        client.acl_setuser(
            "weak", enabled=True, passwords=["+weak"], keys=["*"], commands=["+@all", "-unlink"]
        )
    return f"redis://weak:weak@{redis.host}/0"


def not_redis(_: Redis) -> str:
    return "redis://127.0.0.1:1"


@pytest.mark.parametrize(
    ("where", "words"),
    [(no_password, "credentials"), (weak_user, "remove keys"), (not_redis, "cannot be reached")],
)
def test_what_keeps_keys_from_being_removed_is_told(
    redis: Redis, where: Callable[[Redis], str], words: str
) -> None:
    cache = RedisCache(where(redis))
    with redis.client() as client:
        client.set("blobs::something", "1")
    for ask in (cache.check, cache.forget):
        with pytest.raises(CacheUnreachable, match=words) as caught:
            ask()
        assert urlsplit(where(redis)).netloc.rpartition("@")[2] in str(caught.value)


def test_a_replica_is_told(redis: Redis) -> None:
    with redis.client() as client:
        client.replicaof("127.0.0.1", 1)
        try:
            with pytest.raises(CacheUnreachable, match="replica"):
                RedisCache(redis.url).check()
        finally:
            client.replicaof("NO", "ONE")


def test_a_silent_server_is_not_waited_for(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_cache, "READ_SECONDS", 0.2)
    os.kill(redis.server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(CacheUnreachable, match="in time"):
            RedisCache(redis.url).check()
    finally:
        os.kill(redis.server.pid, signal.SIGCONT)
