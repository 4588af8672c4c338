from tests.fakes import Behaviour, image
from tests.unit.api.conftest import ADMIN, Bed

REPOSITORIES = "/v1/registries/default/repositories"


def listed(bed: Bed, query: str = "", token: str = ADMIN) -> list[str]:
    answer = bed.ask(REPOSITORIES + query, token=token)
    assert all(set(item) == {"name"} for item in answer.json["items"])
    return [item["name"] for item in answer.json["items"]]


def test_repositories_without_tags_are_left_out_unless_asked_for(bed: Bed) -> None:
    bed.registry.push("team/app", image("a"), "1.0")
    bed.registry.push("team/emptied", image("b"))
    assert listed(bed) == ["team/app"]
    assert listed(bed, "?include_empty=false") == ["team/app"]
    assert listed(bed, "?include_empty=true") == ["team/app", "team/emptied"]


def test_those_off_limits_are_left_out(bed: Bed) -> None:
    for name in ("team/app", "library/alpine", "library/team/app"):
        bed.registry.push(name, image(name), "1.0")
    limited = bed.token("registry:read", repositories=("team/*", "library/al*"))
    assert listed(bed, token=limited) == ["library/alpine", "team/app"]


def test_a_registry_without_a_catalog_says_so(bed: Bed) -> None:
    bed.registry.behaviour = Behaviour(catalog=False)
    assert bed.ask(REPOSITORIES).problem == (502, "catalog-unsupported")


def test_a_repository_tells_how_many_tags_it_has(bed: Bed) -> None:
    bed.registry.push("team/app", image("a"), "1.0", "latest")
    assert bed.ask(f"{REPOSITORIES}/team/app").json == {"name": "team/app", "tag_count": 2}


def test_an_emptied_repository_has_none(bed: Bed) -> None:
    bed.registry.push("team/app", image("a"))
    assert bed.ask(f"{REPOSITORIES}/team/app").json == {"name": "team/app", "tag_count": 0}


def test_an_unknown_repository_is_404(bed: Bed) -> None:
    assert bed.ask(f"{REPOSITORIES}/team/none").problem == (404, "repository-unknown")
