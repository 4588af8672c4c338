"""The test bed is what it says: each shape is so, each image is real, nothing stays behind."""

import http.client
import json
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from demo import images
from demo.images import Manifest, sample
from demo.processes import wait_until
from tests.e2e.bed import workspace as bed
from tests.e2e.bed.clients import DockerCommand, layout, skopeo_copy, skopeo_inspect
from tests.e2e.bed.engine import LABEL, Engine, clear_dead
from tests.e2e.bed.http import Answer, ask
from tests.e2e.bed.postgres import Postgres
from tests.e2e.bed.proxy import WRITES, Proxy, Seen, answers, calls_after, cuts, delays, drops
from tests.e2e.bed.registry import FOREIGN_LAYERS, MakeRegistry, RunningRegistry
from tests.e2e.bed.service import MakeService

ZEROS = "sha256:" + 64 * "0"
MakeProxy = Callable[[RunningRegistry], Proxy]


def delete_nothing(registry: RunningRegistry) -> Answer:
    return registry.ask(f"/v2/any/manifests/{ZEROS}", "DELETE")


def fill(registry: RunningRegistry, manifest: Manifest, reference: str = "app:1") -> str:
    repository, _, tag = reference.partition(":")
    with registry.pusher() as pusher:
        return pusher.push(repository, manifest, *([tag] if tag else []))


def test_a_new_registry_is_empty(registry: MakeRegistry) -> None:
    assert registry().snapshot() == {}


def test_delete_is_on_when_asked(registry: MakeRegistry) -> None:
    assert delete_nothing(registry()).status == 404


def test_delete_is_off_when_asked(registry: MakeRegistry) -> None:
    assert delete_nothing(registry(delete=False)).status == 405


def test_read_only_keeps_what_it_was_seeded_with(registry: MakeRegistry) -> None:
    filled = registry()
    fill(filled, sample("one"))
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
    fill(made, sample("one"))
    assert made.snapshot() == {"app": {"1": sample("one").digest}}


def test_tls_needs_its_ca(registry: MakeRegistry) -> None:
    made = registry(tls=True)
    with pytest.raises(ssl.SSLCertVerificationError):
        made.ask("/v2/", context=ssl.create_default_context())
    fill(made, sample("one"))
    assert made.snapshot() == {"app": {"1": sample("one").digest}}


def test_tls_may_need_a_client_certificate(registry: MakeRegistry) -> None:
    made = registry(tls="client", htpasswd=("ada", "s3cret"))
    assert made.authority is not None
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        made.ask("/v2/", context=made.authority.trust())
    fill(made, sample("one"))
    assert made.snapshot() == {"app": {"1": sample("one").digest}}


def test_a_restart_keeps_container_and_content(registry: MakeRegistry) -> None:
    made = registry()
    fill(made, sample("one"))
    before = (made.id, made.snapshot())
    made.restart()
    assert (made.id, made.snapshot()) == before


def test_storage_can_be_damaged(registry: MakeRegistry) -> None:
    made = registry()
    digest = fill(made, sample("one"))
    made.blob_path(digest).unlink()
    made.restart()
    assert made.snapshot() == {"app": {"1": None}}


def test_collection_removes_what_no_manifest_has(registry: MakeRegistry) -> None:
    made = registry()
    with made.pusher() as pusher:
        pusher.push("app", sample("one"), "1")
        lost = pusher.blob("app", b"nobody's")
    assert lost in made.garbage_collect(dry_run=True).stdout
    assert made.blob_path(lost).exists()
    assert made.garbage_collect().exit_code == 0
    assert not made.blob_path(lost).exists()


IMAGE = sample("app")
IMAGES = {
    "docker": sample("app", flavour=images.DOCKER),
    "oci": IMAGE,
    "docker-list": images.multi_arch("app", flavour=images.DOCKER),
    "oci-index": images.multi_arch("app"),
    "attested": images.multi_arch("app", attested=True),
    "artifact": images.artifact(b"a list"),
    "signature": images.signature(IMAGE),
    "referrer": images.artifact(b"a list", subject=IMAGE),
    "fallback-tag": images.referrers_index([images.artifact(b"a list", subject=IMAGE)]),
    "foreign-docker": images.image([images.foreign_layer()], flavour=images.DOCKER),
    "foreign-oci": images.image([images.foreign_layer()]),
}


