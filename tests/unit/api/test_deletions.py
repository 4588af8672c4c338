import pytest

from service.domain.reference import Repository
from tests.fakes import FakeRegistry, image
from tests.unit.api.conftest import Bed

DELETIONS = "/v1/registries/default/deletions"


def tag(name: str, repository: str = "team/app") -> str:
    return f"/v1/registries/default/repositories/{repository}/-/tags/{name}"


@pytest.fixture
def deletion(bed: Bed) -> str:
    bed.registry.push("team/app", image("a"), "1.0")
    return str(bed.ask(tag("1.0"), "DELETE").json["id"])


def test_the_record_is_what_was_answered(bed: Bed) -> None:
    bed.registry.push("team/app", image("a"), "1.0")
    answered = bed.ask(tag("1.0"), "DELETE").json
    assert bed.ask(f"{DELETIONS}/{answered['id']}").json == answered
    assert bed.ask(DELETIONS).json == {"items": [answered], "next": None}


def test_a_dry_run_leaves_no_record(bed: Bed) -> None:
    bed.registry.push("team/app", image("a"), "1.0")
    bed.ask(tag("1.0") + "?dry_run=true", "DELETE")
    assert bed.ask(DELETIONS).json["items"] == []


def test_the_newest_comes_first(bed: Bed) -> None:
    bed.registry.push("team/app", image("a"), "1", "2", "3")
    for name in "123":
        bed.ask(tag(name), "DELETE")
    found = bed.ask(DELETIONS).json["items"]
    assert [one["requested"]["tag"] for one in found] == ["3", "2", "1"]


def test_a_deletion_belongs_to_its_registry(bed: Bed, deletion: str) -> None:
    bed.registries.registries["other"] = FakeRegistry("other")
    elsewhere = f"/v1/registries/other/deletions/{deletion}"
    assert bed.ask(elsewhere).problem == (404, "deletion-unknown")
    assert bed.ask(f"{elsewhere}/restore", "POST").problem == (404, "deletion-unknown")
    assert bed.ask("/v1/registries/other/deletions").json["items"] == []


def test_those_of_repositories_off_limits_are_not_seen(bed: Bed, deletion: str) -> None:
    limited = bed.token("admin", repositories=("library/*",))
    assert bed.ask(DELETIONS, token=limited).json["items"] == []
    for path, method in ((f"{DELETIONS}/{deletion}", "GET"), (restore(deletion), "POST")):
        answer = bed.ask(path, method, token=limited)
        assert answer.problem == (403, "insufficient-scope")


def restore(deletion: str) -> str:
    return f"{DELETIONS}/{deletion}/restore"


@pytest.mark.parametrize("body", [None, {}, {"force": False, "dry_run": False}])
def test_restoring_puts_everything_back(
    bed: Bed, deletion: str, body: dict[str, bool] | None
) -> None:
    built = image("a")
    record = bed.ask(f"{DELETIONS}/{deletion}").json
    answer = bed.ask(restore(deletion), "POST", body=body)
    assert (answer.status, answer.json) == (
        200,
        {
            **record,
            "deletion": deletion,
            "tags_restored": ["1.0"],
            "manifests_restored": [
                {
                    "digest": built.digest,
                    "media_type": built.raw.media_type,
                    "size": len(built.raw.body),
                }
            ],
            "dry_run": False,
        },
    )
    assert bed.registry.resolved("team/app") == {"1.0": built.digest}


def test_a_dry_run_of_restoring_changes_nothing(bed: Bed, deletion: str) -> None:
    writes = list(bed.registry.writes)
    dry = bed.ask(restore(deletion), "POST", body={"dry_run": True})
    assert bed.registry.writes == writes
    real = bed.ask(restore(deletion), "POST")
    assert dry.json == {**real.json, "dry_run": True}


def test_a_tag_in_use_is_moved_only_by_force(bed: Bed, deletion: str) -> None:
    other = bed.registry.push("team/app", image("b"), "1.0")
    answer = bed.ask(restore(deletion), "POST")
    assert answer.problem == (409, "tag-exists")
    assert answer.json["tags"] == [{"tag": "1.0", "digest": image("a").digest, "current": other}]
    assert bed.ask(restore(deletion), "POST", body={"force": True}).status == 200
    assert bed.registry.resolved("team/app") == {"1.0": image("a").digest}


def test_collected_blobs_are_410_and_the_record_remembers(bed: Bed, deletion: str) -> None:
    bed.registry.collect()
    answer = bed.ask(restore(deletion), "POST")
    assert answer.problem == (410, "blobs-collected")
    assert len(answer.json["blobs"]) == 2
    assert bed.registry.contents[Repository("team/app")].manifests == {}
    assert bed.ask(f"{DELETIONS}/{deletion}").json["restorable"] is False


def test_a_dangling_tag_cannot_be_restored(bed: Bed) -> None:
    bed.registry.push("team/app", image("a"), "1.0")
    bed.registry.dangle("team/app", "1.0")
    gone = bed.ask(tag("1.0"), "DELETE").json["id"]
    assert bed.ask(restore(gone), "POST").problem == (409, "not-restorable")


@pytest.mark.parametrize("body", [{"forced": True}, {"force": "true"}, {"force": None}, []])
def test_unknown_and_unclear_options_are_refused(bed: Bed, deletion: str, body: object) -> None:
    assert bed.ask(restore(deletion), "POST", body=body).problem == (422, "validation-failed")


def test_unknown_deletions_are_404(bed: Bed) -> None:
    assert bed.ask(f"{DELETIONS}/{'0' * 32}").problem == (404, "deletion-unknown")
    assert bed.ask(restore("0" * 32), "POST").problem == (404, "deletion-unknown")
