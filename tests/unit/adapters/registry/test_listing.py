from __future__ import annotations

import logging

import pytest

from service.domain.errors import (
    CatalogUnsupported,
    RegistryAnswerInvalid,
    RegistryRateLimited,
    RegistryUnauthorized,
    RegistryUnreachable,
    RepositoryUnknown,
    UpstreamFailed,
)
from service.domain.reference import Repository, Tag
from tests.fakes import FakeRegistry, image
from tests.standin import Reply, json_reply, oci_error, plain, replies, says
from tests.standin_registry import V3_MANNERS, Manners
from tests.unit.adapters.registry.support import Connect, Play, Serve, Time

APP = Repository("team/app")
ONE = image("one")


def fill(fake: FakeRegistry, *names: str) -> None:
    for name in names:
        fake.push(name, ONE, "1")


# The catalog.


def test_the_catalog_is_asked_for_1000_names_a_page(
    fake: FakeRegistry, play: Play, connect: Connect
) -> None:
    fill(fake, *(f"r{number:04}" for number in range(2001)))
    server = play()
    assert len(list(connect(server).repositories())) == 2001
    assert [one.query.get("n") for one in server.seen] == ["1000"] * 3


def test_the_catalog_is_asked_for_less_where_1000_is_400(
    fake: FakeRegistry, play: Play, connect: Connect
) -> None:
    fill(fake, *(f"r{number:03}" for number in range(150)))
    for most in (100, 50):
        server = play(Manners(catalog_most=most))
        assert len(list(connect(server).repositories())) == 150


def test_the_catalog_is_read_page_by_page(fake: FakeRegistry, play: Play, connect: Connect) -> None:
    fill(fake, *(f"r{number:04}" for number in range(1500)))
    server = play()
    names = connect(server).repositories()
    assert next(names) == "r0000"
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [403, 404, 405, 501])
def test_a_registry_without_a_catalog_says_so_in_many_ways(
    play: Play, connect: Connect, status: int
) -> None:
    server = play()
    server.rule(replies(status), path="_catalog")
    with pytest.raises(CatalogUnsupported):
        list(connect(server).repositories())


def test_a_catalog_that_alone_is_401_is_unsupported(play: Play, connect: Connect) -> None:
    server = play()
    server.rule(replies(401, {"WWW-Authenticate": "Basic"}), path="_catalog")
    with pytest.raises(CatalogUnsupported):
        list(connect(server, username="keeper", password="secret").repositories())


def test_a_registry_that_is_401_everywhere_is_unauthorized(play: Play, connect: Connect) -> None:
    server = play()
    server.rule(replies(401, {"WWW-Authenticate": "Basic"}))
    with pytest.raises(RegistryUnauthorized):
        list(connect(server, username="keeper", password="secret").repositories())


def test_names_outside_the_grammar_are_left_out_and_logged(
    play: Play, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    junk = ["../up", "UPPER", "", "a//b", "a\n", "x" * 300, 7, None, {}, ["a"], "a/../b", "a%2fb"]
    server = play()
    server.rule(says(json_reply({"repositories": [*junk, "good/one", *junk]})), path="_catalog")
    assert list(connect(server).repositories()) == ["good/one"]
    assert "../up" in caplog.text


def test_a_name_listed_twice_is_yielded_once(play: Play, connect: Connect) -> None:
    server = play()
    page = json_reply({"repositories": ["b", "a", "b"]})
    linked = Reply(200, [*page.headers, ("Link", '</v2/_catalog?last=b>; rel="next"')], page.body)
    server.rule(says(linked), path="n=1000")
    server.rule(says(page), path="last=b")
    assert list(connect(server).repositories()) == ["b", "a"]


def test_a_catalog_of_null_is_empty(play: Play, connect: Connect) -> None:
    server = play()
    server.rule(says(json_reply({"repositories": None})), path="_catalog")
    assert list(connect(server).repositories()) == []


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, body=b"<html>hello</html>"),
        Reply(200, body=b""),
        Reply(200, body=b'["a"]'),
        Reply(200, body=b"null"),
        Reply(200, body=b'{"repositories": "a"}'),
        Reply(200, body=b'{"repositories": {"a": 1}}'),
        Reply(200, body=b"[" * 200_000),
        Reply(200, body=b"\xff\xfe"),
        Reply(200, [("Content-Encoding", "gzip")], b"\x1f\x8b\x08\x00garbage"),
        Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
        Reply(302, [("Location", "http://127.0.0.1:9/")]),
        Reply(418),
        Reply(500),
    ],
)
def test_garbage_is_no_catalog_and_no_list_of_tags(
    play: Play, connect: Connect, reply: Reply
) -> None:
    server = play()
    server.rule(says(reply))
    with pytest.raises(RegistryAnswerInvalid):
        list(connect(server).repositories())
    with pytest.raises(RegistryAnswerInvalid):
        connect(server).tags(APP)


