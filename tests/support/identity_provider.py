"""A small identity provider: real keys, a JSON Web Key set over HTTP, tokens, and its troubles."""

import asyncio
import json
from collections.abc import Mapping
from functools import lru_cache
from types import TracebackType
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

Json = dict[str, Any]
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@lru_cache(maxsize=64)
def make_key(algorithm: str, name: str = "") -> PrivateKey:
    """Makes a key for `algorithm`; the same name gives the same key, because
    RSA keys take long to make."""
    if algorithm in {"RS256", "PS256"}:
        return rsa.generate_private_key(65537, 2048)
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate()


def public_pem(key: PrivateKey) -> str:
    public = key.public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def private_pem(key: PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_jwk(key: PrivateKey, **more: object) -> Json:
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        entry = RSAAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        entry = ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        entry = OKPAlgorithm.to_jwk(public, as_dict=True)
    return {**dict(entry), **more}


def sign(key: PrivateKey, algorithm: str, claims: Mapping[str, Any], **header: object) -> str:
    return jwt.encode(dict(claims), key, algorithm=algorithm, headers=dict(header))


class IdentityProvider:
    """Serves `keys` as a set at `jwks_url`, or whatever `trouble` says; used with `async with`."""

    def __init__(self, algorithm: str = "ES256") -> None:
        self.algorithm = algorithm
        self.keys: dict[str, PrivateKey] = {"first": make_key(algorithm, "first")}
        self.trouble = ""
        """`status`, `huge`, `rubbish`, `empty`, `drip`, `crumbs`, or `reset`; empty for none."""
        self.requests = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.issuer = f"http://127.0.0.1:{port}"
        self.jwks_url = f"{self.issuer}/jwks.json"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def rotate(self, kid: str) -> None:
        """Sign with a new key from now on, and publish no other."""
        self.keys = {kid: make_key(self.algorithm, kid)}

    def token(self, sub: str = "ann", *, kid: str = "", **claims: object) -> str:
        """A token by the newest key, or one that says it is by `kid`."""
        newest = list(self.keys)[-1]
        payload: Json = {
            "iss": self.issuer,
            "sub": sub,
            "exp": 4_000_000_000,
            "hub": {"subscribe": ["news"], "publish": ["chat:{sub}"]},
        }
        return sign(self.keys[newest], self.algorithm, payload | claims, kid=kid or newest)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.requests += 1
            await self.may_answer.wait()
            if self.trouble == "reset":
                return
            if self.trouble in {"drip", "crumbs"}:
                await self._trickle(writer)
                return
            status, body = self._answer()
            head = f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _trickle(self, writer: asyncio.StreamWriter) -> None:
        """Answer with no end: a byte now and then, or thousands of chunks of one byte."""
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1\r\n \r\n" * (1 if self.trouble == "drip" else 1000))
            await writer.drain()
            await asyncio.sleep(0.01)

    def _answer(self) -> tuple[str, bytes]:
        match self.trouble:
            case "status":
                return "500 Internal Server Error", b"{}"
            case "huge":
                return "200 OK", b" " * 1_000_000
            case "rubbish":
                return "200 OK", b"<html>maintenance</html>"
            case "empty":
                return "200 OK", b'{"keys":[]}'
        entries = [
            public_jwk(key, kid=kid, use="sig", alg=self.algorithm)
            for kid, key in self.keys.items()
        ]
        return "200 OK", json.dumps({"keys": entries}).encode()
