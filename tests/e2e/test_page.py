"""The page at `/`, in a real browser, on a real registry and a real engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, ViewportSize, expect

from demo import images
from demo.content import fill
from demo.processes import free_port
from tests.e2e.bed.api import REGISTRY, get, tag_path
from tests.e2e.bed.browser import Visitor, open_browser
from tests.e2e.bed.collecting import RESTARTS, Site, ended
from tests.e2e.bed.registry import MakeRegistry
from tests.e2e.bed.service import MakeService, registry_table
from tests.e2e.bed.workspace import Workspace

IMAGES = Path(__file__).parents[2] / "docs" / "images"
WANTED = "REGISTRY_ADMIN_TEST_SCREENSHOTS"
"""Set to anything, it has the test write the pictures of the documents anew."""

IMAGE_LIMIT = 150 * 1024
DESK: ViewportSize = {"width": 1100, "height": 760}
PHONE: ViewportSize = {"width": 320, "height": 640}
MARKUP = "<img src=x onerror=\"window.harmed = 'image'\"><script>window.harmed = 'script'</script>"
MANY = 60
"""Tags of one repository: more than the page shows at once."""

APP = "#/registries/default/repositories/team%2Fapp"
HARM = "#/registries/default/repositories/harm/tags/1.0"

Visit = Callable[..., Visitor]


@pytest.fixture(scope="module")
def site(module_registry: MakeRegistry, module_service: MakeService) -> Site:
    """A registry with all kinds of things, a service, and a second registry that is down."""
    registry = module_registry(run=RESTARTS)
    down = {"url": f"http://127.0.0.1:{free_port()}"}
    both = {"default": registry_table(registry), "away": down}
    made = Site(registry, module_service(settings={"registries": both}))
    with registry.pusher() as pusher:
        fill(pusher)
        pusher.push("many", images.sample("many"), *(f"t{number:03}" for number in range(MANY)))
        settings = {"Labels": {"told": MARKUP, MARKUP: "told"}, "Env": [f"HARM={MARKUP}"]}
        layers = [images.layer({"a": b"a"}, created_by=MARKUP)]
        hostile = images.image(layers, settings=settings, annotations={MARKUP: MARKUP})
        pusher.push("harm", hostile, "1.0")
    return made


@pytest.fixture(scope="module")
def browser(workspace: Workspace, site: Site) -> Iterator[Browser]:
    with open_browser(workspace, int(site.service.host.rpartition(":")[2])) as opened:
        yield opened


@pytest.fixture
def visit(browser: Browser, site: Site) -> Iterator[Visit]:
    """Open tabs: `visit()` is signed in and may do everything, `visit(secret=None)` is not."""
    with ExitStack() as stack:

        def make(*, secret: str | None = "", address: str = "", **options: Any) -> Visitor:  # noqa: ANN401
            plain = {"viewport": DESK, "locale": "en-GB", "timezone_id": "UTC"}
            context = browser.new_context(**{**plain, **options})
            stack.callback(context.close)
            made = Visitor(context.new_page(), site.service.url)
            if secret is None:
                made.page.goto(f"{made.home}/{address}")
                made.settled()
            else:
                made.sign_in(secret or site.service.admin(), address)
            return made

        yield make


def picture(visitor: Visitor, name: str) -> None:
    """Write a picture for the documents, where they are asked for."""
    if WANTED not in os.environ:
        return
    IMAGES.mkdir(exist_ok=True)
    written = visitor.page.screenshot(
        path=IMAGES / f"page-{name}.png", animations="disabled", full_page=True
    )
    assert len(written) < IMAGE_LIMIT, name


def facts(place: Locator) -> dict[str, str]:
    """What a description list says."""
    rows = [
        row.locator("dt, dd").all_inner_texts() for row in place.locator("dl.facts > div").all()
    ]
    return dict(rows)


def test_registries_are_shown_with_their_state(visit: Visit, site: Site) -> None:
    one = visit()
    away, default = one.rows()
    assert (default[0], default[4]) == ("default", "yes")
    assert default[1].strip("● ") == "up"
    assert default[3] == get(site.service, REGISTRY)["version"]
    assert away[0] == "away"
    assert away[1].strip("● ").startswith("down\n")
    picture(one, "registries")
    one.require_clean()


def test_tags_are_shown_with_size_date_and_platforms(visit: Visit) -> None:
    one = visit()
    one.page.get_by_role("link", name="default", exact=True).click()
    one.page.get_by_role("link", name="team/app").click()
    one.page.get_by_role("columnheader", name="Platforms").wait_for()
    rows = {row[0]: row for row in one.rows()}
    assert rows["2.0"][1:5] == [
        "index",
        "1.04 MB",
        "1 May 2024, 12:00:00",
        "linux/amd64, linux/arm64/v8, linux/arm/v7",
    ]
    picture(one, "tags")
    one.require_clean()


def test_a_manifest_is_shown_with_all_that_it_is_made_of(visit: Visit, site: Site) -> None:
    one = visit(address=APP)
    one.page.get_by_role("link", name="stable").click()
    expect(one.heading).to_have_text("team/app:stable")
    told = get(site.service, tag_path("team/app", "stable"))
    seen = facts(one.page.locator("main"))
    assert seen["Digest"] == told["digest"]
    assert seen["Size"].endswith(f"({told['size']} bytes)")
    assert seen["org.opencontainers.image.title"] == "app 1.0"
    assert "cosign-tag" in one.page.get_by_role("table", name="What refers to it").inner_text()
    picture(one, "manifest")
    one.page.get_by_text("Exact text of the manifest").click()
    expect(one.page.locator("details pre")).to_contain_text('"schemaVersion": 2')
    one.require_clean()


def test_addresses_lead_to_views_also_after_the_token_was_given(visit: Visit) -> None:
    one = visit(address=f"{APP}/tags/2.0")
    expect(one.heading).to_have_text("team/app:2.0")
    one.page.get_by_role("table", name="Children of this index").get_by_role("link").first.click()
    expect(one.heading).to_contain_text("team/app@sha256:")
    one.page.go_back()
    expect(one.heading).to_have_text("team/app:2.0")
    one.page.reload()
    expect(one.heading).to_have_text("team/app:2.0")
    assert one.page.title() == "team/app:2.0 - registry-admin"
    one.require_clean()


def test_what_follows_is_loaded_when_asked_for(visit: Visit) -> None:
    one = visit(address="#/registries/default/repositories/many")
    names = [f"t{number:03}" for number in range(MANY)]
    assert [row[0] for row in one.rows()] == names[:50]
    more = one.page.get_by_role("button", name="Load more")
    more.click()
    expect(more).to_be_hidden()
    assert [row[0] for row in one.rows()] == names
    assert one.page.locator(":focus").inner_text() == names[50]
    expect(one.page.get_by_role("status")).to_have_text("10 rows added.")
    one.require_clean()


def look(one: Visitor, name: str) -> Locator:
    """Press a tag's button; gives the dialog once it says what would go."""
    one.page.get_by_role("button", name=f"Delete {name}").click()
    dialog = one.page.get_by_role("dialog", name=f"Delete {name}?")
    expect(dialog.get_by_text("It can be put back")).to_be_visible()
    return dialog


