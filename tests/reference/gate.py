"""The gate, judged on a request's head: docs/reference/gate rules G1 to G19, with [V2], [T4], [T5] and [T7].

Every rule is tried and every violation is kept in the order found; the first one is the refusal. A violation
is *hard* where it also binds on a port whose `audit` default reads nothing [T5].
"""

import ipaddress
import re
from dataclasses import dataclass, field

from tests.reference.paths import PathRefused, normal, pairs

TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
PATH_BYTES = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")
QUERY_BYTES = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:@%/?\[\]{}|^`-]*")
CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
HOST_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
GRPC_TYPE = re.compile(r"application/grpc([+;].*)?", re.IGNORECASE | re.DOTALL)

HARD = {"G1", "G8", "G9", "G10", "G14", "G18", "G20"}
MESH_HEADERS = ("l5d-client-id", "x-forwarded-client-cert")
NEVER_NAMED = ("host", "content-length", "transfer-encoding", "authorization", *MESH_HEADERS)
OWN_FRAMING = ("host", "content-length", "transfer-encoding", *MESH_HEADERS)
CONNECTION_HEADERS = ("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade")
HEAD_LIMIT, LIST_LIMIT, FIELD_LIMIT, TARGET_LIMIT, COUNT_LIMIT = 65536, 16384, 8192, 8192, 100


@dataclass
class Profile:
    """What the gate needs of the table: the path mode and the headers that policies on the port read."""

    path_mode: str = "strict"
    websocket: bool = False
    read_headers: frozenset[str] = frozenset()


@dataclass
class HttpRequest:
    """The canonical request; `headers` in lower case with blanks around the values removed [V3]."""

    version: str
    method: str
    host: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    query_pairs: list[tuple[bytes, bytes]] = field(default_factory=list)

    @property
    def target(self) -> str:
        return self.path + ("?" + self.query if self.query else "")


@dataclass
class Judgement:
    """The request, or the rules that refuse it in the order found, each with whether it is hard."""

    request: HttpRequest | None
    refusals: list[tuple[str, bool]]
    grpc: bool = False
    version: str = "1.1"

    def refusal(self, *, lenient: bool) -> str | None:
        return next((rule for rule, hard in self.refusals if hard or not lenient), None)


class _Finder:
    def __init__(self) -> None:
        self.refusals: list[tuple[str, bool]] = []

    def add(self, rule: str, when: object, *, hard: bool = False) -> None:
        if when:
            self.refusals.append((rule, hard or rule in HARD))


def host_name(authority: str) -> str | None:
    """An authority's host in normal form without port [G1, G2, V6]; None if it isn't one."""
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]*)(?::([0-9]{1,5}))?", authority)
    if not found or (found[2] and int(found[2]) > 65535):
        return None
    host = found[1].lower()
    if host.startswith("["):
        try:
            return f"[{ipaddress.IPv6Address(host[1:-1])}]"
        except ValueError:
            return None
    host = host.removesuffix(".")
    return host if HOST_NAME.fullmatch(host) else None


def is_grpc(headers: list[tuple[str, str]]) -> bool:
    """Exactly one content type, of gRPC's form [R2]."""
    types = [value for name, value in headers if name == "content-type"]
    return len(types) == 1 and bool(GRPC_TYPE.fullmatch(types[0]))


def is_http_head(head: bytes) -> bool:
    """A first line whose last word begins `HTTP/` in any case [T1]."""
    words = re.split(rb"\r?\n", head, maxsplit=1)[0].split()
    return bool(words) and words[-1].upper().startswith(b"HTTP/")


def http1(head: bytes, profile: Profile) -> Judgement:
    """Judge the exact bytes of an HTTP/1 head, up to and including the empty line."""
    find = _Finder()
    find.add("limits", len(head) > HEAD_LIMIT, hard=True)
    find.add("G9", re.search(rb"(?<!\r)\n|\r(?!\n)", head) or not head.endswith(b"\r\n\r\n"))
    lines = re.split(rb"\r?\n", head.rstrip(b"\r\n"))
    method, target, version = _request_line(lines[0], find)
    raw_headers = [_field_line(line, find) for line in lines[1:]]
    headers = [(name, value) for name, value in raw_headers if name]
    find.add("limits", len(target) > TARGET_LIMIT or len(headers) > COUNT_LIMIT)
    find.add("limits", any(len(name) + len(value) > FIELD_LIMIT for name, value in headers))
    find.add("limits", sum(len(name) + len(value) for name, value in headers) > LIST_LIMIT)
    _method(method, find)
    hosts = [value for name, value in headers if name == "host"]
    find.add("G1", len(hosts) != 1)
    host = host_name(hosts[0]) if hosts else None
    find.add("G1", hosts and host is None)
    absolute = re.fullmatch(r"(?i:https?)://([^/?#]*)(.*)", target, re.DOTALL)
    if absolute:
        find.add("G1", host_name(absolute[1]) is None or host_name(absolute[1]) != host)
        target = absolute[2] if absolute[2].startswith("/") else "/" + absolute[2]
    _framing(version, headers, find)
    _fields(headers, profile, find)
    _upgrade(headers, profile, find)
    return _finish(find, (version, method, host, target), headers, profile)


def http2(parts: dict[str, str], headers: list[tuple[str, str]], profile: Profile) -> Judgement:
    """Judge a field list: `parts` are method, authority and path, as the pseudo-headers say them."""
    find = _Finder()
    host = host_name(parts["authority"])
    find.add("G1", host is None)
    named = [value for name, value in headers if name == "host"]
    find.add("G1", len(named) > 1 or any(host_name(value) != host for value in named))
    _method(parts["method"], find)
    size = sum(len(name) + len(value) for name, value in headers)
    find.add("limits", len(parts["path"]) > TARGET_LIMIT or len(headers) > COUNT_LIMIT or size > LIST_LIMIT)
    for name, value in headers:
        find.add("G11", name != name.lower())
        find.add("G12", CONTROL.search(value.encode("latin-1")), hard=True)
        find.add("G12", value != value.strip(" \t"))
    find.add("G14", any(name in CONNECTION_HEADERS for name, _ in headers))
    _fields(headers, profile, find)
    return _finish(find, ("2", parts["method"], host, parts["path"]), headers, profile)


def _request_line(line: bytes, find: _Finder) -> tuple[str, str, str]:
    first, _, rest = line.partition(b" ")
    middle, _, version = rest.rpartition(b" ")
    find.add("G18", version not in (b"HTTP/1.1", b"HTTP/1.0"))
    find.add("G3", CONTROL.search(middle), hard=True)
    return first.decode("latin-1"), middle.decode("latin-1"), "1.0" if version == b"HTTP/1.0" else "1.1"


def _method(method: str, find: _Finder) -> None:
    """Unknown methods are for policy to see; TRACE and TRACK are refused [G17]."""
    legal = TOKEN.fullmatch(method.encode("latin-1")) and method == method.upper() and len(method) <= 32
    find.add("G17", not legal or method in ("TRACE", "TRACK"))


def _field_line(line: bytes, find: _Finder) -> tuple[str, str]:
    name, colon, value = line.partition(b":")
    find.add("G11", CONTROL.search(name), hard=True)
    find.add("G11", not colon or not TOKEN.fullmatch(name))
    value = value.strip(b" \t")
    find.add("G12", CONTROL.search(value), hard=True)
    return name.decode("latin-1").lower(), value.decode("latin-1")


def _framing(version: str, headers: list[tuple[str, str]], find: _Finder) -> None:
    lengths = [value for name, value in headers if name == "content-length"]
    encodings = [value for name, value in headers if name == "transfer-encoding"]
    find.add("G8", lengths and encodings)
    find.add(
        "G8", encodings and (version == "1.0" or len(encodings) > 1 or encodings[0].lower() != "chunked")
    )
    legal = len(lengths) == 1 and re.fullmatch(r"0|[1-9][0-9]{0,18}", lengths[0]) and int(lengths[0]) < 2**63
    find.add("G8", lengths and not legal)


def _upgrade(headers: list[tuple[str, str]], profile: Profile, find: _Finder) -> None:
    """A WebSocket handshake where the Server doesn't take it [T4]; recorded only under [T5]."""
    options = [
        item.strip().lower() for name, value in headers if name == "connection" for item in value.split(",")
    ]
    asked = [value.lower() for name, value in headers if name == "upgrade"]
    if "upgrade" in options and asked == ["websocket"] and not profile.websocket:
        find.refusals.append(("G14", False))


def _fields(headers: list[tuple[str, str]], profile: Profile, find: _Finder) -> None:
    read = profile.read_headers
    for name, value in headers:
        if "_" in name:
            alike = name.replace("_", "-")
            find.add("G11", alike in OWN_FRAMING or alike in read or alike.startswith("x-policyd-"))
        if name == "connection":
            named = [item.strip().lower() for item in value.split(",")]
            find.add("G14", any(item in NEVER_NAMED or item in read for item in named))
            find.add("G14", any(item.startswith("x-policyd-") for item in named))
        find.add("G19", name == "expect" and value.lower() != "100-continue")


def _finish(
    find: _Finder, line: tuple[str, str, str | None, str], headers: list[tuple[str, str]], profile: Profile
) -> Judgement:
    version, method, host, target = line
    _target(method, target, find)
    path, _, query = target.partition("?")
    query_pairs: list[tuple[bytes, bytes]] = []
    try:
        path = normal(path, profile.path_mode) if path.startswith("/") else path
        query_pairs = pairs(query)
    except PathRefused as refused:
        find.add(refused.rule, True)
    answer = Judgement(None, find.refusals, is_grpc(headers), version)
    if not find.refusals:
        answer.request = HttpRequest(version, method, host or "", path, query, _joined(headers), query_pairs)
    return answer


def _target(method: str, target: str, find: _Finder) -> None:
    """Origin form with one `/`, or `*` with OPTIONS; nothing outside RFC 3986 [G3], but the query of [T7]."""
    if target == "*":
        find.add("G3", method != "OPTIONS")
        return
    path, _, query = target.partition("?")
    find.add("G3", not path.startswith("/"))
    find.add("G3", not PATH_BYTES.fullmatch(path.encode("latin-1")))
    find.add("G3", not QUERY_BYTES.fullmatch(query.encode("latin-1")))


def _joined(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Cookie lines are one value, joined with `; ` [V2]."""
    cookies = [value for name, value in headers if name == "cookie"]
    rest = [(name, value) for name, value in headers if name != "cookie"]
    return [*rest, ("cookie", "; ".join(cookies))] if cookies else rest
