"""What can still be read of a `spec` that is broken elsewhere (semantics U2, U3)."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from functools import lru_cache
from typing import Any

from pydantic import ValidationError, create_model

from policyd.model.names import POLICYD
from policyd.resources.draft import nulls
from policyd.resources.spec import Reading, Spec


def salvage(model: type[Spec], written: object, reading: Reading) -> dict[str, object]:
    """Return the fields, by attribute, that are valid by themselves; absent ones with their default, if any.

    Of Linkerd's kinds a field that only ours has is always its default: there it has no meaning (semantics
    A1).
    """
    fixed = _ours_only(model) if reading.group != POLICYD else {}
    if not isinstance(written, Mapping):
        return fixed
    found: dict[str, object] = {}
    for attribute in model.model_fields.keys() - fixed.keys():
        alias = model.model_fields[attribute].alias or attribute
        part = {alias: written[alias]} if alias in written else {}
        if any(nulls(part, ())):
            continue
        try:
            read = _single_field(model, attribute).model_validate(part, context=reading)
        except ValidationError:
            continue
        found[attribute] = getattr(read, attribute)
    for attribute in model.doubtful(written):
        found.pop(attribute, None)
    return found | fixed


def _ours_only(model: type[Spec]) -> dict[str, object]:
    fields = model.model_fields.items()
    return {
        name: info.get_default(call_default_factory=True)
        for name, info in fields
        if info.alias in model.ours_only
    }


@lru_cache(maxsize=256)
def _single_field(model: type[Spec], attribute: str) -> type[Spec]:
    info = model.model_fields[attribute]
    field: Any = (info.annotation, copy(info))
    made: type[Spec] = create_model(f"{model.__name__}_{attribute}", __base__=Spec, **{attribute: field})
    return made
