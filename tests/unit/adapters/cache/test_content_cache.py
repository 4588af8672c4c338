from __future__ import annotations

import multiprocessing
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.adapters.cache import ContentCache
from service.adapters.cache.content import BATCH, LARGE
from service.adapters.cache.memory import RecentBytes
from service.adapters.cache.shelf import LOCK_SECONDS, PAUSE_SECONDS, TOUCH_SECONDS, Shelf
from service.domain.reference import Digest

MEBIBYTE = 1024 * 1024
BODY = b'{"schemaVersion": 2}'
DIGEST = Digest.of(BODY)
OpenCache = Callable[..., ContentCache]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "made" / "when-needed"


@pytest.fixture
def cache(directory: Path) -> Iterator[OpenCache]:
    """Open caches, each with an empty memory as in a fresh process."""
    opened: list[ContentCache] = []

    def make(limit: int = 64 * MEBIBYTE, at: Path = directory) -> ContentCache:
        opened.append(ContentCache(at, limit))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def files(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.iterdir())


def damage(directory: Path, body: bytes) -> None:
    with sqlite3.connect(directory / "content.db") as connection:
        connection.execute("UPDATE content SET body = ?", (body,))
    connection.close()


def test_gives_back_what_was_put(cache: OpenCache) -> None:
    cache().put(DIGEST, BODY)
    assert cache().get(DIGEST) == BODY
    assert cache().has(DIGEST)


def test_knows_nothing_of_what_was_not_put(cache: OpenCache) -> None:
    assert cache().get(DIGEST) is None
    assert not cache().has(DIGEST)


def test_damaged_content_is_removed_and_reads_as_absent(cache: OpenCache, directory: Path) -> None:
    cache().put(DIGEST, BODY)
    damage(directory, b"other bytes")
    fresh = cache()
    assert fresh.get(DIGEST) is None
    assert not fresh.has(DIGEST)
    fresh.put(DIGEST, BODY)
    assert cache().get(DIGEST) == BODY


@pytest.mark.parametrize("garbage", [b"garbage " * 2000, b"SQLite format 3\0" + b"\xff" * 9000])
def test_a_damaged_file_is_replaced(cache: OpenCache, directory: Path, garbage: bytes) -> None:
    first = cache()
    first.put(DIGEST, BODY)
    first.close()
    (directory / "content.db").write_bytes(garbage)
    second = cache()
    assert second.get(DIGEST) is None
    second.put(DIGEST, BODY)
    second.put(DIGEST, BODY)
    assert cache().get(DIGEST) == BODY