def notice(one: Visitor) -> Locator:
    return one.page.get_by_role("region", name="What was done")


def test_a_tag_goes_after_a_look_and_comes_back(visit: Visit, site: Site) -> None:
    before = site.registry.tags("team/app")
    one = visit(address=APP)
    tag = one.page.get_by_role("link", name="1.1", exact=True)
    dialog = look(one, "team/app:1.1")
    assert facts(dialog)["Tags that go"] == "1.1"
    assert str(before["1.1"]) in facts(dialog)["Manifests that go"]
    assert site.registry.tags("team/app") == before
    picture(one, "delete")
    dialog.get_by_role("button", name="Delete").click()
    expect(notice(one)).to_be_focused()
    expect(notice(one)).to_contain_text("Deleted team/app:1.1. 1 manifest went with it.")
    expect(tag).to_be_hidden()
    left = {name: digest for name, digest in before.items() if name != "1.1"}
    assert site.registry.tags("team/app") == left
    notice(one).get_by_role("button", name="Undo: restore team/app:1.1").click()
    expect(notice(one)).to_contain_text("Restored team/app:1.1.")
    expect(tag).to_be_visible()
    assert site.registry.tags("team/app") == before
    one.require_clean()


def test_a_deletion_can_be_restored_later(visit: Visit, site: Site) -> None:
    before = site.registry.tags("team/tools")
    one = visit(address="#/registries/default/repositories/team%2Ftools/tags/policy")
    look(one, "team/tools:policy").get_by_role("button", name="Delete").click()
    expect(one.heading).to_have_text("team/tools")
    assert "policy" not in site.registry.tags("team/tools")
    one.page.get_by_role("button", name="Dismiss").click()
    one.go("#/registries/default/deletions")
    one.page.get_by_role("button", name="Restore team/tools:policy").click()
    expect(notice(one)).to_contain_text("Restored")
    assert site.registry.tags("team/tools") == before
    one.require_clean()


