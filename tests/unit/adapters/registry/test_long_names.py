import pytest

from service.domain.errors import RegistryAnswerInvalid, RepositoryUnknown
from service.domain.reference import Digest, Repository, Tag
from tests.standin import Reply, says
from tests.unit.adapters.registry.support import Connect, Serve

LONG, SHORT = Repository("a" * 240), Repository("a" * 230)
REFERENCES = (Tag("1"), Digest("sha256:" + "0" * 64))


@pytest.mark.parametrize("reference", REFERENCES)
def test_a_mistake_of_the_registry_over_a_very_long_name_says_that_it_has_none_such(
    serve: Serve, connect: Connect, reference: Tag | Digest
) -> None:
    # Distribution 2.8 answers just this from somewhere below its limit of 255 on.
    registry = connect(serve(says(Reply(500, [("Content-Type", "application/json")], b"{}\n"))))
    with pytest.raises(RepositoryUnknown, match="240 characters are too many"):
        registry.manifest(LONG, reference)
    with pytest.raises(RepositoryUnknown, match="240 characters are too many"):
        registry.tags(LONG)
    with pytest.raises(RegistryAnswerInvalid):
        registry.manifest(SHORT, reference)
    with pytest.raises(RegistryAnswerInvalid):
        registry.tags(SHORT)


def test_resolving_a_tag_of_such_a_name_says_so_too(serve: Serve, connect: Connect) -> None:
    registry = connect(serve(says(Reply(500, [], b"{}\n"))))
    with pytest.raises(RepositoryUnknown):
        registry.resolve(LONG, Tag("1"))
