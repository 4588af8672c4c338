"""A certificate authority of the run, for registries behind TLS."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Pair:
    """PEM files of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """A CA: `ca_file` is what a client must trust; it vouches for servers and clients."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = trustme.CA()
        self.ca_file = folder / "ca.crt"
        self.ca.cert_pem.write_to_path(str(self.ca_file))

    def server(self, address: str = "127.0.0.1") -> Pair:
        return self._pair("server", self.ca.issue_cert(address, "localhost"))

    def client(self) -> Pair:
        return self._pair("client", self.ca.issue_cert("registry-admin@example.test"))

    def trust(self, client: Pair | None = None) -> ssl.SSLContext:
        """Make what a client needs to reach a server of this CA."""
        context = ssl.create_default_context(cafile=str(self.ca_file))
        if client is not None:
            context.load_cert_chain(client.certificate, client.key)
        return context

    def _pair(self, name: str, leaf: trustme.LeafCert) -> Pair:
        pair = Pair(self.folder / f"{name}.cert", self.folder / f"{name}.key")
        if not pair.key.exists():
            pair.key.write_bytes(leaf.private_key_pem.bytes())
            pair.certificate.write_bytes(b"".join(one.bytes() for one in leaf.cert_chain_pems))
        return pair
