"""Objects of which only the name can be read: they must not pass for objects that aren't there."""

from __future__ import annotations

from kubeapi.told import Applied, Undecodable
from policyd.model.finding import Finding
from policyd.model.names import ObjectKey
from policyd.resources.base import Document, Meta, Unreadable
from policyd.sources.events import AnyObject


def object_of(key: ObjectKey, version: str, change: Applied[AnyObject]) -> AnyObject:
    """Return the object that was told; Unreadable where its JSON can't be decoded."""
    found = change.object
    if not isinstance(found, Undecodable):
        return found
    document = Document({"undecodable": found.body.decode("utf-8", "replace")})
    problem = Finding("error", "undecodable", f"can't be decoded: {found.problem}", key)
    return Unreadable(key, version, Meta(key.name, key.namespace, uid=change.uid), document, (problem,))
