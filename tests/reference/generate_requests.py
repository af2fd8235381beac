"""Random questions for generated worlds, and heads with one defect each that the gate must refuse."""

import random
from typing import Any

from tests.reference.generate_values import often, pick

Random = random.Random
Body = dict[str, Any]

NOW = "2026-11-21T12:00:00Z"
NOW_MILLIS = 1795262400000
HOUR = 3_600_000
POD: Body = {"uid": "u-9", "addresses": ["10.0.1.5"], "probeAddresses": ["10.0.0.1"]}

TARGETS = (
    ("/", 2), ("/a", 4), ("/a/b", 3), ("/a/", 1), ("/A", 1.5), ("/a;x", 1.5), ("/a/b;y/", 0.5), ("/admin", 2),
    ("/ADMIN/x", 0.7), ("/ab", 1), ("/%61", 0.7), ("/a?k=v", 1.5), ("/a?k=v&k=w", 1), ("/b?k=v+w", 0.5),
    ("/b?k=v%20w&&x", 0.5), ("/healthz", 1.5), ("/a/b?k=w", 1), ("/s.S/M", 0.7),
)  # fmt: skip
PEERS: tuple[tuple[Body, float], ...] = (
    ({"serviceAccount": "n/c"}, 9),
    ({"serviceAccount": "n/d"}, 4),
    ({"serviceAccount": "m/c"}, 4),
    ({"spiffeID": "spiffe://other.example/ns/n/sa/c"}, 2),
    ({"spiffeID": "spiffe://cluster.local/job/x"}, 0.7),
    ({}, 6),
)
ADDRESSES = (
    ("10.0.0.7", 8), ("10.1.0.9", 2), ("203.0.113.5", 2), ("203.0.113.9", 0.5), ("10.0.0.1", 3),
    ("10.9.0.3", 0.7), ("::ffff:10.0.0.7", 0.7), ("fd00::7", 0.7), ("2001:db8::1", 0.5),
)  # fmt: skip
TO = (("8080", 9), ("9090", 2), ("7000", 2), ("5432", 1.5), ("3306", 0.5))

