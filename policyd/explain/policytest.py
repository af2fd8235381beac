"""PolicyTest files: strict models, found and read with the place of every mistake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from policyd.errors import SourceError
from policyd.model.finding import Finding
from policyd.model.names import POLICYD
from policyd.resources.base import Document
from policyd.resources.instants import read_instant
from policyd.resources.problems import explain
from policyd.resources.read import TEST_KIND, type_of
from policyd.resources.spec import Items, Spec, shown
from policyd.sources.files import find
from policyd.sources.yaml_documents import parse

Text = Annotated[str, Field(min_length=1)]


def _instant(value: object) -> object:
    return read_instant(value) if isinstance(value, str) else value


Instant = Annotated[datetime, BeforeValidator(_instant)]


def _pairs(value: object) -> object:
    """Headers are a mapping, or a list of [name, value] where one name stands twice."""
    if isinstance(value, dict):
        return list(value.items())
    return (
        [tuple(pair) if isinstance(pair, list) else pair for pair in value]
        if isinstance(value, list)
        else value
    )


Headers = Annotated[Items[tuple[str, str]], BeforeValidator(_pairs)]


def _version(value: object) -> object:
    """`2`, `1.1` and `1.0` are numbers in YAML unless quoted."""
    return f"{value:g}" if isinstance(value, int | float) and value != 1 else "1.0" if value == 1 else value


class Caller(Spec):
    """Who calls. Without serviceAccount and spiffeID: a peer without identity."""

    service_account: Text | None = None
    spiffe_id: Annotated[str | None, Field(alias="spiffeID")] = None
    ip: str | None = None
    pod_uid: Annotated[str | None, Field(alias="podUID")] = None
    certificate_sha256: Annotated[str | None, Field(alias="certificateSHA256")] = None
    not_before: Instant | None = None
    not_after: Instant | None = None

    @model_validator(mode="after")
    def _one_identity(self) -> Caller:
        if self.service_account is not None and self.spiffe_id is not None:
            raise ValueError("serviceAccount and spiffeID: expected at most one of them")
        return self


class Http(Spec):
    """An HTTP request, by its parts or as the bytes of an HTTP/1.1 head."""

    version: Annotated[Literal["1.0", "1.1", "2"], BeforeValidator(_version)] = "1.1"
    method: str = "GET"
    host: str | None = None
    path: str = "/"
    headers: Headers = ()
    scheme: str | None = None
    raw: str | None = None

    @model_validator(mode="after")
    def _raw_alone(self) -> Http:
        if self.raw is not None and self.model_fields_set != {"raw"}:
            raise ValueError("raw and other fields: raw is the whole head")
        return self


class Grpc(Spec):
    """A gRPC call over HTTP/2."""

    service: Text
    method: Text
    host: str | None = None
    headers: Headers = ()


class Tcp(Spec):
    """Bytes that are not HTTP; `silent`: none came until detection ran out."""

    silent: bool = False


class Tls(Spec):
    """TLS that isn't the mesh's."""

    sni: str | None = None


class Pod(Spec):
    """Pod facts (semantics W1)."""

    uid: str = ""
    addresses: Items[str] = ()
    probe_addresses: Items[str] = ()


class ExpectedAudit(Spec):
    """See Expected."""

    verdict: Literal["allow", "deny"] | None = None
    reason: str | None = None
    authorizations: Items[str] | None = None


class Expected(Spec):
    """What a case expects; only the fields given are compared."""

    verdict: Literal["allow", "deny"] | None = None
    reason: str | None = None
    status: int | None = None
    grpc_status: int | None = None
    server: str | None = None
    route: str | None = None
    authorization: str | None = None
    audit: ExpectedAudit | None = None

    @model_validator(mode="after")
    def _something(self) -> Expected:
        if not self.model_fields_set:
            raise ValueError("nothing is expected: expected at least a verdict")
        return self


class Case(Spec):
    """One request and what it must come to."""

    name: Text
    shows: Items[str] = ()
    to: Text
    from_: Annotated[Caller, Field(alias="from")] = Caller()
    http: Http | None = None
    grpc: Grpc | None = None
    tcp: Tcp | None = None
    tls: Tls | None = None
    at: Instant | None = None
    pod: Pod | None = None
    table_age_millis: Annotated[int, Field(ge=0)] = 0
    expect: Expected

    @model_validator(mode="after")
    def _one_request(self) -> Case:
        given = [name for name in ("http", "grpc", "tcp", "tls") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"{' and '.join(given) or 'no request'}: expected exactly one of http, grpc, tcp, tls"
            )
        return self


def _unique(cases: tuple[Case, ...]) -> tuple[Case, ...]:
    names = [case.name for case in cases]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"two cases are named {shown(twice)}: expected each name once")
    return cases


class Name(Spec):
    """`metadata`."""

    model_config = ConfigDict(extra="ignore")

    name: Text


class PolicyTest(Spec):
    """A PolicyTest document."""

    api_version: Literal["policyd.dev/v1alpha1"]
    kind: Literal["PolicyTest"]
    metadata: Name
    manifests: Annotated[Items[Text], Field(min_length=1)] = ("*.yaml",)
    at: Instant | None = None
    pod: Pod = Pod()
    cases: Annotated[Items[Case], Field(min_length=1), AfterValidator(_unique)]


@dataclass(frozen=True, slots=True)
class TestFile:
    """A PolicyTest with the place it was read from."""

    __test__ = False

    path: Path
    document: Document
    test: PolicyTest

    def line_of(self, case: int) -> int:
        """Return the line at which a case begins."""
        return self.document.origin(("cases", case)).line

    def manifests(self) -> list[Path]:
        """Return the manifest files it is about. Raises SourceError where a pattern matches none."""
        files: dict[Path, None] = {}
        for index, pattern in enumerate(self.test.manifests):
            matched = sorted(found for found in self.path.parent.glob(pattern) if found.is_file())
            if not matched:
                place = self.document.origin(("manifests", index)).text
                raise SourceError(f"{place}: manifests[{index}]: {pattern!r} matches no file")
            files.update(dict.fromkeys(matched))
        return list(files)


@dataclass(frozen=True, slots=True)
class Found:
    """The tests below some paths, and what is wrong with those that can't be read."""

    files: tuple[TestFile, ...]
    problems: tuple[Finding, ...]


def find_tests(paths: Iterable[Path]) -> Found:
    """Read every PolicyTest in the files and folders given. Raises SourceError where a path isn't there."""
    files: list[TestFile] = []
    problems: list[Finding] = []
    for file in dict.fromkeys(file for path in paths for file in find(path)):
        for found in _tests_in(file):
            if isinstance(found, Finding):
                problems.append(found)
            else:
                files.append(found)
    return Found(tuple(files), tuple(problems))


def _tests_in(path: Path) -> Iterator[TestFile | Finding]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from error
    if b"PolicyTest" not in content:
        return
    parsed = parse(content, str(path))
    yield from parsed.problems
    for document in parsed.documents:
        named = type_of(document)
        if named is None or (named[0], named[2]) != (POLICYD, TEST_KIND):
            continue
        yield from _read(path, document)


def _read(path: Path, document: Document) -> Iterator[TestFile | Finding]:
    written: Any = document.content
    try:
        yield TestFile(path, document, PolicyTest.model_validate(written))
    except ValidationError as error:
        for problem in explain(error, PolicyTest, written):
            origin = document.origin(problem.path)
            message = f"{_text(problem.path)}: {problem.message}" if problem.path else problem.message
            yield Finding("error", problem.code, message, origin=origin, advice=problem.advice)


def _text(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
