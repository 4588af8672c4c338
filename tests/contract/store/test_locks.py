from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from service.adapters.store import SqlStore
from service.adapters.store.locks import PostgresLocks
from service.domain.errors import RepositoryBusy
from tests.contract.store.conftest import Place, WholeStore
from tests.e2e.bed.postgres import Postgres

NAME = "repository/default/team/app"
HOLDER = f"""
import sys, time
from pathlib import Path
from service.adapters.store import SqlStore
from service.adapters.store.locks import PostgresLocks
from tests.fakes_store import WallClock
store = SqlStore(sys.argv[1], Path(sys.argv[2]), WallClock())
with store.locks.hold("{NAME}", 30):
    print("held", flush=True)
    time.sleep(float(sys.argv[3]))
"""
LONG = "300"


@contextmanager
def holder(place: Place, seconds: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    command = [sys.executable, "-c", HOLDER, place.url, str(place.data_dir), seconds]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_a_held_lock_is_busy_and_free_again_afterwards(store: WholeStore) -> None:
    with store.locks.hold(NAME, 0):
        with pytest.raises(RepositoryBusy) as caught, store.locks.hold(NAME, 0):
            pass
        assert NAME in caught.value.detail
    with store.locks.hold(NAME, 0):
        pass


def test_different_names_do_not_wait_for_each_other(store: WholeStore) -> None:
    with store.locks.hold(NAME, 0), store.locks.hold(NAME + "/other", 0):
        pass


def test_an_error_frees_the_lock(store: WholeStore) -> None:
    with pytest.raises(KeyError), store.locks.hold(NAME, 0):
        raise KeyError
    with store.locks.hold(NAME, 0):
        pass


def test_whoever_waits_gets_the_lock_when_it_is_freed(store: WholeStore) -> None:
    order = []
    with ExitStack() as stack:
        stack.enter_context(store.locks.hold(NAME, 0))

        def wait() -> None:
            with store.locks.hold(NAME, 60):
                order.append("waiter")

        thread = threading.Thread(target=wait)
        thread.start()
        order.append("first")
    thread.join()
    assert order == ["first", "waiter"]


def test_threads_exclude_each_other(store: WholeStore) -> None:
    inside, most = [0], [0]

    def work() -> None:
        for _ in range(10):
            with store.locks.hold(NAME, 60):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_processes_exclude_each_other(place: Place, sql_store: SqlStore) -> None:
    with holder(place, LONG):
        with pytest.raises(RepositoryBusy), sql_store.locks.hold(NAME, 0.2):
            pass
        with sql_store.locks.hold("something else", 0):
            pass


def test_a_killed_process_holds_nothing_any_more(place: Place, sql_store: SqlStore) -> None:
    with holder(place, LONG) as process:
        process.kill()
        process.wait()
        with sql_store.locks.hold(NAME, 30):
            pass


def test_another_process_s_lock_is_waited_for(place: Place, sql_store: SqlStore) -> None:
    with holder(place, "0.3") as process:
        with sql_store.locks.hold(NAME, 60):
            pass
        assert process.wait() == 0


def test_the_server_notices_soon_when_a_holder_s_host_vanishes(postgres: Postgres) -> None:
    url = postgres.create()
    locks = PostgresLocks(url)
    with locks._engine.connect() as connection:  # noqa: SLF001 - it shows nowhere else
        for name, value in (("idle", "10"), ("interval", "5"), ("count", "4")):
            shown = connection.exec_driver_sql(f"SHOW tcp_keepalives_{name}").scalar()
            assert shown == value
    postgres.drop(url)
