"""Killed at any write, the service finishes or undoes what it had begun, and touches nothing else.

All the interruptions of one kill happen at once, each in a repository of its own: every request is
held at its own write until all have come to theirs. How many writes there are is counted first,
so that a step that is added some day is interrupted as well.
"""

from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from demo import images
from demo.images import Manifest, cosign_tag, fallback_tag, sample, signature
from demo.processes import wait_until
from tests.e2e.bed.api import (
    REGISTRY,
    at_once,
    delete,
    manifest_path,
    pages,
    problem,
    query,
    restore,
    tag_path,
    try_restore,
)
from tests.e2e.bed.http import Answer
from tests.e2e.bed.proxy import WRITES, Action, Exchange, answers, calls_after
from tests.e2e.bed.registry import MakeRegistry
from tests.e2e.bed.service import MakeService
from tests.e2e.bed.site import Look, Site, open_site

pytestmark = pytest.mark.timeout(400)  # a hundred changes at once

PATIENCE = 120  # seconds, for what must happen sooner or later
BUSY = {"threads": 200}  # requests that wait at the proxy, all at once
A = sample("a")
B = sample("b", flavour=images.DOCKER)
AMD64, ARM64, _ = images.multi_arch("index").children
INDEX = images.index([AMD64, ARM64])
BILL = images.artifact(b"a bill", subject=A)
LOST = sample("lost")

Do = Callable[[Site, str], Answer]
REMOVED: dict[str, Any] = {}  # the deletions to be restored, by repository


def removing(what: str, **options: object) -> Do:
    path = manifest_path if ":" in what else tag_path
    return lambda site, repository: site.service.ask(
        path(repository, what) + query(**options), "DELETE"
    )


def pointing(tag: str, source: str) -> Do:
    return lambda site, repository: site.service.ask(
        tag_path(repository, tag), "PUT", body={"tag": source}
    )


def restoring(site: Site, repository: str) -> Answer:
    """Restore what `remove_first` removed."""
    return try_restore(site.service, REMOVED[repository])


def nothing_first(_site: Site, _repository: str) -> None:
    """Prepare nothing."""


def dangle_first(site: Site, repository: str) -> None:
    site.dangle(repository, "1")


def remove_first(site: Site, repository: str) -> None:
    REMOVED[repository] = delete(site.service, tag_path(repository, "1"))


@dataclass(frozen=True)
class Kind:
    """A change to interrupt: the content, what comes before, and the change."""

    tags: Mapping[str, Manifest]
    change: Do
    first: Callable[[Site, str], None] = nothing_first


SIGNED = {"1": A, cosign_tag(A): signature(A), "other": B}
RICH = {"1": INDEX, "amd64": AMD64, cosign_tag(INDEX): signature(INDEX), "other": B}
KINDS = {
    "sibling": Kind({"1": A, "2": A, "other": B}, removing("1")),
    "keep-manifest": Kind({"1": A, "other": B}, removing("1", keep_manifest=True)),
    "last": Kind({"1": A, "other": B}, removing("1")),
    "index": Kind(RICH, removing("1")),
    "child-of-index": Kind(RICH, removing("amd64")),
    "signed": Kind(SIGNED, removing("1")),
    "referred": Kind(
        {"1": A, fallback_tag(A): images.referrers_index([BILL]), "other": B}, removing("1")
    ),
    "dangling": Kind({"1": LOST, "other": B}, removing("1"), dangle_first),
    "by-digest": Kind({"1": A, "2": A, "other": B}, removing(A.digest, tags="1,2")),
    "out-of-an-index": Kind(RICH, removing(AMD64.digest, force=True)),
    "restore": Kind(SIGNED, restoring, remove_first),
    "restore-of-an-index": Kind(RICH, restoring, remove_first),
    "restore-of-a-tag": Kind({"1": A, "2": A, "other": B}, restoring, remove_first),
    "point": Kind({"1": A, "other": B}, pointing("1", "other")),
}


FEW = ("sibling", "index", "restore-of-an-index")


@dataclass(frozen=True)
class Case:
    """One change that is interrupted at its write ``nth``, before or after it is carried out."""

    kind: str
    nth: int
    when: str

    @property
    def repository(self) -> str:
        return f"{self.kind}/{self.nth}/{self.when}"


@dataclass(frozen=True)
class Model:
    """How an uninterrupted change went: what was there before and after, and its writes."""

    before: Look
    after: Look
    writes: int


def prepare(site: Site, name: str, repository: str) -> None:
    site.fill(KINDS[name].tags, repository=repository)
    KINDS[name].first(site, repository)


def rehearse(site: Site, name: str) -> Model:
    """Carry a change out undisturbed, and count its writes: those to its repository alone.

    The service asks meanwhile how the registry is, which goes to a repository of its own.
    """
    repository = f"{name}/model"
    prepare(site, name, repository)
    before = site.look(repository)
    site.proxy.reset()
    answer = KINDS[name].change(site, repository)
    assert answer.status == 200, answer.body
    writes = [one for one in site.proxy.writes() if f"/{repository}/" in one.path]
    return Model(before, site.look(repository), len(writes))


@dataclass
class Hold:
    """Holds requests at the proxy until it is told to let them go."""

    expected: int
    arrived: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    all_there: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def before(self, _exchange: Exchange) -> None:
        """The registry never hears of it."""
        self._wait()

    def after(self, exchange: Exchange) -> None:
        """The registry acts, the service never hears of it."""
        exchange.forward()
        self._wait()

    def _wait(self) -> None:
        with self.lock:
            self.arrived += 1
            if self.arrived == self.expected:
                self.all_there.set()
        self.released.wait(PATIENCE)


