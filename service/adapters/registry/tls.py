"""Whom a registry's TLS is trusted by: system roots and the files people put down for it.

Folders are laid out as Docker's, https://docs.docker.com/engine/security/certificates/:
``<certs_dir>/<host>:<port>/`` holds CA roots as ``*.crt`` and client pairs as ``NAME.cert`` with
``NAME.key``.
"""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.adapters.registry.origin import Origin
from service.domain.errors import RegistryTlsUntrusted

Version = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class ClientPair:
    """A client certificate (chain) and its key, as files."""

    certificate: Path
    key: Path


class Trust:
    """What is trusted and presented for one origin; read anew when the files change."""

    def __init__(
        self, origin: Origin, certs_dir: Path, ca_file: Path | None, roots_of: Trust | None = None
    ) -> None:
        """Look below ``certs_dir`` under each name of ``origin``, and at ``ca_file``.

        ``roots_of``: trust the CA roots of that one too, as for a registry's token server, but
        present none of its client certificates.
        """
        self._origin = origin
        self._ca_file = ca_file
        self._folders = [certs_dir / alias for alias in origin.aliases]
        self._roots_of = roots_of
        self._mutex = threading.Lock()
        self._loaded: tuple[Version, ssl.SSLContext] | None = None

    @property
    def advice(self) -> str:
        """What to do when the registry is not trusted, with the file to add."""
        return (
            f"Add the CA that signed it as {self._folders[0] / 'ca.crt'} (PEM), or name its file "
            "in the registry's setting ca_file."
        )

    def ca_files(self) -> list[Path]:
        """CA roots that are trusted besides the system's."""
        found = [self._ca_file] if self._ca_file else []
        found += [path for path in self._files() if path.suffix == ".crt"]
        return found + (self._roots_of.ca_files() if self._roots_of else [])

    def client_pair(self) -> ClientPair | None:
        """The first certificate, by name, that has its key beside it."""
        certificates = [path for path in self._files() if path.suffix == ".cert"]
        pairs = [ClientPair(path, path.with_suffix(".key")) for path in certificates]
        return next((pair for pair in pairs if pair.key.exists()), None)

    def context(self) -> ssl.SSLContext:
        """Return the context for new connections, the same one as long as no file changes.

        Raise RegistryTlsUntrusted when a file is no PEM certificate or key.
        """
        version = self.version()
        with self._mutex:
            if self._loaded is None or self._loaded[0] != version:
                self._loaded = (version, self._load())
            return self._loaded[1]

    def version(self) -> Version:
        """Name every file that plays a part, with what changes when it is written."""
        found = list(_stat(self._ca_file)) if self._ca_file else []
        for folder in self._folders:
            found += sorted(_listed(folder))
        return (*found, *(self._roots_of.version() if self._roots_of else ()))

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        # Docker trusts whatever certificate is put down, be it a root or not, and takes the
        # certificates of old home-made CAs; newer Pythons would refuse those by default.
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
        for path in self.ca_files():
            with _blaming(path, self._origin):
                context.load_verify_locations(path)
        pair = self.client_pair()
        if pair:
            with _blaming(pair.certificate, self._origin):
                context.load_cert_chain(pair.certificate, pair.key)
        return context

    def _files(self) -> list[Path]:
        return [Path(path) for folder in self._folders for path, _, _ in sorted(_listed(folder))]


def _stat(path: Path) -> Iterator[tuple[str, int, int]]:
    try:
        found = path.stat()
    except OSError:
        return
    yield str(path), found.st_mtime_ns, found.st_size


def _listed(folder: Path) -> Iterator[tuple[str, int, int]]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - asked for each request, pathlib is slower
    except OSError:
        return
    for name in names:
        if name.endswith((".crt", ".cert", ".key")):
            yield from _stat(folder / name)


@contextmanager
def _blaming(path: Path, origin: Origin) -> Iterator[None]:
    """Say which file it is that OpenSSL refuses."""
    try:
        yield
    except OSError as error:  # ssl.SSLError is one
        raise RegistryTlsUntrusted(
            f"The file {path}, kept for {origin}, cannot be used as a PEM certificate or key. "
            "Nothing was changed. Replace or remove it."
        ) from error