def test_a_tag_that_was_moved_meanwhile_stays(visit: Visit, site: Site) -> None:
    with site.registry.pusher() as pusher:
        pusher.push("moving", images.sample("first"), "1.0")
    one = visit(address="#/registries/default/repositories/moving")
    dialog = look(one, "moving:1.0")
    with site.registry.pusher() as pusher:
        moved = pusher.push("moving", images.sample("second"), "1.0")
    dialog.get_by_role("button", name="Delete").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Digest mismatch")
    assert site.registry.tags("moving") == {"1.0": moved}
    one.require_clean(412)


SEEN = """
window.seen = [];
new MutationObserver(() => {
  const state = document.querySelector('dd .state');
  const lines = document.querySelectorAll('.log li').length;
  if (state) window.seen.push([state.dataset.state, lines]);
}).observe(document, {childList: true, subtree: true});
"""


def test_a_collection_is_followed_as_it_goes(visit: Visit, site: Site) -> None:
    one = visit(address="#/registries/default")
    one.page.get_by_role("link", name="Garbage collections").click()
    one.page.evaluate(SEEN)
    one.page.get_by_label("What to do").select_option("false")
    one.page.get_by_role("button", name="Start").click()
    expect(one.heading).to_have_text("Job gc")
    expect(one.page.locator("dd .state")).to_have_text("succeeded")
    expect(one.page.get_by_role("status")).to_have_text("The job is succeeded.")
    expect(one.page.get_by_role("button", name="Cancel the job")).to_be_hidden()
    seen = one.page.evaluate("window.seen")
    assert any(state == "running" and lines for state, lines in seen), "not told while it ran"
    streams = [request for request in one.requests if request.url.endswith("/log")]
    assert [request.headers["accept"] for request in streams] == ["text/event-stream"]
    require_told(one, site)
    picture(one, "collection")
    one.require_clean()


def require_told(one: Visitor, site: Site) -> None:
    """Raise unless the page shows a collection's log and result as the API has them."""
    path = f"/v1/jobs/{one.page.url.rpartition('/')[2]}"
    messages = [line["message"] for line in get(site.service, f"{path}/log")["items"]]
    expect(one.page.locator(".log li")).to_have_count(len(messages))
    shown = one.page.locator(".log li").all_inner_texts()
    assert [text.split(" ", 2)[2] for text in shown] == messages
    deleted = get(site.service, path)["result"]["blobs_deleted"]
    assert deleted > 0
    assert facts(one.page.locator("main"))["In short"].startswith(f"{deleted} blobs gone")


def test_a_job_says_why_it_failed(visit: Visit, site: Site) -> None:
    answer = site.service.ask("/v1/registries/away/verifications", "POST", body={})
    one = visit(address=f"#/jobs/{answer.json()['id']}")
    alert = one.page.get_by_role("alert")
    expect(alert).to_contain_text("Registry unreachable")
    expect(one.page.locator("dd .state")).to_have_text("failed")
    one.go("#/jobs?state=failed")
    assert {row[1].strip("● ") for row in one.rows()} == {"failed"}
    one.require_clean()


def test_the_trail_is_shown_and_narrowed(visit: Visit, site: Site) -> None:
    site.service.ask(tag_path("team/app", "none"), "DELETE")
    one = visit()
    one.page.get_by_role("link", name="Audit").click()
    one.page.get_by_label("Action").fill("tag.delete")
    one.page.get_by_label("Outcome").select_option("refused")
    one.page.get_by_role("button", name="Show").click()
    one.page.wait_for_url("**/#/audit?outcome=refused&action=tag.delete")
    one.settled()
    row = one.rows()[0]
    assert row[2:5] == ["tag.delete", "default", "team/app:none"]
    assert row[5].strip("● ").split() == ["refused", "tag-unknown"]
    one.require_clean()


def test_names_and_labels_are_never_read_as_markup(visit: Visit) -> None:
    one = visit(address=HARM)
    assert one.page.get_by_text(MARKUP, exact=True).count() == 5
    one.page.get_by_text("Exact text of the manifest").click()
    expect(one.page.locator("details pre")).to_contain_text("onerror")
    assert one.page.locator("img, main script").count() == 0
    assert one.page.evaluate("window.harmed") is None
    one.require_clean()


