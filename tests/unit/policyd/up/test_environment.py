"""A container's environment is what the kubelet would make of it."""

from __future__ import annotations

import pytest

from policyd.resources.workload import Container, EnvSource, EnvVar, FieldRef
from policyd.up.environment import (
    Listener,
    command_line,
    container_environment,
    expand,
    service_variables,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y2"),
        ("$(MISSING)", "$(MISSING)"),
        ("$$(A)", "$(A)"),
        ("$A ${A}", "$A ${A}"),
        ("$(A", "$(A"),
        ("", ""),
    ],
)
def test_expand(text: str, expected: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expected


def test_services_of_the_own_namespace_and_of_others() -> None:
    listeners = (
        Listener("books", "my-db", "primary", 5432, 20001),
        Listener("books", "my-db", "replica", 5433, 20002),
        Listener("other", "my-db", "", 1, 20003),
    )
    assert service_variables(listeners, "books", "127.1.2.3") == {
        "MY_DB_SERVICE_HOST": "127.1.2.3",
        "MY_DB_SERVICE_PORT": "20001",
        "MY_DB_SERVICE_PORT_PRIMARY": "20001",
        "MY_DB_SERVICE_PORT_REPLICA": "20002",
        "MY_DB_OTHER_SERVICE_HOST": "127.1.2.3",
        "MY_DB_OTHER_SERVICE_PORT": "20003",
    }


def test_variables_build_on_those_before_them() -> None:
    container = Container(
        "c",
        command=("run", "$(URL)"),
        args=("--pod=$(POD)",),
        env=(
            EnvVar("POD", value_from=EnvSource(FieldRef("metadata.name"))),
            EnvVar("URL", "http://$(DB_SERVICE_HOST):$(LATER)/$(POD)"),
            EnvVar("LATER", "1"),
            EnvVar("SECRET", value_from=EnvSource(None)),
        ),
    )
    variables = container_environment(
        container,
        {"DB_SERVICE_HOST": "127.0.0.9"},
        {"metadata.name": "c-0"},
        {"PATH": "/bin", "AWS_KEY": "no"},
    )
    assert variables["URL"] == "http://127.0.0.9:$(LATER)/c-0"
    assert (variables["PATH"], variables["SECRET"]) == ("/bin", "")
    assert "AWS_KEY" not in variables
    assert command_line(container, variables) == ["run", variables["URL"], "--pod=c-0"]
