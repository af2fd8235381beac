"""policyd on a filled cluster, and simulated proxies of its pods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from bench.filled import PodOf
from bench.fleet import Fleet, Place, follow_on
from identity.material import load_material
from identity.profile import LeafPlan, leaf_builder, new_serial
from identity.spiffe_id import SpiffeId, TrustDomain
from policyd.up.addresses import free_range
from policyd.up.control_plane import ControlPlane
from policyd.up.run_folder import RunFolder
from policyd.up.screen import Screen
from servicekit.svid import Svid

_TRUST_DOMAIN = TrustDomain("cluster.local")


class OnCluster(ControlPlane):
    """identity as ever; policyd reads the cluster, and no folder."""

    kubeconfig: Path

    def _policyd_settings(self) -> dict[str, object]:
        settings = super()._policyd_settings()
        folders = ("folders", "podsFolder")
        kept = {key: value for key, value in settings.items() if key not in folders}
        return {**kept, "cluster": {"kubeconfig": str(self.kubeconfig)}}


@asynccontextmanager
async def control_plane(kubeconfig: Path) -> AsyncIterator[OnCluster]:
    """Run identity and policyd beside the API server."""
    run_folder = RunFolder()
    plane = OnCluster(run_folder, free_range(), str(_TRUST_DOMAIN), run_folder.path)
    plane.kubeconfig = kubeconfig
    try:
        await plane.start(Screen(quiet=True), lambda _name, _record: None)
        yield plane
    finally:
        await plane.stop()
        run_folder.remove()


class Proxies:
    """More and more simulated proxies of one policyd."""

    def __init__(self, plane: OnCluster) -> None:
        self.fleet = Fleet()
        self._streams: list[asyncio.Task[None]] = []
        root = plane.roots_file.parent / "root"
        self._issuer = load_material(root, _TRUST_DOMAIN, datetime.now(UTC)).signer
        policyd = SpiffeId.of_service_account(_TRUST_DOMAIN, "policyd", "policyd")
        roots = (self._issuer.certificate.public_bytes(Encoding.DER),)
        self._place = Place(plane.policy_address, policyd, roots)

    def __len__(self) -> int:
        return len(self._streams)

    async def connect(self, pods: Sequence[PodOf]) -> range:
        """Let these pods' proxies follow their streams, too; return their numbers when each has a table."""
        before = len(self)
        for number, pod in enumerate(pods, before):
            following = follow_on(self._place, self.fleet, number, self._certify(pod))
            self._streams.append(asyncio.create_task(following))
            await asyncio.sleep(0)
        await self.fleet.until(len(self), {})
        return range(before, len(self))

    async def told(self, proxies: Sequence[int], before: dict[int, bytes]) -> None:
        """Wait until each of these has acknowledged another table than before."""
        await self.fleet.until(len(self), {each: before[each] for each in proxies})

    async def close(self) -> None:
        """Let all of them go."""
        for stream in self._streams:
            stream.cancel()
        await asyncio.gather(*self._streams, return_exceptions=True)

    def _certify(self, pod: PodOf) -> Svid:
        """Make what identity would: its own figures are elsewhere."""
        key = ec.generate_private_key(ec.SECP256R1())
        identity = SpiffeId.of_service_account(_TRUST_DOMAIN, pod.namespace, pod.account)
        now = datetime.now(UTC).replace(microsecond=0)
        begin, end = now - timedelta(minutes=5), now + timedelta(hours=12)
        plan = LeafPlan(identity, pod.uid, key.public_key(), new_serial(), begin, end)
        leaf = self._issuer.sign(leaf_builder(plan, self._issuer.certificate))
        return Svid.of(key, [leaf.public_bytes(Encoding.DER)])
