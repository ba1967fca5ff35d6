"""The first inputs of the fuzz targets: correct examples, which the fuzzer makes wrong."""

import gzip
import json
import zlib
from collections.abc import Iterator

import jwt

from tests.fuzz import targets
from tests.support.frames import CLOSE, PING, UPGRADE, masked
from tests.support.golden import golden

_REQUEST = (
    "POST /api/publish/a HTTP/1.1\r\nHost: hub.example\r\nOrigin: https://example.com\r\n"
    "X-Forwarded-For: 1.2.3.4, 10.0.0.2\r\nContent-Length: 1\r\n\r\n1"
)
_CHUNKED = (
    "POST /api/publish HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    "3;x=y\r\n[1]\r\n0\r\nT: v\r\n\r\n"
)
_KEY = {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "k", "use": "sig", "x": "A" * 43}
_JWT = jwt.encode({"sub": "anna", "hub": {"subscribe": ["*"]}}, targets.SECRET, "HS256")


def _golden(name: str) -> Iterator[bytes]:
    for each in golden(name):
        yield json.dumps(each["wire"]).encode()


def _packed(data: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-15)
    return (deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]


SEEDS: dict[str, tuple[bytes, ...]] = {
    "requests": (
        b"\x00" + _REQUEST.encode(),
        b"\x07" + _CHUNKED.encode(),
        f"\0GET /ws?channel=a&since=a=e:1 HTTP/1.1\r\nHost: a\r\n{UPGRADE}\r\n".encode(),
    ),
    "frames": (
        b"\xff\x00" + masked(_packed(b'{"op":"ping","id":1}'), bits=0x40),
        b"\x00\x00" + masked(b'{"op":', fin=False) + masked(b'"ping","id":1}', 0),
        b"\x00\x03" + masked(b"x", PING) + masked(b"\x03\xe8bye", CLOSE),
    ),
    "command": tuple(_golden("commands")),
    "publications": (
        b'{"channel":"a","data":1,"key":"k","tags":{"a":1},"ttl_seconds":5,"history":false}',
        b'{"channels":["a","b"],"data":[1],"remove":true,"key":"k"}',
        b'[{"channel":"a","data":NaN},{"channel":"b","data":"\\ud83d"},7]',
    ),
    "payload": (b'{"a":[1,-0.5e3,"\\ud83d\\ude00",null,true]}', b"[[[[[[]]]]]]", b'"\xc3\xa9"'),
    "tags_and_filters": (b'{"a":{"gte":1,"in":[1,"b"],"exists":true}}{"a":1,"b":"x"}', b"a=1, b=c"),
    "query": (b'channel=a&pattern=b:*&since=a=e:1&last=3&filter={"a":1}&state=true&wait=2.5',),
    "token": (_JWT.encode(), b"session=x; a=b", b"hub, bearer.x", b"shop:sha256:00=a:*|b"),
    "grants": (b'{"hub":{"subscribe":["user:{sub}:*"],"publish":[]}}',),
    "keys": (json.dumps({"keys": [_KEY]}).encode(),),
    "answers_of_the_application": (
        b'{"allow":true,"sub":"a","grants":{"subscribe":["*"]},"expires_in_seconds":5,"data":{}}',
        b'{"allow":false,"reason":"no"}',
    ),
    "forwarded_headers": (b'for="[2001:db8::1]:80";proto=https, for=10.0.0.1\n1.2.3.4, 10.0.0.2',),
    "proxy_headers": (
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET",
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x01\x02\x03\x04\x05\x06\x07\x08\x00\x01\x00\x02GET",
    ),
    "redis_messages": (b'epoch\n7\n1000\n["k","s",null,0]\n{"a":1}', b"\x00join\n{}"),
    "packed_bodies": (gzip.compress(b'{"a":1}', mtime=0),),
    "settings": (b"64KiB/1:1MiB", b"10/0.5"),
    "first_bytes": (
        b"GET /ws?channel=a HTTP/1.1\r\nHost: hub.example\r\nOrigin: https://a.example\r\n\r\n",
    ),
    "words_between_nodes": (
        b'{"kind":"ban","name":"ann","at_ms":1,"until_ms":9,"reason":"spam"}',
        b'{"kind":"subject","name":"ann","at_ms":1,"until_ms":9,"before":5.5,"lifted":true}',
    ),
    "bodies_of_operators": (
        b'{"seconds":60,"reason":"spam"}',
        b'{"sub":"ann","issued_before":1.5}',
        b'{"jti":"7"}',
    ),
}


# What is deep or long without end, alone and where a value stands.
EXTREMES = (
    b"[" * 5000, b"[" * 5000 + b"]" * 5000, b'{"a":' * 3000, b'{"a":' * 3000 + b"1" + b"}" * 3000,
    b'"' * 5000, b"9" * 5000, b"-" * 5000, b"1e" + b"9" * 5000, b"=," * 2500, b"%41" * 2000,
    b";" * 5000, b" " * 5000, b"\n" * 5000, b":" * 5000, b"." * 5000, b"\xff" * 5000,
)  # fmt: skip
HOLES: dict[str, tuple[bytes, ...]] = {
    "command": (b'{"op":"publish","id":1,"channel":"a","data":%b}', b'{"op":"ping","id":%b}'),
    "publications": (b'[{"channel":"a","data":%b},1]', b'{"channel":"a","data":1,"tags":%b}'),
    "grants": (b'{"hub":%b}', b'{"hub":{"subscribe":%b}}'),
    "keys": (b'{"keys":[%b]}', b'{"keys":[{"kty":"RSA","alg":"RS256","e":"AQAB","n":"%b"}]}'),
    "answers_of_the_application": (b'{"allow":true,"data":%b}', b'{"allow":true,"grants":%b}'),
    "redis_messages": (b"e\n7\n1000\n%b\n1", b"e\n%b\n1000\n\n1", b"\x00trace\ne\n%b\nx"),
    "token": (b"%b.x.y", b"shop:sha256:%b"),
    "first_bytes": (b"GET / HTTP/1.1\r\nHost:%bx\r\n", b"GET /%b HTTP/1.1\r\nOrigin: %b\r\n\r\n"),
    "words_between_nodes": (b'{"kind":"ban","name":"a","at_ms":%b,"until_ms":%b}',),
    "bodies_of_operators": (b'{"seconds":%b}', b'{"jti":%b}', b'{"sub":"a","issued_before":%b}'),
    "query": (b"channel=a&since=a=e:%b", b"filter=%b", b"last=%b"),
}


def inputs() -> Iterator[bytes]:
    """All of them, each behind the byte that picks its target."""
    for number, target in enumerate(targets.TARGETS):
        for seed in SEEDS[target.__name__]:
            yield bytes((number,)) + seed
