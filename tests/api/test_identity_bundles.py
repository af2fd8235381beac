"""The trust bundle in every namespace: written where it isn't what it should be, and nowhere else."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from identity.material import create_root
from tests.api import objects
from tests.api.identities import AUDIENCE, Identity, running_identity
from tests.api.rig import ApiServer, RigError
from tests.process.identity_process import TRUST_DOMAIN

NAME, KEY, SEQUENCE = "policyd-trust-bundle", "ca.pem", "policyd.dev/bundle-sequence"
CLUSTER_BUNDLES = "/apis/certificates.k8s.io/v1beta1/clustertrustbundles"
WAIT_SECONDS = 30.0


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Secret as a kubelet mounts it, with a root."""
    folder = tmp_path_factory.mktemp("identity") / "root"
    create_root(folder / "..first", TRUST_DOMAIN)
    (folder / "..data").symlink_to("..first")
    for file in ("root.crt", "root.key"):
        (folder / file).symlink_to(Path("..data") / file)
    return folder


@pytest.fixture(scope="module")
def identity(api: ApiServer, mount: Path) -> Iterator[Identity]:
    with running_identity(api, mount.parent) as running:
        yield running


def replace(mount: Path, name: str, write: Callable[[Path], object]) -> None:
    """Replace the Secret's content as a kubelet does."""
    shutil.copytree(mount / "..data", mount / name)
    write(mount / name)
    (mount / "..new").symlink_to(name)
    (mount / "..new").rename(mount / "..data")


def found(api: ApiServer, namespace: str) -> dict[str, Any] | None:
    try:
        answer: dict[str, Any] = api.request("GET", f"/api/v1/namespaces/{namespace}/configmaps/{NAME}")
    except RigError:
        return None
    return answer


def pem(api: ApiServer, namespace: str) -> str:
    present = found(api, namespace)
    return "" if present is None else str(present.get("data", {}).get(KEY, ""))


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not true():
        assert time.monotonic() < deadline, f"not within {WAIT_SECONDS} s"
        time.sleep(0.05)


def test_a_new_namespace_gets_the_roots(
    api: ApiServer, identity: Identity, mount: Path, namespace: str
) -> None:
    until(lambda: pem(api, namespace) != "")
    [root] = x509.load_pem_x509_certificates(pem(api, namespace).encode())
    assert root == x509.load_pem_x509_certificate((mount / "root.crt").read_bytes())


def test_what_others_change_or_delete_comes_back(api: ApiServer, identity: Identity, namespace: str) -> None:
    until(lambda: pem(api, namespace) != "")
    roots = pem(api, namespace)
    path = f"/api/v1/namespaces/{namespace}/configmaps/{NAME}"
    merge = {"Content-Type": "application/merge-patch+json"}
    api.request("PATCH", path, {"data": {KEY: "mine"}}, **merge)
    until(lambda: pem(api, namespace) == roots)
    api.request("DELETE", path)
    until(lambda: pem(api, namespace) == roots)


def test_a_later_bundle_of_another_replica_stays(api: ApiServer, identity: Identity, namespace: str) -> None:
    until(lambda: pem(api, namespace) != "")
    path = f"/api/v1/namespaces/{namespace}/configmaps/{NAME}"
    merge = {"Content-Type": "application/merge-patch+json"}
    later = {
        "metadata": {"annotations": {SEQUENCE: str(time.time_ns() // 1_000_000)}},
        "data": {KEY: "later"},
    }
    api.request("PATCH", path, later, **merge)
    # What comes after in the same watch has been dealt with: so has this.
    other = objects.create_namespace(api)
    until(lambda: pem(api, other) != "")
    assert pem(api, namespace) == "later"
    beyond = {"metadata": {"annotations": {SEQUENCE: "9" * 18}}}
    api.request("PATCH", path, beyond, **merge)
    until(lambda: pem(api, namespace) == pem(api, other))


@pytest.mark.promise("P-18")
def test_p_18_new_roots_reach_every_namespace_and_nothing_is_written_twice(
    api: ApiServer, identity: Identity, mount: Path, namespace: str
) -> None:
    until(lambda: pem(api, namespace) != "")
    pod = objects.create_pod(api, namespace)
    token = objects.pod_token(api, pod, AUDIENCE)
    before = identity.certify(token)
    create_root(mount / "..next", TRUST_DOMAIN)
    second = (mount / "..next" / "root.crt").read_bytes()

    def overlap(folder: Path) -> None:
        both = (folder / "root.crt").read_bytes() + second
        (folder / "root.crt").write_bytes(both)

    replace(mount, "..both", overlap)
    until(lambda: len(x509.load_pem_x509_certificates(pem(api, namespace).encode())) == 2)
    replace(mount, "..second", lambda folder: shutil.copy(mount / "..next" / "root.key", folder))
    root = x509.load_pem_x509_certificate(second)

    def is_signed_by_the_next() -> bool:
        issuer = x509.load_der_x509_certificate(identity.certify(token, before).chain[1])
        return (
            issuer.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
            == x509.SubjectKeyIdentifier.from_public_key(root.public_key()).digest
        )

    until_allowed(is_signed_by_the_next)
    settled = found(api, namespace)
    other = objects.create_namespace(api)
    until(lambda: pem(api, other) != "")
    assert found(api, namespace) == settled


def until_allowed(true: Callable[[], bool]) -> None:
    """Ask seldom: a pod may have one certificate in ten seconds, after five at once."""
    for _ in range(4):
        if true():
            return
        time.sleep(2.5)
    raise AssertionError


def test_a_cluster_trust_bundle_is_published_where_the_api_serves_them(
    api: ApiServer, identity: Identity, namespace: str
) -> None:
    until(lambda: pem(api, namespace) != "")

    def published() -> str:
        try:
            bundle = api.request("GET", f"{CLUSTER_BUNDLES}/policyd.dev:identity:trust-bundle")
        except RigError:
            return ""
        return str(bundle["spec"]["trustBundle"])

    until(lambda: published() == pem(api, namespace))
