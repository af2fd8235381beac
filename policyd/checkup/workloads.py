"""What runs under policyd: pods without a working proxy (P-19), proxies of another version, trust bundles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from kubeapi.client import Client
from kubeapi.path import ResourcePath
from policyd.admission.enrolment import NamespaceFacts
from policyd.admission.unmeshed import FINISHED, Unmeshed, tag, unmeshed
from policyd.checkup.check import OK, Category, Check, Result, error, warning
from policyd.checkup.reading import NAMESPACES, PODS, installed, items, proxy_of, some
from policyd.install.configs import injection_of
from policyd.install.settings import InstallSettings
from policyd.model.names import TRUST_BUNDLE

WORKLOADS = "workloads"


@dataclass(slots=True)
class Looked:
    """All pods and namespaces, looked at once: what several checks ask about."""

    namespace: str
    settings: InstallSettings = field(default_factory=InstallSettings)
    unmeshed: list[Unmeshed] = field(default_factory=list)
    versions: Counter[str] = field(default_factory=Counter)
    """Of proxies, by tag."""
    enrolled: list[str] = field(default_factory=list)
    _whole: bool = False

    async def at(self, client: Client) -> Looked:
        """Return it, read when it is first asked for. Raises ApiError."""
        if not self._whole:
            await self._read(client)
            self._whole = True
        return self

    async def _read(self, client: Client) -> None:
        self.settings = await installed(client, self.namespace) or InstallSettings(namespace=self.namespace)
        injection = injection_of(self.settings)
        facts: dict[str, NamespaceFacts] = {}
        async for each in items(client, NAMESPACES):
            meta = each["metadata"]
            facts[meta["name"]] = NamespaceFacts(
                meta["name"], meta.get("labels") or {}, meta.get("annotations") or {}
            )
        self.enrolled = sorted(name for name, each in facts.items() if each.enrolled)
        async for pod in items(client, PODS):
            proxy = proxy_of(pod)
            if proxy is not None and (pod.get("status") or {}).get("phase") not in FINISHED:
                self.versions[tag(str(proxy.get("image", "")))] += 1
            place = facts.get(pod["metadata"]["namespace"])
            found = None if place is None else unmeshed(pod, place, injection)
            if found is not None:
                self.unmeshed.append(found)


def category(namespace: str) -> Category:
    """Return the checks of what runs under the policyd of a namespace."""
    looked = Looked(namespace)
    return Category(
        WORKLOADS,
        (
            Check("every pod of an enrolled namespace has its proxy", lambda c: _meshed(c, looked)),
            Check("every proxy of those works", lambda c: _working(c, looked)),
            Check("every enrolled namespace has the trust bundle", lambda c: _bundles(c, looked)),
            Check("every proxy is of the installed version", lambda c: _versions(c, looked)),
        ),
    )


async def _meshed(client: Client, looked: Looked) -> Result:
    """P-19: pods that run in an enrolled namespace past all policy."""
    return _told(each for each in (await looked.at(client)).unmeshed if each.is_open)


async def _working(client: Client, looked: Looked) -> Result:
    return _told(each for each in (await looked.at(client)).unmeshed if not each.is_open)


def _told(found: Iterable[Unmeshed]) -> Result:
    wrong = sorted(found, key=lambda each: each.pod)
    if not wrong:
        return OK
    advice = {each.reason: each.advice for each in wrong}
    return error(f"{len(wrong)} don't: {some(each.text for each in wrong)}", "; ".join(advice.values()))


async def _bundles(client: Client, looked: Looked) -> Result:
    enrolled = (await looked.at(client)).enrolled
    there = set()
    named = {"fieldSelector": f"metadata.name={TRUST_BUNDLE}"}
    async for each in items(client, ResourcePath("", "v1", "configmaps"), named):
        there.add(each["metadata"]["namespace"])
    missing = [name for name in enrolled if name not in there]
    if not missing:
        return OK
    return error(
        f"{len(missing)} don't: {some(missing)}",
        "pods there can't start: identity writes it, see its log",
    )


async def _versions(client: Client, looked: Looked) -> Result:
    found = await looked.at(client)
    ours = found.settings.images.tag
    others = {version: count for version, count in found.versions.items() if version != ours}
    if not others:
        return Result("ok", f"{found.versions.total()} of {ours}" if found.versions else "there are none")
    told = ", ".join(f"{count} of {version or 'no tag'}" for version, count in sorted(others.items()))
    return warning(
        f"{told}; installed is {ours}",
        "restart their workloads: rules that an older proxy can't read refuse there until then",
    )
