"""A token server as registries send their clients to: a password for a signed, short-lived token.

Protocol: https://distribution.github.io/distribution/spec/auth/token/.
"""

import base64
import re
import ssl
import time
import uuid
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate
from joserfc import jwt
from joserfc.jwk import ECKey

from tests.e2e.bed.certificates import Authority
from tests.e2e.bed.http import basic
from tests.standin import Reply, Seen, StandIn, json_reply

SERVICE = "bed"
ISSUER = "bed tokens"
LIFETIME = 60  # seconds


class TokenServer:
    """Listens with TLS from construction to `close`; grants its user all it asks.

    ``signer`` is the CA of what it signs; set it once the registry that is to believe it runs.
    """

    def __init__(self, folder: Path, user: tuple[str, str]) -> None:
        self.user = user
        self.authority = Authority(folder)
        self.signer: Authority | None = None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        pair = self.authority.server()
        context.load_cert_chain(pair.certificate, pair.key)
        self.server = StandIn(self._answer, context).__enter__()

    def roots(self) -> Path:
        """Write what a client of the registry and of this server has to trust, as one file."""
        assert self.signer is not None
        both = self.authority.folder / "both.crt"
        both.write_bytes(self.authority.ca_file.read_bytes() + self.signer.ca_file.read_bytes())
        return both

    def environment(self) -> dict[str, str]:
        """Give what a registry's container needs; it must run with TLS, for the file of the CA."""
        return {
            "REGISTRY_AUTH": "token",
            "REGISTRY_AUTH_TOKEN_REALM": f"{self.server.url}/token",
            "REGISTRY_AUTH_TOKEN_SERVICE": SERVICE,
            "REGISTRY_AUTH_TOKEN_ISSUER": ISSUER,
            "REGISTRY_AUTH_TOKEN_ROOTCERTBUNDLE": "/bed/ca.crt",
        }

    def scopes(self) -> list[str]:
        """List what tokens were asked for, each as often as it was."""
        return [one.query.get("scope", "") for one in self.server.requests(path="/token")]

    def close(self) -> None:
        self.server.__exit__()

    def _answer(self, seen: Seen) -> Reply:
        if seen.headers.get("authorization") != basic(self.user)["Authorization"]:
            return json_reply({"details": "who are you?"}, 401)
        return json_reply({"token": self._token(seen.query), "expires_in": LIFETIME})

    def _token(self, query: dict[str, str]) -> str:
        assert self.signer is not None
        leaf = self.signer.ca.issue_cert("tokens.example")
        certificate = load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
        chain = base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()
        header = {"alg": "ES256", "x5c": [chain]}
        key = ECKey.import_key(leaf.private_key_pem.bytes())
        return jwt.encode(header, self._claims(query.get("scope", "")), key)

    def _claims(self, scope: str) -> dict[str, Any]:
        now = int(time.time())
        times = {"nbf": now - 10, "iat": now, "exp": now + LIFETIME}
        who = {"iss": ISSUER, "sub": self.user[0], "aud": SERVICE, "jti": uuid.uuid4().hex}
        return {**who, **times, "access": [access(one) for one in scope.split()]}


def access(scope: str) -> dict[str, Any]:
    """Read `repository:team/app:pull,push` as a claim."""
    found = re.fullmatch(r"(\w+):(.+):([\w,*]+)", scope)
    assert found, scope
    return {"type": found[1], "name": found[2], "actions": found[3].split(",")}
