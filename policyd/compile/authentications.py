"""Whom a policy's authentications name (semantics I2–I7)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from policyd.compile.identities import ANY, account_form, everyone_of
from policyd.compile.mesh import Mesh
from policyd.compile.networks import NOWHERE, network_set
from policyd.compile.rows import IdentitySet, NetworkSet
from policyd.index.view import View
from policyd.model.names import ObjectKey
from policyd.resources.base import Resource
from policyd.resources.mesh_tls_authentication import MeshTLSAuthenticationSpec
from policyd.resources.network_authentication import NetworkAuthenticationSpec
from policyd.resources.references import AuthenticationRef, IdentityRef
from policyd.resources.selectors import LabelSelector

NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""The one label of a Namespace that nobody can set to another's value."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an authentication names nobody that can be told. `code` is a Finding's."""

    code: str
    field: str
    message: str
    advice: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client must meet, all of it; None: not asked. With problems, the sets they concern are empty."""

    identities: IdentitySet | None
    networks: NetworkSet | None
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Reads authentications for one policy. `deny`: `*` means every trust domain (semantics I2)."""

    view: View
    mesh: Mesh
    namespace: str
    deny: bool

    def ask(self, refs: Iterable[AuthenticationRef]) -> Asked:
        """Return what the references ask for; each kind is there at most once (semantics I6)."""
        identities: IdentitySet | None = None
        networks: NetworkSet | None = None
        problems: list[Problem] = []
        for index, ref in enumerate(refs):
            field = f"spec.requiredAuthenticationRefs[{index}]"
            key = ref.key(self.namespace)
            if key.kind == "ServiceAccount":
                form = account_form(self.mesh.trust_domain, key.namespace, key.name)
                identities = IdentitySet((form,))
                continue
            answer = self._referred(key, field)
            if isinstance(answer, Problem):
                problems.append(answer)
                answer = NOWHERE if key.kind == "NetworkAuthentication" else IdentitySet()
            if isinstance(answer, NetworkSet):
                networks = answer
            else:
                identities = answer
        return Asked(identities, networks, tuple(problems))

    def _referred(self, key: ObjectKey, field: str) -> IdentitySet | NetworkSet | Problem:
        found = self.view.object(key)
        if found is None:
            return Problem(
                "TargetNotFound",
                field,
                f"{key.text} isn't there, so nobody can meet it",
                "create it, or correct group, kind, name and namespace of the reference",
            )
        if not isinstance(found, Resource):
            return _unreadable(key, field, "")
        if isinstance(found.spec, NetworkAuthenticationSpec):
            return network_set(found.spec.networks)
        if isinstance(found.spec, MeshTLSAuthenticationSpec):
            return self._identities(key, found.spec, field)
        return _unreadable(key, field, "")

    def _identities(
        self, key: ObjectKey, spec: MeshTLSAuthenticationSpec, field: str
    ) -> IdentitySet | Problem:
        selected: list[str] = []
        if spec.namespace_selector is not None:
            untrusted = spec.namespace_selector.keys - self.mesh.trusted_labels - {NAMESPACE_NAME}
            if untrusted:
                return _unreadable(
                    key,
                    field,
                    f": namespaceSelector reads {', '.join(sorted(untrusted))}, which isn't trusted",
                )
            selected = self._selected(spec.namespace_selector)
        own = everyone_of(self.mesh.trust_domain)
        listed = forms(spec.identities or (), ANY if self.deny else own)
        referred = self._by_reference(spec.identity_refs or (), key.namespace)
        taken_out = [
            *forms(spec.except_.identities, own),
            *self._by_reference(spec.except_.identity_refs, key.namespace),
        ]
        return identity_set([*listed, *referred, *selected], taken_out)

    def _by_reference(self, refs: Iterable[IdentityRef], namespace: str) -> list[str]:
        found = []
        for ref in refs:
            key = ref.key(namespace)
            place, account = (key.name, "*") if key.kind == "Namespace" else (key.namespace, key.name)
            found.append(account_form(self.mesh.trust_domain, place, account))
        return found

    def _selected(self, selector: LabelSelector) -> list[str]:
        return [
            account_form(self.mesh.trust_domain, name, "*")
            for name, labels in self.view.namespaces()
            if selector.matches({**labels, NAMESPACE_NAME: name})
        ]


def forms(written: Iterable[str], star: str) -> list[str]:
    """Return the forms with `*` alone replaced by what it means here."""
    return [star if form == "*" else form for form in written]


def identity_set(any_of: Iterable[str], taken_out: Iterable[str] = ()) -> IdentitySet:
    return IdentitySet(tuple(sorted(set(any_of))), tuple(sorted(set(taken_out))))


def _unreadable(key: ObjectKey, field: str, why: str) -> Problem:
    return Problem(
        "AuthenticationUnreadable",
        field,
        f"{key.text} can't be read{why}, so nobody can meet it",
        "correct the authentication; its own finding says what is wrong with it",
    )