@pytest.mark.parametrize("manifest", IMAGES.values(), ids=IMAGES.keys())
def test_an_image_is_served_as_it_was_built(registry: MakeRegistry, manifest: Manifest) -> None:
    made = registry(env=FOREIGN_LAYERS)
    digest = fill(made, manifest)
    assert made.snapshot() == {"app": {"1": digest}}
    assert skopeo_inspect((made, "app:1"), "--raw") == json.loads(manifest.body)


def test_an_image_is_built_the_same_each_time() -> None:
    assert IMAGES["docker"] == sample("app", flavour=images.DOCKER)
    assert IMAGES["oci-index"] == images.multi_arch("app")


def test_an_untagged_image_is_there_by_digest(registry: MakeRegistry) -> None:
    made = registry()
    with made.pusher() as pusher:
        digest = pusher.push("app", IMAGE)
    assert made.tags("app") == {}
    assert made.digest("app", digest) == digest


def test_a_blob_known_elsewhere_is_mounted(registry: MakeRegistry, proxy: MakeProxy) -> None:
    made = registry()
    front = proxy(made)
    with images.Pusher(front.url) as pusher:
        pusher.push("one", IMAGE, "1")
        uploads = len(front.writes())
        pusher.push("two", IMAGE, "1")
    assert len(front.writes()[uploads:]) == len(IMAGE.blobs) + 1
    assert made.snapshot() == {"one": {"1": IMAGE.digest}, "two": {"1": IMAGE.digest}}


def test_docker_pushes_and_pulls(
    registry: MakeRegistry, docker_command: DockerCommand, engine: Engine
) -> None:
    made = registry(htpasswd=("ada", "s3cret"))
    pushed = docker_command.push(engine.busybox_image(), made, "team/box:1")
    assert made.snapshot() == {"team/box": {"1": pushed}}
    pulled = docker_command.pull(made, "team/box:1")
    assert pulled == engine.client.images.get(engine.busybox_image()).id
    docker_command("rmi", f"{made.host}/team/box:1")


@pytest.mark.parametrize("flavour", [images.DOCKER, images.OCI], ids=["docker", "oci"])
def test_a_built_image_runs(
    registry: MakeRegistry, docker_command: DockerCommand, flavour: images.Flavour
) -> None:
    made = registry()
    fill(made, images.multi_arch("hello", flavour=flavour))
    image = docker_command.pull(made, "app:1")
    assert docker_command("run", "--rm", "--network", "none", image) == "hello amd64\n"
    docker_command("rmi", image)


@pytest.mark.parametrize("name", ["oci", "oci-index", "docker-list"])
def test_skopeo_copies_by_a_layout(registry: MakeRegistry, tmp_path: Path, name: str) -> None:
    source, target = registry(), registry(tls=True, htpasswd=("ada", "s3cret"))
    digest = fill(source, IMAGES[name])
    between = layout(tmp_path, "app") if name.startswith("oci") else f"dir:{tmp_path}"
    skopeo_copy((source, "app:1"), between, "--all")
    skopeo_copy(between, (target, "app:1"), "--all")
    assert target.snapshot() == {"app": {"1": digest}}


def test_the_proxy_records_and_passes_on(
    registry: MakeRegistry, proxy: MakeProxy, docker_command: DockerCommand, engine: Engine
) -> None:
    made = registry()
    front = proxy(made)
    name = f"{front.host}/box:1"
    docker_command("tag", engine.busybox_image(), name)
    docker_command("push", name)
    docker_command("rmi", name)
    assert made.snapshot().keys() == {"box"}
    assert Seen("PUT", "/v2/box/manifests/1", 201) in front.writes()


