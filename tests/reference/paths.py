"""Paths and queries: the gate's normal form [G4-G6], the folded form [V5], query pairs [V4]."""

import re

UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
_TRIPLET = re.compile(r"%[0-9A-Fa-f]{2}")


class PathRefused(ValueError):  # noqa: N818 - the gate's word
    """A path or query that the gate refuses; `rule` is the gate's."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


def _check_triplets(given: str) -> None:
    if "%" in _TRIPLET.sub("", given):
        raise PathRefused("G4")
    for triplet in _TRIPLET.findall(given):
        code = int(triplet[1:], 16)
        if code < 0x20 or code == 0x7F:
            raise PathRefused("G4")


def _plain(found: re.Match[str]) -> str:
    code = int(found[0][1:], 16)
    return chr(code) if code in UNRESERVED else found[0].upper()


def normal(path: str, mode: str = "strict") -> str:
    """Triplets of unreserved characters decoded, hexadecimal upper case [G6]; refuses by G4 and G5."""
    _check_triplets(path)
    plain = _TRIPLET.sub(_plain, path)
    if mode == "opaque":
        return plain
    segments = plain.split("/")[1:]
    ambiguous = "%2F" in plain or "%5C" in plain or "\\" in plain or re.search(r"%25[0-9A-Fa-f]{2}", plain)
    with_parameters = any(";" in part and part.split(";")[0] in (".", "..") for part in segments)
    if ambiguous or with_parameters:
        raise PathRefused("G5")
    if mode == "merge":
        return _merged(segments)
    if any(part in (".", "..") for part in segments) or "" in segments[:-1]:
        raise PathRefused("G5")
    return plain


def _merged(segments: list[str]) -> str:
    """Slashes merged, dot segments resolved; a directory keeps its trailing slash."""
    done: list[str] = []
    for part in segments:
        if part == "..":
            done = done[:-1]
        elif part not in ("", "."):
            done.append(part)
    directory = segments[-1] in ("", ".", "..")
    return "/" + "/".join(done) + ("/" if directory and done else "")


def folded(path: str) -> str:
    """As careless applications route: no parameters, no case, no trailing slash [V5]."""
    bare = "/".join(part.split(";")[0] for part in path.split("/"))
    return bare.lower().removesuffix("/") or "/"


def has_prefix(path: str, prefix: str) -> bool:
    """Whole segments; a trailing slash of the policy's prefix doesn't count [V5]."""
    stem = prefix.removesuffix("/")
    return path == stem or path.startswith(stem + "/")


def policy_path(given: str) -> str:
    """A policy's path, which must be written in normal form [V5]. `ValueError` otherwise."""
    if not re.fullmatch(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*", given) or normal(given) != given:
        raise PathRefused("G6")
    return given


def _decoded(part: str) -> bytes:
    raw = part.replace("+", " ").encode("latin-1")
    return re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes([int(found[1], 16)]), raw)


def pairs(query: str) -> list[tuple[bytes, bytes]]:
    """Split at `&`, then at the first `=`; empty pairs dropped [V4]."""
    _check_triplets(query)
    split = [part.partition("=") for part in query.split("&") if part]
    return [(_decoded(key), _decoded(value)) for key, _, value in split]
