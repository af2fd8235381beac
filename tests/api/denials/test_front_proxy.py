"""policyd answers the API server's front proxy and nobody else, also where that is replaced or was away."""

import ssl
from pathlib import Path

import httpx
import pytest

from tests.api.audit_policyd import ROOT, AuditPolicyd, until
from tests.api.certificates import Authority
from tests.api.rig import RigError

CONFIG = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"


def direct(policyd: AuditPolicyd, certificate: tuple[Path, Path] | None = None) -> httpx.Client:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        context.load_cert_chain(*certificate)
    masters = {"X-Remote-User": "admin", "X-Remote-Group": "system:masters"}
    return httpx.Client(verify=context, headers=masters, base_url=f"https://127.0.0.1:{policyd.port}")


def test_headers_without_the_front_proxys_certificate_are_nothing(policyd: AuditPolicyd) -> None:
    for path in (f"{ROOT}/denials", "/apis", ROOT, "/openapi/v2", "/"):
        with direct(policyd) as imposter:
            answer = imposter.get(path)
        assert answer.status_code == 401
        assert answer.json()["reason"] == "Unauthorized"


def test_a_certificate_of_another_name_or_authority_is_none(policyd: AuditPolicyd, tmp_path: Path) -> None:
    front = policyd.api.front
    with direct(policyd, front.issue("front-proxy")) as proxy:
        assert proxy.get(f"{ROOT}/denials").status_code == 200
    with direct(policyd, front.issue("somebody")) as imposter:
        assert imposter.get(f"{ROOT}/denials").status_code == 401
    with (
        direct(policyd, policyd.api.clients.issue("front-proxy")) as user,
        pytest.raises(httpx.TransportError),
    ):
        user.get(f"{ROOT}/denials")
    other = Authority(tmp_path, "front").issue("front-proxy")
    with direct(policyd, other) as imposter, pytest.raises(httpx.TransportError):
        imposter.get(f"{ROOT}/denials")
    with direct(policyd, front.issue("front-proxy", ended=True)) as late, pytest.raises(httpx.TransportError):
        late.get(f"{ROOT}/denials")
    with (
        direct(policyd, front.issue("front-proxy", serving=("127.0.0.1",))) as server,
        pytest.raises(httpx.TransportError),
    ):
        server.get(f"{ROOT}/denials")


def test_an_authority_that_is_replaced_counts_no_more_also_on_open_connections(
    policyd: AuditPolicyd, tmp_path: Path
) -> None:
    """The API server writes its own back, at the latest when it starts again: this looks at policyd alone."""
    api = policyd.api
    kept = api.request("GET", CONFIG)["data"]
    merge = {"Content-Type": "application/merge-patch+json"}
    other = Authority(tmp_path, "next")
    with direct(policyd, api.front.issue("front-proxy")) as before:
        assert before.get(f"{ROOT}/denials").status_code == 200
        replaced = {"requestheader-client-ca-file": other.certificate.read_text()}
        api.request("PATCH", CONFIG, {"data": replaced}, **merge)
        until(lambda: _status(before) == 401)
        with direct(policyd, other.issue("front-proxy")) as after:
            assert after.get(f"{ROOT}/denials").status_code == 200
        api.request("PATCH", CONFIG, {"data": {"requestheader-client-ca-file": "no certificate"}}, **merge)
        with direct(policyd) as nobody:
            until(lambda: "isn't known" in nobody.get("/apis").text)
    api.request("PATCH", CONFIG, {"data": kept}, **merge)
    policyd.until_available()
    until(lambda: _answers(policyd))


def _status(client: httpx.Client) -> int:
    try:
        return client.get(f"{ROOT}/denials").status_code
    except httpx.TransportError:
        return 401  # the connection was closed with the refusal, and there is no other


def _answers(policyd: AuditPolicyd) -> bool:
    try:
        policyd.api.request("GET", f"{ROOT}/denials")
    except RigError:
        return False
    return True


def test_an_api_server_that_was_away_asks_again(policyd: AuditPolicyd, shop: str) -> None:
    denied = policyd.spool(shop).deny()
    with policyd.api.away():
        pass
    until(lambda: _answers(policyd))
    assert [each["metadata"]["name"] for each in policyd.denials(shop)["items"]] == [denied]


def test_the_bundle_that_somebody_wipes_is_back(policyd: AuditPolicyd) -> None:
    path = "/apis/apiregistration.k8s.io/v1/apiservices/v1alpha1.audit.policyd.dev"
    bundle = policyd.api.request("GET", path)["spec"]["caBundle"]
    steps = [{"op": "remove", "path": "/spec/caBundle"}]
    patch = {"Content-Type": "application/json-patch+json"}
    policyd.api.request("PATCH", path, steps, **patch)
    until(lambda: policyd.api.request("GET", path)["spec"].get("caBundle") == bundle)
