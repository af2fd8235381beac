"""Who gets a certificate where there is an API server: real tokens, reviews and watches."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from servicekit.leaf import read_leaf
from tests.api import crds, objects
from tests.api.identities import AUDIENCE, Identity, running_identity
from tests.api.objects import Pod
from tests.api.rig import ISSUER, ApiServer

WAIT_SECONDS = 30.0


@pytest.fixture(scope="module")
def mesh_defaults(api: ApiServer) -> None:
    """The kind is served; in other modules it need not be."""
    crds.install(api, *crds.ours())


@pytest.fixture(scope="module")
def identity(
    api: ApiServer, mesh_defaults: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Identity]:
    with running_identity(api, tmp_path_factory.mktemp("identity")) as running:
        yield running


@pytest.fixture
def pod(api: ApiServer, namespace: str) -> Pod:
    return objects.create_pod(api, namespace)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not true():
        assert time.monotonic() < deadline, f"not within {WAIT_SECONDS} s"
        time.sleep(0.05)


def reviews_made(api: ApiServer) -> int:
    """How many TokenReviews the API server says it has answered."""
    _, text = api._ask("GET", "/metrics", None, {})
    lines = re.findall(
        r'^apiserver_request_total\{[^}]*resource="tokenreviews"[^}]*\} (\d+)', text.decode(), re.M
    )
    return sum(map(int, lines))


def is_certified(identity: Identity, token: str) -> bool:
    try:
        identity.certify(token)
    except grpc.RpcError:
        return False
    return True


def test_a_pod_gets_its_own_identity(api: ApiServer, identity: Identity, pod: Pod) -> None:
    certified = identity.certify(objects.pod_token(api, pod, AUDIENCE))
    assert certified.uri == f"spiffe://cluster.local/ns/{pod.namespace}/sa/default"
    assert read_leaf(certified.chain[0]).pod_uid == pod.uid


def test_id_03_a_token_for_another_audience_is_refused(api: ApiServer, identity: Identity, pod: Pod) -> None:
    for audience in (ISSUER, f"{AUDIENCE}.evil", "vault"):
        assert identity.refusal(objects.pod_token(api, pod, audience)) == ("UNAUTHENTICATED", "TOKEN_INVALID")


def test_id_03_a_token_bound_to_no_pod_is_refused(api: ApiServer, identity: Identity, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token"
    spec = {"audiences": [AUDIENCE], "expirationSeconds": 3600}
    token = api.request("POST", path, {"spec": spec})["status"]["token"]
    assert identity.refusal(token) == ("UNAUTHENTICATED", "TOKEN_INVALID")


def test_id_03_a_token_of_a_key_that_nobody_knows_is_refused(
    api: ApiServer, identity: Identity, pod: Pod
) -> None:
    token = objects.pod_token(api, pod, AUDIENCE)
    claims = jwt.decode(token, options={"verify_signature": False})
    own = ec.generate_private_key(ec.SECP256R1())
    forged = jwt.encode(claims, own, algorithm="ES256", headers={"kid": "mine"})
    assert identity.refusal(forged) == ("UNAUTHENTICATED", "TOKEN_INVALID")
    # With the name of a key that is known it doesn't come as far as a review.
    before = reviews_made(api)
    forged = jwt.encode(
        claims, own, algorithm="ES256", headers={"kid": jwt.get_unverified_header(token)["kid"]}
    )
    assert identity.refusal(forged) == ("UNAUTHENTICATED", "TOKEN_INVALID")
    assert reviews_made(api) == before


def test_id_03_a_deleted_pods_token_gets_nothing(api: ApiServer, identity: Identity, pod: Pod) -> None:
    token = objects.pod_token(api, pod, AUDIENCE)
    shown = identity.certify(token)
    objects.delete_pod(api, pod)
    # A renewal is checked offline: what refuses it is the watch.
    until(lambda: identity.renewal(token, shown) == "POD_GONE")
    again = objects.create_pod(api, pod.namespace, name=pod.name)
    assert again.uid != pod.uid
    assert identity.renewal(token, shown) == "POD_GONE"
    assert identity.certify(objects.pod_token(api, again, AUDIENCE)).uri == shown.uri


def test_id_03_a_deleted_pods_token_gets_no_first_certificate(
    api: ApiServer, identity: Identity, pod: Pod
) -> None:
    token = objects.pod_token(api, pod, AUDIENCE)
    objects.delete_pod(api, pod)
    assert identity.refusal(token)[1] in {"TOKEN_INVALID", "POD_GONE"}


def test_id_03_a_terminating_pod_gets_nothing(api: ApiServer, identity: Identity, pod: Pod) -> None:
    token = objects.pod_token(api, pod, AUDIENCE)
    shown = identity.certify(token)
    objects.delete_pod(api, pod, grace_seconds=300)
    until(lambda: identity.renewal(token, shown) == "POD_GONE")
    assert identity.refusal(token) == ("PERMISSION_DENIED", "POD_GONE")


def test_id_03_a_deleted_account_gets_nothing(api: ApiServer, identity: Identity, namespace: str) -> None:
    objects.create_account(api, namespace, "web")
    pod = objects.create_pod(api, namespace, "web")
    token = objects.pod_token(api, pod, AUDIENCE)
    shown = identity.certify(token)
    objects.delete_account(api, namespace, "web")
    until(lambda: identity.renewal(token, shown) == "POD_GONE")
    # Another one of the same name isn't the same.
    objects.create_account(api, namespace, "web")
    assert identity.renewal(token, shown) == "POD_GONE"


def test_id_04_no_token_is_reviewed_twice_where_many_ask_at_once(
    api: ApiServer, identity: Identity, namespace: str
) -> None:
    tokens = [objects.pod_token(api, objects.create_pod(api, namespace), AUDIENCE) for _ in range(5)]
    before = reviews_made(api)
    with ThreadPoolExecutor(20) as pool:
        certified = list(pool.map(identity.certify, tokens * 4))
    assert len({read_leaf(each.chain[0]).pod_uid for each in certified}) == len(tokens)
    assert reviews_made(api) - before == len(tokens)


def test_id_04_renewals_go_on_without_the_api_server_and_first_certificates_wait_for_it(
    api: ApiServer, identity: Identity, namespace: str
) -> None:
    old, new = (objects.create_pod(api, namespace) for _ in range(2))
    old_token, new_token = (objects.pod_token(api, pod, AUDIENCE) for pod in (old, new))
    shown = identity.certify(objects.pod_token(api, old, AUDIENCE))
    with api.away():
        assert identity.refusal(new_token) == ("UNAVAILABLE", "TOKEN_REVIEWER_UNAVAILABLE")
        renewed = identity.certify(old_token, shown)
        assert renewed.uri == shown.uri
        assert renewed.leaf.serial_number != shown.leaf.serial_number
        until(lambda: identity.metric("identity_cluster_state_age_seconds") > 0)
    until(lambda: is_certified(identity, new_token))
    # A watch that is quiet isn't known to be alive before its bookmark.
    objects.create_pod(api, namespace)
    objects.create_account(api, namespace, "web")
    until(lambda: identity.metric("identity_cluster_state_age_seconds") == 0)


def test_id_04_an_api_server_that_says_nothing_holds_up_no_renewal(
    api: ApiServer, identity: Identity, namespace: str
) -> None:
    old, new = (objects.create_pod(api, namespace) for _ in range(2))
    old_token, new_token = (objects.pod_token(api, pod, AUDIENCE) for pod in (old, new))
    shown = identity.certify(objects.pod_token(api, old, AUDIENCE))
    with ThreadPoolExecutor(1) as pool, api.silent():
        waiting = pool.submit(identity.refusal, new_token)
        assert identity.certify(old_token, shown).uri == shown.uri
        assert not waiting.done()
        assert waiting.result(WAIT_SECONDS) == ("UNAVAILABLE", "TOKEN_REVIEWER_UNAVAILABLE")


def test_i9_what_mesh_defaults_revoke_gets_no_certificate(
    api: ApiServer, identity: Identity, namespace: str
) -> None:
    pods = [objects.create_pod(api, namespace) for _ in range(3)]
    tokens = [objects.pod_token(api, pod, AUDIENCE) for pod in pods]
    shown = [identity.certify(token) for token in tokens]
    revoked = {"spec": {"revoked": [{"podUID": pods[0].uid}, {"podUID": pods[2].uid}]}}
    head = {"apiVersion": "policyd.dev/v1alpha1", "kind": "MeshDefaults", "metadata": {"name": "default"}}
    api.apply(head | revoked)
    until(lambda: identity.renewal(tokens[0], shown[0]) == "REVOKED")
    # Another one, since asking until then has used up what the first may ask.
    assert identity.refusal(tokens[2]) == ("PERMISSION_DENIED", "REVOKED")
    assert identity.renewal(tokens[1], shown[1]) == ""
    api.kubectl("delete", "meshdefaults", "default")


def test_what_was_issued_by_a_review_is_written_down(api: ApiServer, identity: Identity, pod: Pod) -> None:
    identity.certify(objects.pod_token(api, pod, AUDIENCE))
    line = json.loads(Path(identity.running.world.journal).read_bytes().splitlines()[-1])
    assert line["event"] == "issued"
    assert line["pod"] == f"{pod.namespace}/{pod.name}"
    assert line["token"]


def test_identity_without_the_rights_it_needs_says_so_and_issues_nothing(
    api: ApiServer, pod: Pod, tmp_path: Path
) -> None:
    own = api.write_kubeconfig(
        f"{pod.namespace}:default", objects.account_token(api, pod.namespace, "default")
    )
    objects.grant(
        api,
        pod.namespace,
        "default",
        {
            "apiGroups": [""],
            "resources": ["pods", "serviceaccounts", "namespaces"],
            "verbs": ["list", "watch"],
        },
    )
    cluster = {"audience": AUDIENCE, "kubeconfig": str(own), "publishBundle": False}
    with running_identity(api, tmp_path, cluster=cluster) as identity:
        token = objects.pod_token(api, pod, AUDIENCE)
        assert identity.refusal(token) == ("UNAVAILABLE", "TOKEN_REVIEWER_UNAVAILABLE")