def interrupt(site: Site, cases: list[Case]) -> None:
    """Start every change, wait until each is at its write, and kill the service."""
    hold = Hold(len(cases))
    for case in cases:
        action = hold.before if case.when == "before" else hold.after
        spoil(site, case, action)
    threads = [threading.Thread(target=try_change, args=(site, case)) for case in cases]
    for thread in threads:
        thread.start()
    assert hold.all_there.wait(PATIENCE), f"{hold.arrived} of {hold.expected} came to their write"
    site.service.kill()
    hold.released.set()
    for thread in threads:
        thread.join()
    site.proxy.reset()


def spoil(site: Site, case: Case, action: Action) -> None:
    path = f"/{re.escape(case.repository)}/"
    site.proxy.rule(action, method=WRITES, path=path, skip=case.nth, times=1)


def try_change(site: Site, case: Case) -> None:
    with pytest.raises((OSError, http.client.HTTPException)):
        KINDS[case.kind].change(site, case.repository)


@pytest.fixture
def site(registry: MakeRegistry, service: MakeService) -> Iterator[Site]:
    def serve(*given: Any, **options: Any) -> Any:  # noqa: ANN401
        wide = {"concurrency": 256, "timeout_seconds": PATIENCE}
        return service(*given, **options, table=wide, settings=BUSY)

    with open_site(registry, serve) as opened:
        opened.service.admin()
        yield opened


@dataclass(frozen=True)
class Interrupted:
    """What was interrupted, and how each kind goes undisturbed."""

    cases: list[Case]
    models: Mapping[str, Model]


def arrange(site: Site, kinds: Iterable[str], whens: Iterable[str]) -> Interrupted:
    """Rehearse each kind, and prepare a repository for each way to interrupt it."""
    models = {name: rehearse(site, name) for name in kinds}
    cases = [
        Case(name, nth, when)
        for name, model in models.items()
        for nth in range(model.writes)
        for when in whens
    ]
    at_once(partial(prepare, site, case.kind, case.repository) for case in cases)
    return Interrupted(cases, models)


def kill_at_every_write(site: Site, kinds: Iterable[str]) -> Interrupted:
    found = arrange(site, kinds, ("before", "after"))
    interrupt(site, found.cases)
    return found


def wait_until_settled(site: Site, killed: Interrupted) -> None:
    """Wait until every repository is as before the change, or as after it."""
    waiting = list(killed.cases)

    def is_settled(case: Case) -> bool:
        model = killed.models[case.kind]
        return site.look(case.repository) in (model.before, model.after)

    def all_settled() -> bool:
        while waiting and is_settled(waiting[0]):
            waiting.pop(0)
        return not waiting

    wait_until(all_settled, PATIENCE, "every change finished or undone")


def test_killed_at_any_write_it_finishes_or_undoes(site: Site) -> None:
    killed = kill_at_every_write(site, KINDS)
    assert len(killed.cases) >= 4 * len(KINDS)
    site.service.start()
    wait_until_settled(site, killed)
    assert_restorable(site, killed)
    assert_accounted_for(site, killed)


def test_killed_again_while_it_recovers_it_goes_on(site: Site) -> None:
    killed = kill_at_every_write(site, FEW)
    for nth in (0, 5):
        again = threading.Event()
        site.proxy.rule(killing(site, again), method=WRITES, skip=nth, times=1)
        with suppress(RuntimeError):  # it may die before it is ready
            site.service.start()
        assert again.wait(PATIENCE), "nothing was left to recover"
        site.proxy.reset()
    site.service.start()
    wait_until_settled(site, killed)
    assert_restorable(site, killed)


def killing(site: Site, again: threading.Event) -> Action:
    def kill() -> None:
        site.service.kill()
        again.set()

    return calls_after(kill)


SPOILING = {"refused": answers(500), "lost": calls_after(lambda: None)}


def test_a_registry_that_fails_at_any_write_is_put_right_later(site: Site) -> None:
    failed = arrange(site, FEW, SPOILING)
    for case in failed.cases:
        spoil(site, case, SPOILING[case.when])
    told = at_once(partial(KINDS[case.kind].change, site, case.repository) for case in failed.cases)
    for case, answer in zip(failed.cases, told, strict=True):
        assert answer.status in {200, 409, 502}, (case, answer)
        if answer.status != 200:
            told_of = problem(answer, answer.status, answer.json()["code"])
            assert ("deletion" in told_of) == (is_deletion(case) and case.nth > 0)
    site.proxy.reset()
    wait_until_settled(site, failed)
    assert_restorable(site, failed)


def assert_restorable(site: Site, killed: Interrupted) -> None:
    """Each deletion that was carried out can be undone."""
    deletions = pages(site.service, f"{REGISTRY}/deletions", n=1000)
    for case in killed.cases:
        model, look = killed.models[case.kind], site.look(case.repository)
        if look == model.after and is_deletion(case):
            mine = next(one for one in deletions if one["repository"] == case.repository)
            if mine["restorable"]:
                restore(site.service, mine)
                assert site.look(case.repository) == model.before, case


def assert_accounted_for(site: Site, killed: Interrupted) -> None:
    """Whatever was finished after its process had died has an outcome in the audit trail."""
    listed = pages(site.service, "/v1/audit-events", n=1000, outcome="succeeded")
    events = [one for one in listed if one["details"].get("finished_by")]
    targets = {re.split("[:@]", one["target"])[0] for one in events}
    begun = {case.repository for case in killed.cases if case.nth > 0 and is_deletion(case)}
    assert begun <= targets
    recovered = pages(site.service, "/v1/audit-events", n=1000, action="deletion.recover")
    assert {one["actor"] for one in recovered} == {"registry-admin"}
    assert len(recovered) >= len(begun)


def is_deletion(case: Case) -> bool:
    return not case.kind.startswith(("restore", "point"))
