"""Where the kernel's pattern puts cores, and what it calls them."""

import pytest

from service.domain.core_pattern import CorePattern

KNOWN = {"h": "box", "u": "1000"}


@pytest.mark.parametrize(
    ("text", "uses_pid", "kind"),
    [
        ("core", False, "relative"),
        ("dir/core", False, "relative"),
        ("/var/core.%p", False, "absolute"),
        ("|/usr/share/apport/apport %p", False, "pipe"),
        ("", False, "none"),
        ("", True, "relative"),
    ],
)
def test_the_kind(text: str, uses_pid: bool, kind: str) -> None:  # noqa: FBT001
    assert CorePattern(text, uses_pid).kind == kind


@pytest.mark.parametrize(
    ("text", "directory"),
    [
        ("core", "/srv/app"),
        ("cores/core", "/srv/app/cores"),
        ("../core", "/srv"),
        ("/core", "/"),
        ("/var/crash/core.%e.%p", "/var/crash"),
        ("/var//crash/../cores/%e", "/var/cores"),
        ("/cores/%h/%u/core", "/cores/box/1000"),
        ("/cores/100%%/core", "/cores/100%"),
        ("/cores/%e/core", None),
        ("%p/core", None),
    ],
)
def test_the_directory(text: str, directory: str | None) -> None:
    assert CorePattern(text).directory("/srv/app", KNOWN) == directory


@pytest.mark.parametrize(
    ("text", "uses_pid", "names", "others"),
    [
        ("core", False, ["core"], ["core.1", "score", "core2"]),
        ("core", True, ["core.17"], ["core", "core.x"]),
        ("core.%p", True, ["core.17"], ["core.17.17", "core."]),
        ("/var/core.%e.%p", False, ["core.web.1", "core.a.b.2"], ["core.web", "core.web.x"]),
        ("%e-%s-%t", False, ["web-11-1700000000"], ["web-11"]),
        ("c%%%p", False, ["c%7"], ["c7"]),
        ("core%z", False, ["core"], ["corez", "core%z"]),
        ("core%", False, ["core"], ["core%"]),
        ("c.re", False, ["c.re"], ["core"]),
        ("%E", False, ["!usr!bin!web"], []),
        ("", True, [".17"], ["17", ""]),
        ("", False, [], [""]),
    ],
)
def test_the_names(text: str, uses_pid: bool, names: list[str], others: list[str]) -> None:  # noqa: FBT001
    pattern = CorePattern(text, uses_pid)
    assert [name for name in [*names, *others] if pattern.matches(name)] == names