def test_the_browser_itself_refuses_markup_and_foreign_addresses(visit: Visit) -> None:
    one = visit()
    attempts = {
        "document.body.innerHTML = '<b>markup</b>'": "TrustedHTML",
        "document.createElement('script').text = 'harm()'": "TrustedScript",
        "fetch('http://127.0.0.1:9/')": "TypeError",
    }
    for attempt, word in attempts.items():
        told = f"() => Promise.resolve().then(() => {attempt}).then(() => '', String)"
        assert word in one.page.evaluate(told), attempt


def test_the_token_stays_in_its_tab(visit: Visit, site: Site) -> None:
    one = visit()
    secret = site.service.admin()
    page = one.page
    page.reload()
    page.get_by_text("Signed in as").wait_for()
    assert secret in page.evaluate("JSON.stringify(sessionStorage)")
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    assert not any(secret in request.url for request in one.requests)
    other = Visitor(page.context.new_page(), one.home)
    other.page.goto(f"{one.home}/")
    expect(other.heading).to_have_text("Sign in")
    page.get_by_role("button", name="Sign out").click()
    expect(one.heading).to_have_text("Sign in")
    assert page.evaluate("sessionStorage.length") == 0
    one.require_clean()
    other.require_clean()


def token(site: Site, *scopes: str) -> Any:  # noqa: ANN401 - JSON
    """Make a token by the API, which is quicker than by the command line."""
    body = {"name": "reader", "scopes": scopes}
    return site.service.ask("/v1/tokens", "POST", body=body).json()


def test_a_token_that_is_refused_is_asked_for_again(visit: Visit, site: Site) -> None:
    one = visit(secret=None)
    one.page.get_by_label("Token").fill("radm_wrong")
    one.page.keyboard.press("Enter")
    alert = one.page.get_by_role("alert")
    expect(alert).to_contain_text("Unauthenticated")
    expect(one.page.get_by_label("Token")).to_be_focused()
    short = token(site, "registry:read")
    one.sign_in(short["secret"])
    assert site.service.ask(f"/v1/tokens/{short['id']}", "DELETE").status == 204
    one.go("#/registries/default")
    expect(one.heading).to_have_text("Sign in")
    expect(alert).to_contain_text("revoked")
    assert one.page.evaluate("sessionStorage.length") == 0
    one.require_clean(401)


def test_what_a_token_may_not_do_is_not_offered(visit: Visit, site: Site) -> None:
    one = visit(secret=token(site, "registry:read")["secret"], address=APP)
    assert one.page.get_by_role("button", name="Delete").count() == 0
    menu = one.page.get_by_role("navigation", name="Main").get_by_role("link")
    assert menu.all_inner_texts() == ["Registries"]
    one.go("#/audit")
    expect(one.page.get_by_role("alert")).to_contain_text("Insufficient scope")
    one.require_clean(403)


@pytest.mark.parametrize(
    ("address", "title", "status"),
    [
        (f"{APP}/tags/none", "Tag unknown", 404),
        ("#/registries/none", "Registry unknown", 404),
        ("#/registries/away", "Registry unreachable", 502),
        ("#/jobs?state=odd", "Validation failed", 422),
        ("#/%", "Nothing here", 200),
        ("#/none/of/ours", "Nothing here", 200),
    ],
)
def test_errors_say_what_how_and_under_which_id(
    visit: Visit, address: str, title: str, status: int
) -> None:
    one = visit()
    with (
        one.page.expect_response(lambda found: "/v1/" in found.url)
        if status != 200
        else ExitStack()
    ):
        one.go(address)
    alert = one.page.get_by_role("alert")
    expect(alert.locator(".problem-title")).to_have_text(title)
    assert len(alert.locator("p").nth(1).inner_text()) > 10
    if status != 200:
        told = facts(alert)
        ids = {one.headers["x-request-id"] for one in answers(one, status)}
        assert told["Request id"] in ids
        assert alert.get_by_role("link").get_attribute("href") == f"/docs/problems/{told['Code']}"
    one.require_clean(status)


def answers(visitor: Visitor, status: int) -> list[Any]:
    found = [request.response() for request in visitor.requests]
    return [one for one in found if one and one.status == status]


def test_what_a_change_of_networks_interrupts_is_asked_again(visit: Visit) -> None:
    one = visit()
    one.page.route("**/v1/jobs", lambda route: route.abort("connectionreset"), times=2)
    one.go("#/jobs")
    expect(one.heading).to_have_text("Jobs")