def test_the_proxy_spoils_what_it_is_told_to(registry: MakeRegistry, proxy: MakeProxy) -> None:
    made = registry()
    fill(made, IMAGE)
    front = proxy(made)
    front.rule(answers(429, {"Retry-After": "1"}), path="_catalog", skip=1, times=2)
    found = [ask(f"{front.url}/v2/_catalog") for _ in range(4)]
    assert [one.status for one in found] == [200, 429, 429, 200]
    assert found[1].headers["retry-after"] == "1"
    front.rule(cuts(), path="tags/list", times=1)
    with pytest.raises(http.client.IncompleteRead):
        ask(f"{front.url}/v2/app/tags/list")
    front.rule(drops(), path="tags/list", times=1)
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        ask(f"{front.url}/v2/app/tags/list")
    front.rule(delays(0.01), path="tags/list")
    assert ask(f"{front.url}/v2/app/tags/list").json()["tags"] == ["1"]


def test_the_proxy_calls_after_a_chosen_write(registry: MakeRegistry, proxy: MakeProxy) -> None:
    made = registry()
    front = proxy(made)
    seen: list[dict[str, dict[str, str | None]]] = []
    front.rule(calls_after(lambda: seen.append(made.snapshot())), method=WRITES, skip=4, times=1)
    lonely = images.artifact(b"x")  # two blobs of two writes each, then the manifest
    with images.Pusher(front.url) as pusher, pytest.raises(OSError, match="Connection aborted"):
        pusher.push("app", lonely, "1")
    assert seen == [{"app": {"1": lonely.digest}}]


def test_each_database_is_new(postgres: Postgres, database_url: str) -> None:
    name = database_url.rpartition("/")[2]
    assert postgres.sql("SELECT count(*) FROM pg_stat_user_tables", name) == "0\n"


def test_the_service_is_killed_whole_and_starts_again(
    registry: MakeRegistry, service: MakeService
) -> None:
    made = service(registry(htpasswd=("ada", "s3cret"), tls=True))
    assert made.child is not None
    assert made.ask("/v1/me").status == 200
    assert made.ask("/v1/me", token=None).status == 401
    tree = bed.family(made.child.pid)
    made.kill()
    assert not any(map(bed.is_alive, tree))
    made.start()
    assert made.ask("/v1/me").status == 200
    assert made.stop() == 0


LEAVES_EVERYTHING = """
import os, signal
from tests.e2e.bed.workspace import Workspace
from tests.e2e.bed.engine import start_private
from tests.e2e.bed.postgres import Postgres
from tests.e2e.bed.registry import Shape, open_registry
place = Workspace()
engine = start_private(place)
registry = open_registry(engine, engine.registry_image("built"), Shape())
Postgres(place)
print(place.path, engine.daemon.pid, flush=True)
os.kill(engine.daemon.pid, signal.SIGKILL)  # the worst case: its containers live on
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_run_leaves_the_next_removes() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LEAVES_EVERYTHING], capture_output=True, text=True, check=False
    )
    path, pid = ended.stdout.split()
    folder = Path(path)
    assert bed.shims(folder)
    assert bed.mounts(folder)
    sockets = bed.sockets(folder)
    assert sockets
    bed.sweep()
    assert not any(one.exists() for one in sockets)
    assert not folder.exists()
    assert not bed.shims(folder)
    assert not bed.mounts(folder)
    wait_until(lambda: bed.start_time(int(pid)) is None, 10, "dockerd gone")
    assert [one for one in bed.pids() if path in command(one)] == []


def test_a_run_that_ends_leaves_nothing() -> None:
    polite = LEAVES_EVERYTHING.partition("os.kill")[0] + "engine.close(); place.close()"
    ended = subprocess.run(
        [sys.executable, "-c", polite], capture_output=True, text=True, check=True
    )
    path, _ = ended.stdout.split()
    assert not Path(path).exists()
    assert not bed.mounts(Path(path))
    assert [one for one in bed.pids() if path in command(one)] == []


def test_a_shared_engine_is_cleared_of_dead_runs_alone(engine: Engine) -> None:
    labels = [{LABEL: "1-0"}, engine.labels]
    dead, alive = (
        engine.client.containers.create(engine.busybox_image(), network_mode="none", labels=one)
        for one in labels
    )
    clear_dead(engine.client)
    left = [one.id for one in engine.client.containers.list(all=True)]
    assert alive.id in left
    assert dead.id not in left
    alive.remove()


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""
