"""Where objects of a kind are found in the API."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class ResourcePath:
    """A kind's objects, in one namespace or (None) in all of them, or of a kind that has no namespaces."""

    group: str
    version: str
    plural: str
    namespace: str | None = None

    def url(self, name: str | None = None, subresource: str | None = None) -> str:
        """Return the path of the whole collection, of an object, or of a part of it. Raises ValueError."""
        root = f"/apis/{_word(self.group)}" if self.group else "/api"
        parts = [root, _word(self.version)]
        if self.namespace is not None:
            parts += ["namespaces", _word(self.namespace)]
        parts.append(_word(self.plural))
        if name is not None:
            parts.append(_word(name))
        if subresource is not None:
            parts.append(_word(subresource))
        return "/".join(parts)

    @property
    def text(self) -> str:
        """`pods`, `servers.policyd.dev`: as `kubectl get` names it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


def _word(text: str) -> str:
    """One segment of a path; what would mean several is refused, so that no name reaches another object."""
    if text in {"", ".", ".."} or "/" in text:
        raise ValueError(f"{text!r}: expected one segment of a path")
    return quote(text, safe="")
