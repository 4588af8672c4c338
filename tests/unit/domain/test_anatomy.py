"""Which steps of an image's history made its layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from service.domain.anatomy import layers

Step = tuple[str, int] | tuple[str, int, str]


def digests(count: int) -> list[str]:
    return [f"sha256:{number:064x}" for number in range(count)]


def filled(count: int, *steps: Step, known: Mapping[str, int] | None = None) -> list[bool]:
    """Which of the steps, the first one first, have one of so many layers."""
    found = layers({"RootFS": {"Layers": digests(count)}}, history(steps), (known or {}).get)
    assert [one.digest for one in found if not one.empty] == digests(count)
    assert [one.created_by for one in found] == [step[0] for step in steps]
    return [not one.empty for one in found]


def history(steps: Sequence[Step]) -> list[dict[str, object]]:
    """As the engine tells it: the last one first."""
    rows = [{"CreatedBy": c, "Size": s, "Id": i[0] if i else "<missing>"} for c, s, *i in steps]
    return list(reversed(rows))


@pytest.mark.parametrize(
    "form", ["/bin/sh -c #(nop)  {}", "/bin/sh -c #(nop) {}", "{}", "{} # buildkit"]
)
def test_steps_that_set_something_have_none(form: str) -> None:
    sets = ('CMD ["sh"]', "ENV A=1", "LABEL a=b", "USER 1", "EXPOSE 80", "ENTRYPOINT x",
            "VOLUME /data", "STOPSIGNAL 9", "HEALTHCHECK none", "ARG A", "SHELL x")  # fmt: skip
    for one in sets:
        assert filled(2, ("ADD /", 5), (form.format(one), 0), ("RUN x", 0)) == [True, False, True]


def test_files_of_no_bytes_make_a_layer() -> None:
    steps = (("ADD /", 5), ("ENV A=1", 0), ("COPY empty /", 0), ("WORKDIR /a", 0), ("CMD sh", 0))
    assert filled(3, *steps) == [True, False, True, True, False]


def test_what_images_of_the_steps_tell_is_no_guess() -> None:
    steps = (
        ("ADD /", 5),
        ("RUN true", 0, "sha256:1"),
        ("RUN touch /a", 0, "sha256:2"),
        ("WORKDIR /", 0, "sha256:3"),
        ("CMD sh", 0),
    )
    known = {"sha256:1": 1, "sha256:2": 2, "sha256:3": 2}
    assert filled(2, *steps, known=known) == [True, False, True, False, False]
    del known["sha256:1"], known["sha256:3"]
    assert filled(2, *steps, known=known) == [True, True, False, False, False]  # a guess


def test_nobody_is_asked_where_bytes_tell_it() -> None:
    def asked(image_id: str) -> int:
        raise AssertionError(image_id)

    steps = history([("ADD", 1, "sha256:1"), ("CMD", 0, "sha256:2")])
    found = layers({"RootFS": {"Layers": digests(1)}}, steps, asked)
    assert [one.empty for one in found] == [False, True]


@pytest.mark.parametrize("count", [0, 3])
def test_a_history_that_does_not_fit_tells_nothing(count: int) -> None:
    found = layers({"RootFS": {"Layers": digests(count)}}, history([("ADD", 1), ("RUN", 1)]))
    assert [one.digest for one in found] == digests(count)
    assert {one.created_by for one in found} <= {None}


def test_an_image_of_nothing_has_none() -> None:
    assert layers({"RootFS": {}}, []) == []
