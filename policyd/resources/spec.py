"""The base of every model of a `spec`, and the field types that several kinds share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, ClassVar, Literal, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler, ValidationInfo
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from policyd.model.names import POLICYD, is_namespace_name, is_object_name
from policyd.resources.checks import ENGINE, Checks
from policyd.resources.instants import read_instant


@dataclass(frozen=True, slots=True)
class Reading:
    """What a validator needs to know of the object that it validates a part of."""

    group: str = POLICYD
    namespace: str = ""
    checks: Checks = ENGINE


def reading(info: ValidationInfo) -> Reading:
    """Return the reading a validator works for; without one, that of an object of our group."""
    return info.context if isinstance(info.context, Reading) else Reading()


class Cel(NamedTuple):
    """A rule for the API server: it must hold, or `message` is said.

    `words` is an expression for a message that shows the value, as the reader's does; `message` then stands
    for it where it can't be worked out.
    """

    rule: str
    message: str
    words: str = ""

    def as_schema(self) -> dict[str, str]:
        """Return it as an item of `x-kubernetes-validations`."""
        made = {"rule": self.rule, "message": self.message}
        return made | {"messageExpression": self.words} if self.words else made


class Spec(BaseModel):
    """Strict: unknown fields refused, nothing converted.

    Rules of one field are in its type, so that each field can be read alone when another is broken; rules
    over several fields are `mode="after"` validators.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=to_camel,
        populate_by_name=False,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    cel: ClassVar[tuple[Cel, ...]] = ()
    """Rules over several fields for the API server: what CEL can say, in the words of the reader."""

    ours_only: ClassVar[frozenset[str]] = frozenset()
    """Fields, as written, that our group adds to Linkerd's kind of the same name."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Give the schema with the model's CEL rules, for the generator of CRDs."""
        made = handler.resolve_ref_schema(handler(schema))
        if cls.cel:
            made["x-kubernetes-validations"] = [each.as_schema() for each in cls.cel]
        return made

    @classmethod
    def doubtful(cls, written: Mapping[str, object]) -> Iterable[str]:
        """Attributes that can't be salvaged, though each is valid by itself: what was meant can't be told."""
        del written
        return ()


T = TypeVar("T")
Items = Annotated[tuple[T, ...], Field(strict=False)]
"""A list, kept as a tuple."""


def shown(value: object) -> str:
    """Return a value as an error message has it: quoted, and cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _object_name(value: object) -> object:
    if isinstance(value, str) and not is_object_name(value):
        raise ValueError(
            f"{shown(value)} is not a name: expected at most 253 lower-case letters, digits, `-` and `.`"
        )
    return value


def _namespace_name(value: object) -> object:
    if isinstance(value, str) and not is_namespace_name(value):
        raise ValueError(
            f"{shown(value)} is not a namespace: expected at most 63 lower-case letters, digits and `-`"
        )
    return value


ObjectName = Annotated[str, BeforeValidator(_object_name), Field(max_length=253)]
NamespaceName = Annotated[str, BeforeValidator(_namespace_name), Field(max_length=63)]
Instant = Annotated[
    datetime,
    BeforeValidator(read_instant, json_schema_input_type=str),
    Field(json_schema_extra={"maxLength": 64}),
]

Access = Literal[
    "deny",
    "audit",
    "all-authenticated",
    "cluster-authenticated",
    "all-unauthenticated",
    "cluster-unauthenticated",
]
"""What a port grants by default (semantics W3)."""

Action = Literal["Allow", "Deny", "Require"]
Mode = Literal["Enforce", "Audit"]


def read_access(value: str) -> Access | None:
    """Return a default access as an annotation has it; None where the value is unknown (semantics W4)."""
    known: tuple[Access, ...] = get_args(Access)
    return next((access for access in known if access == value), None)