_HOST = "Host: w\r\n"
HEADS: tuple[tuple[str, str], ...] = (
    ("G1", "GET /a HTTP/1.1\r\n\r\n"),
    ("G1", "GET /a HTTP/1.1\r\nHost: w\r\nHost: w\r\n\r\n"),
    ("G1", "GET /a HTTP/1.1\r\nHost: u@w\r\n\r\n"),
    ("G1", "GET http://v/a HTTP/1.1\r\nHost: w\r\n\r\n"),
    ("G3", f"GET a HTTP/1.1\r\n{_HOST}\r\n"),
    ("G3", f"GET /a#b HTTP/1.1\r\n{_HOST}\r\n"),
    ("G3", f'GET /a"b HTTP/1.1\r\n{_HOST}\r\n'),
    ("G3", f"GET * HTTP/1.1\r\n{_HOST}\r\n"),
    ("G4", f"GET /a%0 HTTP/1.1\r\n{_HOST}\r\n"),
    ("G4", f"GET /a%00 HTTP/1.1\r\n{_HOST}\r\n"),
    ("G4", f"GET /a?k=%zz HTTP/1.1\r\n{_HOST}\r\n"),
    ("G5", f"GET /a/../b HTTP/1.1\r\n{_HOST}\r\n"),
    ("G5", f"GET /a//b HTTP/1.1\r\n{_HOST}\r\n"),
    ("G5", f"GET /a%2Fb HTTP/1.1\r\n{_HOST}\r\n"),
    ("G5", f"GET /a/%2e%2e/b HTTP/1.1\r\n{_HOST}\r\n"),
    ("G5", f"GET /a/..;x/b HTTP/1.1\r\n{_HOST}\r\n"),
    ("G5", f"GET /a%2541 HTTP/1.1\r\n{_HOST}\r\n"),
    ("G8", f"POST /a HTTP/1.1\r\n{_HOST}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("G8", f"POST /a HTTP/1.1\r\n{_HOST}Content-Length: 05\r\n\r\n"),
    ("G8", f"POST /a HTTP/1.0\r\n{_HOST}Transfer-Encoding: chunked\r\n\r\n"),
    ("G9", f"GET /a HTTP/1.1\n{_HOST}\r\n"),
    ("G11", f"GET /a HTTP/1.1\r\n{_HOST}x env: a\r\n\r\n"),
    ("G11", f"GET /a HTTP/1.1\r\n{_HOST}content_length: 1\r\n\r\n"),
    ("G12", f"GET /a HTTP/1.1\r\n{_HOST}x-env: a\x01\r\n\r\n"),
    ("G14", f"GET /a HTTP/1.1\r\n{_HOST}Connection: authorization\r\n\r\n"),
    ("G17", f"get /a HTTP/1.1\r\n{_HOST}\r\n"),
    ("G17", f"TRACE /a HTTP/1.1\r\n{_HOST}\r\n"),
    ("G18", f"GET /a HTTP/1.2\r\n{_HOST}\r\n"),
    ("G19", f"GET /a HTTP/1.1\r\n{_HOST}Expect: 200-ok\r\n\r\n"),
)


def question(rng: Random, workloads: list[str]) -> Body:
    """A case as PolicyTest writes it, and beside it what only a connection knows (its certificate)."""
    workload = rng.choice(workloads)
    port = "8080" if workload.startswith("external") else pick(rng, TO)
    peer = {**pick(rng, PEERS), "ip": pick(rng, ADDRESSES)}
    if len(peer) > 1:
        _certify(rng, peer)
    body = {"to": f"{workload}:{port}", "from": peer, **_request(rng)}
    if often(rng, 0.06):
        body["tableAgeMillis"] = rng.choice((HOUR, 12 * HOUR, 12 * HOUR + 1000))
    return body


def _certify(rng: Random, peer: Body) -> None:
    if often(rng, 0.15):
        peer["podUID"] = rng.choice(("u-1", "u-2"))
    if often(rng, 0.1):
        peer["certificateSHA256"] = rng.choice(("ab", "cd")) * 32
    peer["notBefore"] = NOW_MILLIS - rng.choice((HOUR // 2, HOUR, 2 * HOUR))
    peer["notAfter"] = NOW_MILLIS + (0 if often(rng, 0.01) else 22 * HOUR)


def _headers(rng: Random) -> list[list[str]]:
    found: list[list[str]] = []
    if often(rng, 0.45):
        found.append([rng.choice(("x-env", "X-ENV")), rng.choice(("a", "b", " a ", "a, b", "c", "ab"))])
    if often(rng, 0.08):
        found.append(["x-env", rng.choice(("a", "b"))])
    if often(rng, 0.1):
        found.append(["x-team", rng.choice(("a", "c"))])
    if often(rng, 0.06):
        found += [["cookie", "a"], ["cookie", "b"]][: rng.choice((1, 2))]
    return found


def _lower(rng: Random, headers: list[list[str]]) -> list[list[str]]:
    """HTTP/2 knows names in lower case only, and values without blanks around them."""
    upper = often(rng, 0.02)
    return [[name if upper else name.lower(), value.strip()] for name, value in headers]


def _request(rng: Random) -> Body:
    kind = pick(
        rng, (("http", 12), ("grpc", 2.2), ("bytes", 0.8), ("silent", 0.7), ("tls", 0.4), ("raw", 1.2))
    )
    if kind == "bytes":
        return {"tcp": {}}
    if kind == "silent":
        return {"tcp": {"silent": True}}
    if kind == "tls":
        return {"tls": {"sni": "example.com"}}
    if kind == "raw":
        return {"http": {"raw": rng.choice(HEADS)[1]}}
    if kind == "grpc":
        service, method = pick(rng, ((("s.S", "M"), 5), (("t.T", "M"), 2), (("s.S", "N"), 2)))
        if often(rng, 0.15):
            service, method = "grpc.health.v1.Health", "Check"
        return {
            "grpc": {
                "service": service,
                "method": method,
                "host": _host(rng),
                "headers": _lower(rng, _headers(rng)),
            }
        }
    return {"http": _http(rng)}


def _host(rng: Random) -> str:
    return str(
        pick(
            rng,
            (("w", 5), ("w.n", 1), ("api.example.com", 1), ("a.b.example.com", 1), ("W.n:8080", 1), ("v", 1)),
        )
    )


def _http(rng: Random) -> Body:
    method = pick(rng, (("GET", 6), ("POST", 2), ("DELETE", 1), ("PURGE", 0.3)))
    headers = _headers(rng)
    if often(rng, 0.05):
        headers.append(
            ["content-type", rng.choice(("application/grpc", "application/grpc+proto", "text/plain"))]
        )
    if method != "GET" and often(rng, 0.2):
        headers.append(["content-length", rng.choice(("0", "7"))])
    version = pick(rng, (("1.1", 6), ("1.0", 1), ("2", 3)))
    if version == "2":
        headers = _lower(rng, headers)
    return {
        "version": version,
        "method": method,
        "path": pick(rng, TARGETS),
        "host": _host(rng),
        "headers": headers,
    }