@pytest.mark.parametrize(
    ("status", "error"),
    [(429, RegistryRateLimited), (502, RegistryUnreachable), (503, RegistryUnreachable)],
)
def test_a_registry_that_is_busy_to_the_end_is_told_so(
    play: Play, connect: Connect, time: Time, status: int, error: type[UpstreamFailed]
) -> None:
    server = play()
    server.rule(replies(status))
    with pytest.raises(error):
        connect(server).tags(APP)
    assert len(server.seen) == 4
    assert len(time.slept) == 3


def test_a_next_page_on_another_host_is_never_asked_for(
    play: Play, serve: Serve, connect: Connect
) -> None:
    other = serve(replies(200, body=b'{"repositories": []}'))
    server = play()
    link = {"Link": f'<{other.url}/v2/_catalog?last=a>; rel="next"'}
    server.rule(replies(200, link, b'{"repositories": ["a"], "tags": ["a"]}'))
    with pytest.raises(RegistryAnswerInvalid):
        list(connect(server).repositories())
    with pytest.raises(RegistryAnswerInvalid):
        connect(server).tags(APP)
    assert other.seen == []


def test_a_page_that_is_too_large_is_refused(
    play: Play, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.adapters.registry.routes.PAGE_LIMIT", 1000)
    server = play()
    server.rule(says(json_reply({"repositories": ["a" * 200] * 10})))
    with pytest.raises(RegistryAnswerInvalid, match="1000 bytes"):
        list(connect(server).repositories())


# Tags.


@pytest.mark.parametrize("emptied", ["null", "[]", "404"])
def test_a_repository_without_tags_says_so_in_three_ways(
    fake: FakeRegistry, play: Play, connect: Connect, emptied: str
) -> None:
    fake.push(APP, ONE)
    fill(fake, "team/app-2", "team/apo", "team", "team-x", "team/app/sub")
    server = play(Manners(emptied=emptied))
    assert connect(server).tags(APP) == []


def test_a_repository_that_is_not_in_the_catalog_is_unknown(
    fake: FakeRegistry, play: Play, connect: Connect
) -> None:
    fill(fake, "team/app-2", "team/apo", "team", "team-x/app", "team/app/sub")
    server = play(V3_MANNERS)
    with pytest.raises(RepositoryUnknown):
        connect(server).tags(APP)
    # One place of the catalog is looked at, however long it is.
    assert [one.query.get("n") for one in server.requests(path="_catalog")] == ["1"]


def test_a_catalog_that_ignores_last_is_read_through(
    fake: FakeRegistry, play: Play, connect: Connect
) -> None:
    fake.push(APP, ONE)
    server = play(V3_MANNERS)
    server.rule(says(json_reply({"repositories": ["aaa", "bbb", APP]})), path="_catalog")
    assert connect(server).tags(APP) == []
    with pytest.raises(RepositoryUnknown):
        connect(server).tags(Repository("team/other"))


def test_without_a_catalog_a_404_is_an_unknown_repository(
    fake: FakeRegistry, play: Play, connect: Connect
) -> None:
    fake.push(APP, ONE)
    server = play(V3_MANNERS)
    server.rule(replies(404), path="_catalog")
    with pytest.raises(RepositoryUnknown):
        connect(server).tags(APP)


def test_a_404_in_plain_text_is_an_unknown_repository(serve: Serve, connect: Connect) -> None:
    server = serve(says(plain(404, "404 page not found\n")))
    with pytest.raises(RepositoryUnknown):
        connect(server).tags(APP)


def test_an_answer_without_a_list_is_not_taken_for_none(play: Play, connect: Connect) -> None:
    server = play()
    server.rule(says(json_reply({"name": APP})))
    with pytest.raises(RegistryAnswerInvalid):
        connect(server).tags(APP)
    with pytest.raises(RegistryAnswerInvalid):
        list(connect(server).repositories())


def test_tags_outside_the_grammar_are_left_out_and_doubles_dropped(
    play: Play, connect: Connect
) -> None:
    junk = ["-x", "a b", "", "x" * 129, 1, None, "a/b", "ü"]
    server = play()
    server.rule(says(json_reply({"tags": [*junk, "1", "2", "1"]})))
    assert connect(server).tags(APP) == ["1", "2"]


def test_many_tags_are_followed_where_they_come_in_pages(
    fake: FakeRegistry, play: Play, connect: Connect
) -> None:
    fake.push(APP, ONE, *(f"t{number}" for number in range(2500)))
    server = play(V3_MANNERS)
    tags = connect(server).tags(APP)
    assert len(tags) == len(set(tags)) == 2500
    assert len(server.seen) == 3


def test_many_tags_come_at_once_and_unsorted_from_2_8(
    fake: FakeRegistry, play: Play, connect: Connect
) -> None:
    fake.push(APP, ONE, *(f"t{number}" for number in range(2500)))
    server = play()
    assert len(connect(server).tags(APP)) == 2500
    assert len(server.seen) == 1


def test_tags_that_may_not_be_read_are_unauthorized(play: Play, connect: Connect) -> None:
    server = play()
    server.rule(says(oci_error(403, "DENIED")))
    with pytest.raises(RegistryUnauthorized, match="DENIED"):
        connect(server).tags(APP)


def test_no_words_of_the_registry_are_passed_on(play: Play, connect: Connect) -> None:
    server = play()
    error = {"code": "DENIED", "message": "upstream words", "detail": "upstream words"}
    server.rule(says(json_reply({"errors": [error, {"code": "lower case words"}]}, 403)))
    with pytest.raises(RegistryUnauthorized) as caught:
        connect(server).tags(APP)
    assert "words" not in str(caught.value)


def test_a_registry_below_a_path_is_asked_there(
    fake: FakeRegistry, play: Play, connect: Connect
) -> None:
    fill(fake, APP)
    server = play()
    inner = server.handler
    server.handler = lambda seen: inner(
        type(seen)(
            seen.method,
            seen.target.removeprefix("/hub"),
            seen.headers,
            seen.body,
            seen.connection,
        )
    )
    registry = connect(f"{server.url}/hub/")
    assert list(registry.repositories()) == [APP]
    assert registry.tags(APP) == [Tag("1")]
    assert all(one.target.startswith("/hub/v2/") for one in server.seen)


def test_an_inventory_takes_the_fewest_requests(
    fake: FakeRegistry, play: Play, connect: Connect
) -> None:
    """One for each page, repository and tag, and one for each distinct config."""
    for name in ("a", "b"):
        fake.push(name, ONE, "1", "2")
        fake.push(name, image(name), "3")
    server = play()
    registry = connect(server)

    def inventory() -> int:
        server.forget()
        for name in registry.repositories():
            for tag in registry.tags(name):
                raw = registry.content(name, registry.resolve(name, tag))
                assert raw.body
        return len(server.seen)

    assert inventory() == 1 + 2 + 6
    assert [one.method for one in server.requests(path="manifests")] == ["GET"] * 6
    assert inventory() == 1 + 2 + 6
    assert [one.method for one in server.requests(path="manifests")] == ["HEAD"] * 6