def test_a_page_of_which_a_part_is_missing_says_so(browser: Browser, site: Site) -> None:
    page = browser.new_page()
    page.route("**/assets/tags.js", lambda route: route.abort())
    page.goto(site.service.url)
    expect(page.get_by_text("If it stays like this, load it again.")).to_be_visible()
    page.close()


def test_a_service_that_is_gone_is_told(visit: Visit) -> None:
    one = visit()
    one.page.context.set_offline(True)
    one.go("#/jobs")
    expect(one.page.get_by_role("alert")).to_contain_text("The service does not answer.")


def test_all_of_a_session_by_keyboard(visit: Visit, site: Site) -> None:
    before = site.registry.tags("team/app")
    one = visit(secret=None)
    one.press("Tab")
    assert one.page.locator(":focus").inner_text() == "Skip to the content"
    one.press("Enter")
    expect(one.page.get_by_role("main")).to_be_focused()
    one.tab_to("Token")
    one.page.keyboard.type(site.service.admin())
    one.press("Enter")
    expect(one.heading).to_have_text("Registries")
    for step in ("default", "team/app"):
        one.tab_to(step)
        one.press("Enter")
        expect(one.heading).to_have_text(step)
        expect(one.heading).to_be_focused()
    delete_and_restore(one, "team/app:stable")
    assert site.registry.tags("team/app") == before
    one.require_clean()


def delete_and_restore(one: Visitor, name: str) -> None:
    """Think again once, then delete a tag and take that back, all by keyboard."""
    dialog = one.page.get_by_role("dialog")
    one.tab_to(f"Delete {name}")
    one.press("Enter")
    expect(dialog.get_by_role("heading")).to_be_focused()
    one.press("Escape")
    expect(dialog).to_be_hidden()
    expect(one.page.get_by_role("button", name=f"Delete {name}")).to_be_focused()
    one.press("Enter")
    expect(dialog.get_by_text("It can be put back")).to_be_visible()
    one.tab_to("Delete")
    one.press("Enter")
    expect(notice(one)).to_be_focused()
    expect(notice(one)).to_contain_text(f"Deleted {name}.")
    one.tab_to(f"Undo: restore {name}")
    one.press("Enter")
    expect(notice(one)).to_contain_text(f"Restored {name}.")


VIEWS = (
    "#/",
    "#/registries/default",
    "#/registries/away",
    APP,
    f"{APP}/tags/1.0",
    f"{APP}/tags/2.0",
    HARM,
    "#/registries/default/deletions",
    "#/registries/default/collections",
    "#/jobs",
    "#/audit",
    "#/none",
)


def require_open_to_all(one: Visitor) -> None:
    """Raise where axe finds a barrier, in light or dark, or a phone would have to scroll aside."""
    where = one.page.url
    for scheme in ("light", "dark"):
        one.page.emulate_media(color_scheme=scheme)
        assert one.violations() == [], (where, scheme)
    one.page.set_viewport_size(PHONE)
    assert one.page.evaluate("document.scrollingElement.scrollWidth") == PHONE["width"], where
    one.page.set_viewport_size(DESK)


def test_nobody_is_shut_out_in_light_or_dark_or_on_a_phone(visit: Visit, site: Site) -> None:
    # The library that looks is put into the page, which the page's policy is there to prevent.
    one = visit(secret=None, bypass_csp=True, reduced_motion="reduce")
    require_open_to_all(one)
    one.sign_in(site.service.admin())
    job = ended(site.service, dry_run=True)["id"]
    for address in (*VIEWS, f"#/jobs/{job}"):
        one.go(address)
        for closed in one.page.locator("summary").all()[:2]:
            closed.click()
        require_open_to_all(one)
    one.go(APP)
    dialog = look(one, "team/app:1.0")
    require_open_to_all(one)
    dialog.get_by_role("button", name="Delete").click()
    one.page.get_by_role("button", name="Undo").wait_for()
    one.settled()
    require_open_to_all(one)
    one.page.get_by_role("button", name="Undo").click()
    expect(notice(one)).to_contain_text("Restored team/app:1.0.")
    one.settled()
    one.page.emulate_media(color_scheme="dark")
    picture(one, "dark")


def test_it_works_on_a_phone(visit: Visit, site: Site) -> None:
    one = visit(viewport=PHONE, has_touch=True)
    one.page.get_by_role("link", name="default", exact=True).tap()
    one.page.get_by_role("link", name="team/app").tap()
    told = get(site.service, tag_path("team/app", "1.0"))
    assert told["digest"][:19] in one.page.get_by_role("row", name="1.0").first.inner_text()
    picture(one, "phone")
    one.require_clean()
