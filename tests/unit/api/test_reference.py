"""The reference: complete, and nothing in it leads nowhere."""

import re
from pathlib import Path

import pytest

from service.api.reference import as_markdown
from service.api.samples import curl, operations, samples
from service.app import openapi_document
from tests.unit.api.conformance import document

CHECKED_IN = Path(__file__).parents[3] / "docs" / "reference.md"
PAGE = CHECKED_IN.read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### (\w+)\n((?:(?!##).*\n)*)", PAGE, re.MULTILINE))
OPERATIONS = {one["operationId"]: (path, method, one) for path, method, one in
              operations(document())}  # fmt: skip
CURL = {one.id: curl(one) for one in samples(document())}


def test_the_reference_checked_in_is_the_one_of_the_code() -> None:
    assert openapi_document("markdown") == PAGE, "run: make openapi"


def test_it_is_made_the_same_each_time() -> None:
    assert as_markdown(document()) == as_markdown(document())


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_is_in_it_with_all_that_is_to_be_known(name: str) -> None:
    path, method, operation = OPERATIONS[name]
    section = SECTIONS[name]
    assert section.startswith(f"\n`{method} {path}`\n\n{operation['summary']}\n")
    assert operation.get("description", "") in section
    assert f"```sh\n{CURL[name]}\n```" in section
    for parameter in operation["parameters"]:
        assert f"| `{parameter['name']}` | {parameter['in']} | " in section
    for status in operation["responses"]:
        assert f"\n| {status} | " in section


def test_an_answer_tells_its_codes_or_its_schema() -> None:
    section = SECTIONS["deleteTag"]
    assert "| 200 | What was removed. `application/json`: [Deletion](#deletion) |" in section
    assert "| 412 | `digest-mismatch` |" in section
    assert "Needs the scope `registry:delete`." in section
    assert (
        "| `dry_run` | query | boolean | Only tell what would happen. Default: `false`. |"
        in section
    )


def test_bodies_and_schemas_are_told_member_by_member() -> None:
    assert "The body is [GcOptions](#gcoptions):" in SECTIONS["createGcRun"]
    assert '| `mode` |  | `"read-only"`, `"stopped"`, `"live"` | ' in SECTIONS["createGcRun"]
    assert "| `cron` | yes | string | " in SECTIONS["putGcSchedule"]
    assert "| `time_zone` |  | string | " in SECTIONS["putGcSchedule"]  # too many to list
    assert "| `tls` | yes | [Tls](#tls) or null | " in SECTIONS["Registry"]
    assert "| `created_at` | yes | date-time | " in SECTIONS["Job"]
    assert "| `layers` | yes | list of [Layer](#layer) | " in SECTIONS["Manifest"]


def test_no_heading_is_there_twice_and_each_link_leads_to_one() -> None:
    headings = [found.lower() for found in re.findall(r"^##+ ([\w-]+)$", PAGE, re.MULTILINE)]
    assert len(set(headings)) == len(headings)
    assert set(re.findall(r"\(#([\w-]+)\)", PAGE)) <= set(headings)


def test_every_code_is_explained() -> None:
    _, _, problems = PAGE.partition("\n## Problems\n")
    told = re.findall(r"^\| `([\w-]+)` \| \d{3} \| .+ \|$", problems, re.MULTILINE)
    assert set(told) == set(document()["components"]["examples"])
    assert told == sorted(told)
