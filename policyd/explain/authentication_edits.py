"""Edits of authentications: letting somebody into one, or taking somebody out."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from functools import partial
from typing import Any

from policyd.explain.edit import add_entry, append_item
from policyd.explain.situation import Candidate, Object, Situation, written
from policyd.index.world import World
from policyd.model.names import POLICYD, ObjectKey
from policyd.model.origin import FieldPath

SPEC: FieldPath = ("spec",)


def references(world: World, policy: Object, kind: str) -> Iterator[Object]:
    """Yield the authentications of a kind that a policy refers to and that are there."""
    for reference in written(policy, ("spec", "requiredAuthenticationRefs")) or ():
        if not isinstance(reference, dict) or reference.get("kind") != kind:
            continue
        namespace = reference.get("namespace") or policy.key.namespace
        key = ObjectKey(str(reference.get("group") or ""), kind, str(namespace), str(reference.get("name")))
        found = world.objects.get(key)
        if found is not None:
            yield found


def admit_identity(situation: Situation, found: Object, at: FieldPath = SPEC) -> Iterator[Candidate]:
    """Yield ways to list the caller in a MeshTLSAuthentication, or in an item of MeshDefaults."""
    identity = situation.identity
    if identity is None:
        return
    summary = f"add {situation.told(identity)} to {_called(found, at)}"
    account = account_of(identity, situation.manifests.compiler.trust_domain)
    if written(found, (*at, "identities")) is not None:
        yield from situation.edit(found, (*at, "identities"), partial(append_item, item=identity), summary)
    elif account is not None and written(found, (*at, "identityRefs")) is not None:
        item = reference_to(account, found.key.namespace)
        yield from situation.edit(found, (*at, "identityRefs"), partial(append_item, item=item), summary)
    elif found.key.group == POLICYD:
        yield from situation.edit(found, at, partial(add_entry, key="identities", value=[identity]), summary)


def admit_account(situation: Situation, found: Object) -> Iterator[Candidate]:
    """Yield the way to list the caller in a ServerAuthorization."""
    identity, at = situation.identity, ("spec", "client", "meshTLS")
    if identity is None or not isinstance(written(found, at), dict):
        return
    account = account_of(identity, situation.manifests.compiler.trust_domain)
    summary = f"add {situation.told(identity)} to {_called(found, SPEC)}"
    if account is not None and written(found, (*at, "serviceAccounts")) is not None:
        item = {
            name: value
            for name, value in reference_to(account, found.key.namespace).items()
            if name != "kind"
        }
        yield from situation.edit(found, (*at, "serviceAccounts"), partial(append_item, item=item), summary)
    elif written(found, (*at, "identities")) is not None:
        yield from situation.edit(found, (*at, "identities"), partial(append_item, item=identity), summary)


def admit_address(situation: Situation, found: Object, at: FieldPath = SPEC) -> Iterator[Candidate]:
    """Yield the way to list the caller's address in `networks`."""
    summary = f"add {situation.question.caller.ip} to {_called(found, at)}"
    item = {"cidr": single_address(situation.question.caller.ip)}
    yield from situation.edit(found, (*at, "networks"), partial(append_item, item=item), summary)


def except_identity(situation: Situation, found: Object) -> Iterator[Candidate]:
    """Yield the way to take the caller out of a MeshTLSAuthentication of our group."""
    identity = situation.identity
    if identity is None or found.key.group != POLICYD:
        return
    summary = f"except {situation.told(identity)} from {_called(found, SPEC)}"
    listed = written(found, ("spec", "except", "identities"))
    if listed is not None:
        yield from situation.edit(
            found, ("spec", "except", "identities"), partial(append_item, item=identity), summary
        )
    elif written(found, ("spec", "except")) is not None:
        entry = partial(add_entry, key="identities", value=[identity])
        yield from situation.edit(found, ("spec", "except"), entry, summary)
    else:
        entry = partial(add_entry, key="except", value={"identities": [identity]})
        yield from situation.edit(found, SPEC, entry, summary)


def except_item_identity(situation: Situation, found: Object, at: FieldPath) -> Iterator[Candidate]:
    """Yield the way to take the caller out of an item of MeshDefaults, whose `except` is a list of forms."""
    identity = situation.identity
    if identity is None:
        return
    summary = f"except {situation.told(identity)} from {_called(found, at)}"
    if written(found, (*at, "except")) is not None:
        yield from situation.edit(found, (*at, "except"), partial(append_item, item=identity), summary)
    else:
        yield from situation.edit(found, at, partial(add_entry, key="except", value=[identity]), summary)


def except_address(situation: Situation, found: Object, at: FieldPath = SPEC) -> Iterator[Candidate]:
    """Yield the way to take the caller's address out of the blocks that hold it, where it is one block."""
    networks = written(found, (*at, "networks"))
    holding = [
        index for index, block in enumerate(networks or ()) if _holds(block, situation.question.caller.ip)
    ]
    if len(holding) != 1:
        return
    block: FieldPath = (*at, "networks", holding[0])
    address = single_address(situation.question.caller.ip)
    summary = f"except {situation.question.caller.ip} from {_called(found, at)}"
    if written(found, (*block, "except")) is not None:
        yield from situation.edit(found, (*block, "except"), partial(append_item, item=address), summary)
    else:
        yield from situation.edit(found, block, partial(add_entry, key="except", value=[address]), summary)


def account_of(identity: str, trust_domain: str) -> tuple[str, str] | None:
    """Return (namespace, name) of a service account of our own trust domain."""
    parts = identity.removeprefix("spiffe://").split("/")
    if len(parts) == 5 and parts[0] == trust_domain and (parts[1], parts[3]) == ("ns", "sa"):
        return parts[2], parts[4]
    return None


def reference_to(account: tuple[str, str], namespace: str) -> dict[str, str]:
    """Return a reference to a service account as an object of a namespace writes it."""
    elsewhere = {} if account[0] == namespace else {"namespace": account[0]}
    return {"kind": "ServiceAccount", "name": account[1], **elsewhere}


def single_address(ip: str) -> str:
    """Return the CIDR that holds one address."""
    address = ipaddress.ip_address(ip)
    return f"{address}/{address.max_prefixlen}"


def _holds(block: Any, ip: str) -> bool:
    try:
        return ipaddress.ip_address(ip) in ipaddress.ip_network(str(block["cidr"]), strict=False)
    except (KeyError, TypeError, ValueError):
        return False


def _called(found: Object, at: FieldPath) -> str:
    """Return what an object, or an item in it, is called in a sentence."""
    name = f"{found.key.kind} {'/'.join(part for part in (found.key.namespace, found.key.name) if part)}"
    if len(at) < 3:
        return name
    item = written(found, at)
    label = item.get("name") if isinstance(item, dict) else None
    return f"{at[1]} {label or at[2]} of {name}"