def test_an_unwritable_directory_only_means_no_caching(cache: OpenCache, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    one = cache(at=tmp_path / "file" / "below")
    one.put(DIGEST, BODY)
    assert one.get(DIGEST) == BODY
    assert cache(at=tmp_path / "file" / "below").get(DIGEST) is None


def test_a_locked_file_only_means_no_caching(
    cache: OpenCache, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.adapters.cache.shelf.LOCK_SECONDS", 0.0)
    one = cache()
    assert one.get(DIGEST) is None
    blocker = sqlite3.connect(directory / "content.db", isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    one.put(DIGEST, BODY)
    blocker.execute("ROLLBACK")
    blocker.close()
    assert cache().get(DIGEST) is None
    assert LOCK_SECONDS < 1


def test_the_disk_stays_within_its_limit(cache: OpenCache, directory: Path) -> None:
    one = cache(limit=MEBIBYTE)
    for number in range(300):
        body = os.urandom(20_000) + bytes([number % 256])
        one.put(Digest.of(body), body)
    assert (directory / "content.db").stat().st_size <= MEBIBYTE
    assert files(directory) <= 4 * MEBIBYTE


def test_a_lowered_limit_starts_anew(cache: OpenCache, directory: Path) -> None:
    big = cache()
    for _ in range(100):
        body = os.urandom(50_000)
        big.put(Digest.of(body), body)
    big.close()
    cache(limit=MEBIBYTE).put(DIGEST, BODY)
    assert (directory / "content.db").stat().st_size <= MEBIBYTE


def test_what_would_push_out_too_much_is_not_kept(cache: OpenCache) -> None:
    body = bytes(MEBIBYTE // 4)
    cache(limit=MEBIBYTE).put(Digest.of(body), body)
    assert not cache(limit=MEBIBYTE).has(Digest.of(body))


def test_only_sha256_is_kept(cache: OpenCache) -> None:
    digest = Digest.listed("sha512:" + "a" * 128)
    one = cache()
    one.put(digest, BODY)
    assert one.get(digest) is None
    assert not one.has(digest)


def test_many_are_kept_as_if_one_by_one(cache: OpenCache) -> None:
    bodies = [f"body {number}".encode() for number in range(2 * BATCH + 1)] + [bytes(LARGE)]
    one = cache()
    with one.filling() as put:
        for body in bodies:
            put(Digest.of(body), body)
            assert one.get(Digest.of(body)) == body
        put(Digest.listed("sha512:" + "a" * 128), BODY)
    other = cache()
    assert [other.get(Digest.of(body)) for body in bodies] == bodies


def test_what_is_held_back_is_bounded_and_written_whatever_happens(cache: OpenCache) -> None:
    bodies = [f"body {number}".encode() for number in range(BATCH + 1)]
    one, other = cache(), cache()

    def break_off() -> None:
        with one.filling() as put:
            for body in bodies:
                put(Digest.of(body), body)
            assert other.has(Digest.of(bodies[0]))
            assert not other.has(Digest.of(bodies[-1]))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    assert other.has(Digest.of(bodies[-1]))


def test_of_many_those_find_room_that_there_is_room_for(cache: OpenCache) -> None:
    one = cache(limit=MEBIBYTE)
    bodies = [os.urandom(30_000) for _ in range(BATCH - 1)]
    with one.filling() as put:
        for body in bodies:
            put(Digest.of(body), body)
    kept = [cache(limit=MEBIBYTE).has(Digest.of(body)) for body in bodies]
    assert kept[-1]
    assert 10 < sum(kept) < 40


def test_the_least_recently_used_goes_first(directory: Path) -> None:
    clock = Clock()
    shelf = Shelf(directory / "content.db", MEBIBYTE, clock)
    shelf.write([(b"old", bytes(1000))])
    shelf.write([(b"used", bytes(1000))])
    for number in range(60):
        if number % 20 == 0:
            clock.now += TOUCH_SECONDS
            shelf.read(b"used")
        shelf.write([(b"%d" % number, bytes(20_000))])
    assert not shelf.has(b"old")
    assert shelf.has(b"used")
    shelf.close()


def test_what_could_not_be_opened_is_left_alone_for_a_while(tmp_path: Path) -> None:
    clock = Clock()
    folder = tmp_path / "folder"
    folder.write_text("in the way")
    shelf = Shelf(folder / "content.db", MEBIBYTE, clock)
    with pytest.raises(OSError, match="exists"):
        shelf.has(b"x")
    folder.unlink()
    with pytest.raises(sqlite3.OperationalError, match="a moment ago"):
        shelf.has(b"x")
    clock.now += PAUSE_SECONDS
    assert not shelf.has(b"x")
    shelf.close()


def fill(directory: Path, seed: int) -> None:
    one = ContentCache(directory, 2 * MEBIBYTE)
    for number in range(200):
        body = f"{seed % 2} {number} ".encode() * 1000
        one.put(Digest.of(body), body)
        found = one.get(Digest.of(body))
        assert found in (body, None)
    one.close()


def test_processes_share_the_directory(directory: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=fill, args=(directory, seed)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert (directory / "content.db").stat().st_size <= 2 * MEBIBYTE


def test_threads_share_a_cache(cache: OpenCache) -> None:
    one = cache()
    bodies = [f"body {number}".encode() for number in range(50)]
    failures: list[bytes] = []

    def work() -> None:
        for body in bodies:
            one.put(Digest.of(body), body)
            if one.get(Digest.of(body)) != body:
                failures.append(body)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_memory_holds_no_more_than_its_limit() -> None:
    recent = RecentBytes(1000)
    for number in range(100):
        recent.put(str(number), bytes(100))
    recent.put("large", bytes(500))
    held = [number for number in range(100) if str(number) in recent]
    assert held == list(range(90, 100))
    assert "large" not in recent


def test_memory_forgets_what_was_used_least_recently() -> None:
    recent = RecentBytes(400)
    for name in ("a", "b", "c", "d"):
        recent.put(name, bytes(100))
    recent.get("a")
    recent.put("e", bytes(100))
    assert "a" in recent
    assert "b" not in recent


def test_memory_counts_a_replaced_body_once() -> None:
    recent = RecentBytes(400)
    for _ in range(10):
        recent.put("a", bytes(100))
    recent.put("b", bytes(100))
    assert recent.get("a") == bytes(100)
    assert recent.get("b") == bytes(100)
