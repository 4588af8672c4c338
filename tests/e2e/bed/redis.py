"""A private Redis on 127.0.0.1."""

from collections.abc import Mapping

import redis

from demo.processes import free_port, wait_until
from tests.e2e.bed.programs import need
from tests.e2e.bed.workspace import Child, Workspace

PASSWORD = "of-the-bed"


class Redis:
    """A server that ends with `close`; it keeps nothing on disk."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.home = workspace.folder("redis")
        self.host = f"127.0.0.1:{free_port()}"
        self.url = f"redis://:{PASSWORD}@{self.host}/0"
        self.start()

    def start(self) -> None:
        port = self.host.rpartition(":")[2]
        options = {"bind": "127.0.0.1", "port": port, "requirepass": PASSWORD, "save": ""}
        flags = [part for name, value in options.items() for part in (f"--{name}", value)]
        argv = [str(need("redis-server", "redis-server")), *flags, "--dir", str(self.home)]
        self.server = Child(self.workspace, argv, self.home / "log")
        wait_until(self._answers, 30, f"redis answers\n{self.server.tail()}")

    def close(self) -> None:
        self.server.stop()

    def client(self, database: int = 0) -> "redis.Redis":
        """Open a client; close it after, or use it in a `with`."""
        host, _, port = self.host.rpartition(":")
        return redis.Redis(host, int(port), database, PASSWORD)

    def held(self) -> set[str]:
        """Give all keys."""
        with self.client() as client:
            return {key.decode() for key in client.scan_iter()}

    def empty(self) -> None:
        with self.client() as client:
            client.flushall()

    def environment(self) -> Mapping[str, str]:
        """What has a registry cache here what it knows of blobs."""
        return {
            "REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR": "redis",
            "REGISTRY_REDIS_ADDR": self.host,
            "REGISTRY_REDIS_ADDRS": f'["{self.host}"]',  # from 3.0 on
            "REGISTRY_REDIS_PASSWORD": PASSWORD,
        }

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False
