"""How tests speak to the service: paths, pages, problems."""

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlencode

from tests.e2e.bed.http import Answer, ask
from tests.e2e.bed.registry import RunningRegistry

REGISTRY = "/v1/registries/default"
PROBLEM = "application/problem+json"
ZEROS = "sha256:" + 64 * "0"

Found = TypeVar("Found")


class Asked(ABC):
    """The service, wherever it runs; it answers at `url`."""

    url: str

    @abstractmethod
    def admin(self) -> str:
        """Give a token that may do everything, made once."""

    def ask(
        self,
        path: str,
        method: str = "GET",
        *,
        token: str | None = "",
        body: Any = None,  # noqa: ANN401 - what JSON can say
        headers: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> Answer:
        """Send one request; as an administrator unless a token is named, None for nobody."""
        sent = dict(headers or {})
        if token is not None:
            sent.setdefault("Authorization", f"Bearer {token or self.admin()}")
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        packed = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        return ask(f"{self.url}{path}", method, headers=sent, body=packed, timeout=timeout)


def repository_path(repository: str, rest: str = "", registry: str = REGISTRY) -> str:
    return f"{registry}/repositories/{repository}{'/-/' + rest if rest else ''}"


def tag_path(repository: str, tag: str) -> str:
    return repository_path(repository, f"tags/{tag}")


def manifest_path(repository: str, reference: str, rest: str = "") -> str:
    return repository_path(repository, f"manifests/{reference}{'/' + rest if rest else ''}")


def query(**options: object) -> str:
    """Write options as the API has them: ``?force=true``; None leaves one out."""
    texts = {name: json.dumps(value) if isinstance(value, bool) else value
             for name, value in options.items() if value is not None}  # fmt: skip
    return f"?{urlencode(texts)}" if texts else ""


def get(service: Asked, path: str, **options: object) -> Any:  # noqa: ANN401 - JSON
    """Give the document of a 200."""
    answer = service.ask(path + query(**options))
    assert answer.status == 200, (path, answer.body)
    return answer.json()


def pages(service: Asked, path: str, **options: object) -> list[Any]:
    """Follow ``next`` to the end; gives all items."""
    return [item for page in each_page(service, path, **options) for item in page]


def each_page(service: Asked, path: str, **options: object) -> Iterator[list[Any]]:
    following: str | None = path + query(**options)
    while following:
        answer = service.ask(following)
        assert answer.status == 200, (following, answer.body)
        document = answer.json()
        following = document["next"]
        told = f'<{following}>; rel="next"' if following else None
        assert answer.headers.get("link") == told
        yield document["items"]


def delete(service: Asked, path: str, **options: object) -> Any:  # noqa: ANN401 - JSON
    """Delete what is at a path; gives the deletion."""
    answer = service.ask(path + query(**options), "DELETE")
    assert answer.status == 200, (path, answer.body)
    return answer.json()


def restore(service: Asked, deletion: Mapping[str, Any], **options: object) -> Any:  # noqa: ANN401 - JSON
    """Restore a deletion; gives what was put back."""
    answer = try_restore(service, deletion, **options)
    assert answer.status == 200, answer.body
    return answer.json()


def try_restore(service: Asked, deletion: Mapping[str, Any], **options: object) -> Answer:
    path = f"{REGISTRY}/deletions/{deletion['id']}/restore"
    return service.ask(path, "POST", body=options)


def problem(answer: Answer, status: int, code: str) -> Any:  # noqa: ANN401 - JSON
    """Give the problem document of an answer, once it is the one expected and whole."""
    assert (answer.status, answer.headers["content-type"]) == (status, PROBLEM), answer
    document = answer.json()
    assert document["code"] == code, document
    assert document["status"] == status
    assert document["type"]
    assert document["title"]
    assert document["detail"]
    assert document["instance"].startswith("/")
    assert document["request_id"] == answer.headers["x-request-id"]
    assert b"Traceback" not in answer.body
    return document


def major(registry: RunningRegistry) -> int:
    """Give the first number of a registry's version."""
    told = registry.container.exec_run(["registry", "--version"]).output
    assert isinstance(told, bytes)
    return int(told.decode().split()[-1].removeprefix("v").split(".")[0])


def at_once(calls: Iterable[Callable[[], Found]]) -> list[Found]:
    """Call all at once, each in a thread of its own; results in order, the first error raised."""
    found: dict[int, Found] = {}
    errors: list[BaseException] = []

    def run(number: int, call: Callable[[], Found]) -> None:
        try:
            found[number] = call()
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=each) for each in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [found[number] for number in range(len(threads))]


@contextmanager
def meanwhile(call: Callable[[], object]) -> Iterator[None]:
    """Call again and again in another thread while the block runs; its error is raised after."""
    stop, errors = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            while not stop.is_set():
                call()
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if errors:
        raise errors[0]
