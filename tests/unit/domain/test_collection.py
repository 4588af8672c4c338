"""Collections on an engine in memory: what they do, and that nothing of them is ever left."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from service.domain.audit import Attempt
from service.domain.collectable import MODES, Mode
from service.domain.collection import AFTERWARDS, STEPS
from service.domain.deletion import RemoveTag
from service.domain.deletion_record import Deletion
from service.domain.errors import EngineUnreachable, JobNotCancellable, RegistryUnreachable
from service.domain.job import Job
from service.domain.ports import Writability
from service.domain.putting_back import HURRY_SECONDS
from service.domain.reference import Digest, Repository, Tag
from service.domain.removal import Remover
from tests.fakes import Behaviour, Built, Died, image, index
from tests.fakes_engine import Ran
from tests.fakes_store import WallClock
from tests.unit.domain.collecting import (
    CONFIGURATION,
    READ_ONLY,
    REPOSITORY,
    ROOT,
    STORAGE,
    FakeBlobCache,
    Place,
)

GARBAGE = {Digest.of(b"12345"), Digest.of(b"1234567")}


@pytest.fixture
def place() -> Place:
    return Place()


def steps() -> list[tuple[Mode, str]]:
    """Every step of every mode, as the product lists them."""
    return [(mode, step) for mode in MODES for step in (*STEPS[mode], *AFTERWARDS)]


def writes() -> list[tuple[Mode, int]]:
    """Every change of the engine that a collection makes, by its number."""
    return [(mode, number + 1) for mode in MODES for number in range(changes(mode))]


def changes(mode: Mode) -> int:
    place = Place()
    place.run(mode=mode)
    return len(place.docker.writes)


def code(job: Job) -> tuple[str, str | None]:
    return job.state, None if job.error is None else str(job.error["code"])


# What it does.


def deleted(place: Place, built: Built, tag: str) -> Deletion:
    place.registry.push(REPOSITORY, built, tag)
    request = RemoveTag(Repository(REPOSITORY), Tag(tag))
    with place.trail.attempt(Attempt("test", "tester")) as change:
        remover = Remover(place.registry, place.store, WallClock())
        return remover.remove(change, "tester", request, dry_run=False)


@pytest.mark.parametrize("dry_run", [True, False])
def test_deletions_that_need_what_was_collected_are_no_longer_restorable(
    place: Place, *, dry_run: bool
) -> None:
    lost = deleted(place, image("lost", layers=[b"12345"]), "lost")
    other = deleted(place, image("other", layers=[b"else"]), "other")
    place.run(dry_run=dry_run)
    records = place.store.deletions
    assert records.get("default", lost.id).restorable is dry_run
    assert records.get("default", other.id).restorable


@pytest.mark.parametrize("mode", MODES)
def test_garbage_goes_and_the_registry_is_as_it_was(place: Place, mode: Mode) -> None:
    job = place.run(mode=mode)
    assert code(job) == ("succeeded", None)
    assert job.result is not None
    place.require_as_it_was()
    assert place.docker.volumes[STORAGE] == {}
    down = {"pulls_down_seconds", "pushes_down_seconds"}
    assert {k: v for k, v in job.result.items() if k not in {*down, "eligible"}} == {
        "mode": mode,
        "dry_run": False,
        "delete_untagged": False,
        "registry_version": "2.8.2",
        "blobs_marked": 2,
        "blobs_eligible": 2,
        "manifests_eligible": 0,
        "blobs_deleted": 2,
        "bytes_eligible": 12,
        "bytes_freed": 12,
        "blobs_unmeasured": 0,
        "verified": {"tags": 1, "manifests": 1, "missing_blobs": []},
    }
    assert set(job.result["eligible"]) == GARBAGE
    assert job.result["pushes_down_seconds"] >= job.result["pulls_down_seconds"] >= 0


@pytest.mark.parametrize("mode", MODES)
def test_the_registry_s_container_is_restarted_in_every_mode(place: Place, mode: Mode) -> None:
    before = place.original.started_at
    place.run(mode=mode)
    assert place.original.started_at > before


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("policy", ["", "no"])
def test_a_policy_that_keeps_it_down_anyway_is_not_touched(mode: Mode, policy: str) -> None:
    place = Place(policy)
    assert place.run(mode=mode).state == "succeeded"
    assert "set_restart_policy" not in {write.kind for write in place.docker.writes}
    assert place.original.host_config["RestartPolicy"]["Name"] == policy


def test_steps_are_those_that_are_listed(place: Place) -> None:
    for mode in MODES:
        place.jobs.steps.clear()
        place.run(mode=mode)
        assert place.jobs.steps == [*STEPS[mode], *AFTERWARDS]


@pytest.mark.parametrize("mode", MODES)
def test_a_dry_run_runs_the_collector_and_nothing_else(place: Place, mode: Mode) -> None:
    job = place.run(mode=mode, dry_run=True)
    assert job.result is not None
    assert [write.kind for write in place.docker.writes] == ["execute"]
    assert (job.result["blobs_eligible"], job.result["blobs_deleted"]) == (2, 0)
    assert (job.result["bytes_eligible"], job.result["bytes_freed"]) == (12, 0)
    assert job.result["verified"] is None
    assert job.result["dry_run"] is True
    place.require_as_it_was()


def test_nothing_can_be_pushed_while_the_collector_runs(place: Place) -> None:
    serving: list[list[str]] = []

    def look(dry_run: bool) -> Ran:  # noqa: FBT001 - as the command line has it
        serving.append([box.name for box in place.registry.serving() if not _read_only(box)])
        return place.collect(dry_run)

    place.speaks(look)
    place.run(mode="read-only")
    place.run(mode="stopped")
    assert serving == [[], [], [], []]


def _read_only(box: Any) -> bool:  # noqa: ANN401 - a Box
    return READ_ONLY in (box.config["Env"] or ())


def test_the_container_cannot_come_back_by_itself_meanwhile(place: Place) -> None:
    running: list[bool] = []

    def reboot(dry_run: bool) -> Ran:  # noqa: FBT001 - as above
        if not dry_run:
            place.docker.reboot()
            running.append(place.original.running)
        return place.collect(dry_run)

    place.speaks(reboot)
    place.run(mode="stopped")
    assert running == [False]
    place.require_as_it_was()


def test_an_empty_registry_is_a_success_with_zeros(place: Place) -> None:
    said = b"failed to garbage collect: failed to mark: filesystem: Path not found: "
    never = Ran([("stderr", said + b"/docker/registry/v2/repositories")], 1)
    place.speaks(lambda _: never)
    place.registry.contents.clear()
    place.docker.volumes[STORAGE].clear()
    for mode in MODES:
        job = place.run(mode=mode)
        assert job.state == "succeeded", job.error
        assert job.result is not None
        found = {job.result[name] for name in job.result if name.startswith(("blobs", "bytes"))}
        assert found == {0}
        place.require_as_it_was()


def test_bytes_are_null_where_the_storage_cannot_be_seen(place: Place) -> None:
    place.configure({"version": 0.1, "storage": {"s3": {"bucket": "b"}}})
    result = place.run().result
    assert result is not None
    assert (result["bytes_eligible"], result["bytes_freed"]) == (None, None)
    assert result["blobs_unmeasured"] == result["blobs_deleted"] == 2


def test_what_becomes_garbage_after_the_measuring_is_told(place: Place) -> None:
    def come(_job: Job, step: str) -> None:
        if step == "collect":
            place.put(b"late")

    job = place.run_watched(come, mode="live")
    assert job.result is not None
    found = [job.result[name] for name in ("blobs_deleted", "bytes_freed", "blobs_unmeasured")]
    assert found == [3, 12, 1]
    said = [line.message for line in place.jobs.log(job.id, 0, 1000) if line.level == "warning"]
    assert any("1 blobs became garbage" in message for message in said)


def test_without_a_catalog_what_it_holds_is_not_verified(place: Place) -> None:
    place.registry.behaviour = Behaviour(catalog=False)
    job = place.run()
    assert job.result is not None
    assert job.result["verified"] is None
    place.require_as_it_was()


def test_what_was_broken_before_is_told(place: Place) -> None:
    place.registry.push("team/other", image("lost", layers=[b"gone"]), "1")
    del place.registry.contents[Repository("team/other")].blobs[Digest.of(b"gone")]
    result = place.run().result
    assert result is not None
    assert result["verified"]["missing_blobs"] == [Digest.of(b"gone")]


# What goes wrong.


@pytest.mark.parametrize("take_over", [True, False], ids=["run again", "dead for good"])
@pytest.mark.parametrize(("mode", "step"), steps())
def test_the_worker_dies_at_a_step(place: Place, mode: Mode, step: str, take_over: bool) -> None:  # noqa: FBT001
    place.jobs.die_at = step
    job = place.run(mode=mode)
    assert job.state == "running"
    if take_over:
        place.jobs.run_all()
    else:
        place.jobs.give_up(job.id)
    expected = "collection-failed" if take_over else "job-died"
    assert code(place.jobs.get(job.id)) == ("failed", expected)
    place.require_as_it_was()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("mode", "number"), writes())
def test_the_worker_dies_at_a_change(place: Place, mode: Mode, number: int, when: Any) -> None:  # noqa: ANN401
    job = place.submit(mode=mode)
    place.docker.die(number, when)
    with pytest.raises(Died):
        place.jobs.run_all()
    place.docker.revive()
    place.jobs.run_all()
    assert code(place.jobs.get(job.id)) == ("failed", "collection-failed")
    place.require_as_it_was()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("mode", "number"), writes())
def test_the_engine_dies_at_a_change(place: Place, mode: Mode, number: int, when: Any) -> None:  # noqa: ANN401
    job = place.submit(mode=mode)
    place.docker.die(number, when, EngineUnreachable("The engine does not answer."))
    place.jobs.run_all()
    assert place.jobs.get(job.id).state == "failed"
    place.docker.reboot()
    place.jobs.aftermath.sweep()
    place.require_as_it_was()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("mode", "number"), writes())
def test_the_connection_breaks_once(place: Place, mode: Mode, number: int, when: Any) -> None:  # noqa: ANN401
    job = place.submit(mode=mode)
    place.docker.die(number, when, EngineUnreachable("It does not answer."), for_good=False)
    place.jobs.run_all()
    ended = place.jobs.get(job.id)
    assert ended.state == "failed"
    place.require_as_it_was()


@pytest.mark.parametrize(("mode", "step"), steps())
def test_cancelling_at_a_step(place: Place, mode: Mode, step: str) -> None:
    asked: list[Job] = []

    def cancel(job: Job, begun: str) -> None:
        if begun == step:
            with suppress(JobNotCancellable):
                asked.append(place.cancel(job.id))

    job = place.run_watched(cancel, mode=mode)
    place.require_as_it_was()
    # Past the point of no return the promise would not be kept, so it is not made.
    assert job.state == ("cancelled" if asked else "succeeded")
    assert bool(asked) == (step not in AFTERWARDS)


def silenced(
    place: Place, monkeypatch: pytest.MonkeyPatch, times: int
) -> Callable[[Job, str], None]:
    """Have the registry not answer so often once it is put back."""
    told = place.registry.writability
    left = [times]

    def answer(*repository: Repository) -> Writability:
        if left[0]:
            left[0] -= 1
            raise RegistryUnreachable("The registry refuses the connection.")
        return told(*repository)

    def begin(job: Job, step: str) -> None:
        if step == "measure":
            place.cancel(job.id)
        if step == "put-back":
            monkeypatch.setattr(place.registry, "writability", answer)

    return begin


def test_a_cancelled_one_ends_when_the_registry_answers_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for mode in MODES:
        job = place.run_watched(silenced(place, monkeypatch, 3), mode=mode)
        assert job.state == "cancelled"
        assert place.registry.writability().delete_enabled  # at once
        monkeypatch.undo()
        place.require_as_it_was()


def test_a_registry_that_is_silent_after_a_cancelled_one_is_told(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.domain.collection.ANSWER_SECONDS", 0.05)
    job = place.run_watched(silenced(place, monkeypatch, 10_000), mode="live")
    assert job.state == "cancelled"  # as was promised
    (told,) = [line.message for line in place.jobs.log(job.id, 0, 99) if line.level == "error"]
    for words in ("was cancelled", "is as before, but", "does not answer"):
        assert words in told


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("ran", "words"),
    [
        pytest.param(Ran([("stdout", b"Usage: registry")]), "without its summary", id="flag"),
        pytest.param(Ran([("stdout", b"\xff\x00 what?")], 3), "exit code 3", id="nonsense"),
        pytest.param(
            Ran([("stderr", b"failed to garbage collect: no space left on device")], 1),
            "no space left on device",
            id="disk full",
        ),
    ],
)
def test_the_collector_fails(place: Place, mode: Mode, ran: Ran, words: str) -> None:
    for fails_dry in (True, False):
        place.speaks(_failing(place, ran, dry=fails_dry))
        job = place.run(mode=mode)
        assert code(job) == ("failed", "collection-failed")
        assert job.error is not None
        assert words in job.error["detail"]
        place.require_as_it_was()


def _failing(place: Place, ran: Ran, *, dry: bool) -> Callable[[bool], Ran]:
    return lambda dry_run: ran if dry_run == dry else place.collect(dry_run)


def test_a_program_that_is_not_there(place: Place) -> None:
    place.docker.programs.clear()
    job = place.run(mode="live")
    assert code(job) == ("failed", "collection-failed")
    place.require_as_it_was()


def test_a_stand_in_that_takes_pushes_is_not_collected_in(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.domain.collection.READ_ONLY", {"OTHER": "1"})
    job = place.run()
    assert code(job) == ("failed", "collection-failed")
    assert "not read-only" in str(job.error)
    assert place.docker.volumes[STORAGE]
    place.require_as_it_was()


def test_an_engine_that_restarts_while_the_registry_is_proven(place: Place) -> None:
    place.original.host_config["RestartPolicy"] = {"Name": "no", "MaximumRetryCount": 0}

    def reboot(_job: Job, step: str) -> None:
        if step == "prove":
            place.docker.reboot()
            assert not place.original.running

    job = place.run_watched(reboot)
    assert code(job) == ("failed", "collection-failed")
    assert "ended with exit code" in str(job.error)
    assert place.original.running
    assert not place.jobs.records.compensations()


def test_a_put_back_that_fails_after_the_collection_is_told(place: Place) -> None:
    def die(_job: Job, step: str) -> None:
        if step == "put-back":
            place.docker.die(1, "before", EngineUnreachable("It does not answer."))

    job = place.run_watched(die)
    assert code(job) == ("failed", "collection-failed")
    assert "Garbage is collected" in str(job.error)
    assert "tried again" in str(job.error)
    place.docker.reboot()
    place.jobs.aftermath.sweep()
    place.require_as_it_was()


def test_what_it_holds_cannot_be_looked_at_to_the_end(place: Place) -> None:
    asked: list[str] = []

    def fail(*_: object) -> None:
        asked.append("catalog")
        raise RegistryUnreachable("The connection broke.")

    def cut(_job: Job, step: str) -> None:
        if step == "prove":
            monkeypatch.setattr(place.registry, "repositories", fail)

    with pytest.MonkeyPatch.context() as monkeypatch:
        job = place.run_watched(cut)
    assert asked
    assert code(job) == ("failed", "collection-failed")
    assert "runs again as before" in str(job.error)
    place.require_as_it_was()


def test_a_registry_that_should_be_back_already_is_not_waited_for_long(place: Place) -> None:
    place.run(mode="live")
    usual = place.original.stopped_in
    place.jobs.die_at = "put-back"
    place.run(mode="live")
    place.jobs.run_all()
    # None: as long as its container says.
    assert (usual, place.original.stopped_in) == (None, HURRY_SECONDS)
    place.require_as_it_was()


# What is refused, with nothing touched.


def refused(place: Place, **params: object) -> tuple[str, str]:
    job = place.run(**params)
    assert place.docker.writes == []
    assert job.error is not None
    return str(job.error["code"]), str(job.error["detail"])


def test_a_container_that_is_not_there(place: Place) -> None:
    place.reference = "other"
    assert refused(place)[0] == "container-unknown"


@pytest.mark.parametrize(
    ("status", "word"), [("exited", "exited"), ("restarting", "restarting"), ("paused", "paused")]
)
@pytest.mark.parametrize("mode", MODES)
def test_a_container_that_does_not_run(place: Place, mode: Mode, status: Any, word: str) -> None:  # noqa: ANN401
    place.original.status = status
    found = refused(place, mode=mode)
    assert found[0] == "registry-not-collectable"
    assert word in found[1]


@pytest.mark.parametrize("document", [None, [], {}, {"version": 3}, {"storage": {}}])
def test_what_is_no_configuration_of_a_registry(place: Place, document: object) -> None:
    place.configure(document)
    assert refused(place)[0] == "registry-not-collectable"


def test_a_container_that_is_no_registry(place: Place) -> None:
    place.docker.add_image("web:latest", Cmd=["httpd"])
    place.docker.run("web", "web")
    place.reference = "web"
    code_, detail = refused(place)
    assert code_ == "registry-not-collectable"
    assert "REGISTRY_CONFIGURATION_PATH" in detail


def test_a_container_that_vanishes_when_it_stops(place: Place) -> None:
    place.restart(AutoRemove=True, policy="no")
    assert "--rm" in refused(place)[1]
    assert place.run(mode="live").state == "succeeded"
    assert place.original.running


def test_a_task_of_a_swarm(place: Place) -> None:
    place.original.config["Labels"] = {"com.docker.swarm.task.id": "1"}
    assert "swarm" in refused(place)[1]


def test_a_network_that_others_use(place: Place) -> None:
    mode = {"NetworkMode": f"container:{place.original.id}"}
    place.docker.add_image("web:latest", Cmd=["httpd"])
    place.docker.run("web", "web", HostConfig=mode)
    assert "web" in refused(place)[1]


def test_a_storage_in_no_volume(place: Place) -> None:
    place.configure({"version": 0.1, "storage": {"filesystem": {"rootdirectory": "/srv"}}})
    assert "/srv" in refused(place)[1]


@pytest.mark.parametrize("mode", MODES)
def test_a_cache_that_outlives_a_restart(place: Place, mode: Mode) -> None:
    storage = {**CONFIGURATION["storage"], "cache": {"blobdescriptor": "redis"}}
    place.configure({"version": 0.1, "storage": storage})
    assert refused(place, mode=mode)[0] == "registry-cache-shared"


# A cache outside of the registry.


@pytest.fixture
def cached(place: Place) -> Place:
    """A registry that caches in a Redis, which is configured."""
    storage = {**CONFIGURATION["storage"], "cache": {"blobdescriptor": "redis"}}
    place.configure({"version": 0.1, "storage": storage})
    place.cache = FakeBlobCache(place.docker)
    place.cache.known = {blob for held in place.registry.contents.values() for blob in held.blobs}
    return place


def cache_of(place: Place) -> FakeBlobCache:
    assert place.cache is not None
    return place.cache


@pytest.mark.parametrize("mode", MODES)
def test_a_cache_is_emptied_while_nothing_serves(cached: Place, mode: Mode) -> None:
    job = cached.run(mode=mode)
    assert code(job) == ("succeeded", None)
    assert cache_of(cached).emptied == [[]]
    assert cache_of(cached).known == set()
    cached.require_as_it_was()


@pytest.mark.parametrize("mode", MODES)
def test_a_cache_is_left_alone_by_a_dry_run(cached: Place, mode: Mode) -> None:
    assert cached.run(mode=mode, dry_run=True).state == "succeeded"
    assert cache_of(cached).emptied == []


@pytest.mark.parametrize("mode", MODES)
def test_a_cache_that_cannot_be_reached_is_told_before_anything_is_touched(
    cached: Place, mode: Mode
) -> None:
    cache_of(cached).reachable = False
    assert refused(cached, mode=mode)[0] == "registry-cache-unreachable"


@pytest.mark.parametrize("mode", MODES)
def test_a_cache_that_the_registry_does_not_fill_is_not_its_own(cached: Place, mode: Mode) -> None:
    cache_of(cached).known.clear()
    found = refused(cached, mode=mode)
    assert found[0] == "registry-cache-shared"
    assert "not the one" in found[1]


def test_a_registry_that_holds_nothing_is_taken_at_its_word(cached: Place) -> None:
    cached.registry.contents.clear()
    cache_of(cached).known.clear()
    assert cached.run().state == "succeeded"
    assert cache_of(cached).emptied == [[]]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("mode", "number"), writes())
def test_a_cache_is_emptied_though_the_worker_died(
    cached: Place,
    mode: Mode,
    number: int,
    when: Any,  # noqa: ANN401
) -> None:
    garbage = len(cached.docker.volumes[STORAGE])
    cached.submit(mode=mode)
    cached.docker.die(number, when)
    with pytest.raises(Died):
        cached.jobs.run_all()
    cached.docker.revive()
    cached.jobs.run_all()
    swept = len(cached.docker.volumes[STORAGE]) < garbage
    assert cache_of(cached).emptied or not swept
    assert all(running == [] for running in cache_of(cached).emptied[:1])
    cached.require_as_it_was()


@pytest.mark.parametrize("mode", MODES)
def test_a_registry_does_not_serve_what_a_cache_vouches_for_in_vain(
    cached: Place, mode: Mode
) -> None:
    def lose(dry_run: bool) -> Ran:  # noqa: FBT001 - as the command line has it
        cache_of(cached).reachable = dry_run
        return cached.collect(dry_run)

    cached.speaks(lose)
    job = cached.run(mode=mode)
    assert code(job) == ("failed", "collection-failed")
    assert "Redis" in str(job.error)
    if mode == "read-only":
        # Pulls go on until the Redis is back.
        assert all(_read_only(box) for box in cached.registry.serving())
        assert cached.registry.serving()
    cached.jobs.aftermath.sweep()
    assert cache_of(cached).emptied == []
    cache_of(cached).reachable = True
    cached.jobs.aftermath.sweep()
    assert cache_of(cached).emptied == [[]]
    cached.require_as_it_was()


def test_a_cache_whose_address_was_taken_away_is_not_forgotten(cached: Place) -> None:
    kept = cache_of(cached)
    cached.jobs.die_at = "put-back"
    cached.run(mode="stopped")
    cached.cache = None
    cached.jobs.run_all()
    assert not cached.original.running
    cached.cache = kept
    cached.jobs.aftermath.sweep()
    assert kept.emptied == [[]]
    cached.require_as_it_was()


def test_in_mode_live_it_must_be_possible_to_stop_it(cached: Place) -> None:
    cached.original.host_config["AutoRemove"] = True
    found = refused(cached, mode="live")
    assert found[0] == "registry-not-collectable"
    assert "mode live" not in found[1]


def test_a_configuration_that_was_copied_in(place: Place) -> None:
    place.original.mounts = [m for m in place.original.mounts if m["Destination"] == ROOT]
    place.original.host_config["Binds"] = [f"{STORAGE}:{ROOT}"]
    place.configure({**CONFIGURATION, "log": {}})
    for mode in ("read-only", "stopped"):
        job = place.run(mode=mode)
        assert "changed in the container itself" in str(job.error)
        place.require_as_it_was()


def test_untagged_manifests_of_an_old_registry_with_an_index(place: Place) -> None:
    one = image("one")
    place.registry.push(REPOSITORY, one)
    place.registry.push(REPOSITORY, index(one), "all")
    assert refused(place, delete_untagged=True)[0] == "delete-untagged-unsafe"
    place.registry_version = "3.0.0"
    assert place.run(delete_untagged=True).state == "succeeded"


def test_an_index_that_comes_at_the_last_moment(place: Place) -> None:
    one = image("one")

    def push(_job: Job, step: str) -> None:
        if step == "stop-registry":
            place.registry.push(REPOSITORY, one)
            place.registry.push(REPOSITORY, index(one), "all")

    job = place.run_watched(push, delete_untagged=True)
    assert "delete_untagged" in str(job.error)
    assert place.docker.volumes[STORAGE]
    place.require_as_it_was()


def test_a_registry_that_does_not_answer_is_left_alone(place: Place) -> None:
    place.registry.die(1, "before", EngineUnreachable("x"))
    place.registry.engine = type(place.docker)()  # nobody serves it
    assert refused(place)[0] == "registry-unreachable"
