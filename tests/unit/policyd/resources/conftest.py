"""Reading manifests written in tests, with the engine's own checks."""

from collections.abc import Callable
from typing import Any

import pytest

from policyd.resources.base import Resource, Unreadable
from policyd.resources.read import read
from policyd.sources.yaml_documents import parse

Object = Resource[Any] | Unreadable


@pytest.fixture
def objects() -> Callable[[str], list[Object]]:
    """All objects of a text of manifests."""

    def made(text: str) -> list[Object]:
        parsed = parse(text.encode(), "test.yaml")
        assert not parsed.problems, [problem.text for problem in parsed.problems]
        found = (read(document) for document in parsed.documents)
        return [each for each in found if each is not None]

    return made


@pytest.fixture
def one(objects: Callable[[str], list[Object]]) -> Callable[[str], Object]:
    """The only object of a text."""

    def made(text: str) -> Object:
        (found,) = objects(text)
        return found

    return made


@pytest.fixture
def spec_of(one: Callable[[str], Object]) -> Callable[[str, str, str], Object]:
    """The object of `group/version`, kind and the text of a spec, named books/it."""

    def made(api_version: str, kind: str, spec: str) -> Object:
        return one(
            f"apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: it, namespace: books}}\nspec: {spec}"
        )

    return made
