"""A denial line becomes the question it was."""

import json
from typing import Any

import pytest

from policyd.errors import ResourceError
from policyd.explain.question import Facts
from policyd.explain.recorded import question_of

FACTS = Facts("u", (), ())
RECORD: dict[str, Any] = {
    "direction": "inbound",
    "table": "sha256:00",
    "port": 8080,
    "time": "2026-11-21T12:00:00Z",
    "peer": {
        "ip": "10.0.0.7",
        "identity": "spiffe://td/ns/a/sa/b",
        "podUID": "p",
        "certificateSHA256": "0" * 64,
    },
    "request": {
        "version": "1.1",
        "method": "GET",
        "host": "books",
        "path": "/a",
        "query": [["k", "a b"], ["k", "c&d"]],
        "headers": [["x-env", "prod"]],
    },
}


def asked(record: dict[str, Any]) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(question_of(record, FACTS).encode())
    return decoded


def test_what_policies_read_of_a_query_is_asked_again() -> None:
    request = asked(RECORD)["request"]["http"]
    assert request["path"] == "/a?k=a+b&k=c%26d"
    assert request["headers"] == [["x-env", "prod"]]


def test_a_connection_is_asked_as_bytes() -> None:
    assert asked({**RECORD, "request": None})["request"] == {"tcp": {"silent": False}}


@pytest.mark.parametrize(
    "field",
    [
        {"direction": "outbound"},
        {"gate": {"rule": "G5", "offset": 4}},
        {"table": None},
        {"request": {"method": "GET", "path": "/a", "cut": [{"field": "path", "bytes": 70000}]}},
    ],
)
def test_what_no_table_decided_cannot_be_asked_again(field: dict[str, Any]) -> None:
    with pytest.raises(ResourceError):
        question_of({**RECORD, **field}, FACTS)
