"""The rig itself: a real API server, as a test sees it."""

from __future__ import annotations

from kubernetes import client, config

from tests.api import objects
from tests.api.rig import ApiServer

AUDIENCE = "identity.test"


def test_an_api_server_reviews_a_pods_token(api: ApiServer, namespace: str) -> None:
    pod = objects.create_pod(api, namespace)
    token = objects.pod_token(api, pod, AUDIENCE)
    spec = {"token": token, "audiences": [AUDIENCE]}
    review = api.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {"spec": spec})
    status = review["status"]
    assert status["authenticated"]
    assert status["audiences"] == [AUDIENCE]
    assert status["user"]["username"] == f"system:serviceaccount:{namespace}:default"
    assert status["user"]["extra"]["authentication.kubernetes.io/pod-uid"] == [pod.uid]


def test_kubectl_and_the_kubernetes_client_see_the_same(api: ApiServer, namespace: str) -> None:
    api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "seen", "namespace": namespace}})
    core = client.CoreV1Api(config.new_client_from_config(str(api.kubeconfig)))  # type: ignore[no-untyped-call]
    assert core.read_namespaced_config_map("seen", namespace).to_dict()["metadata"]["name"] == "seen"


def test_an_account_may_do_what_it_was_granted_and_no_more(api: ApiServer, namespace: str) -> None:
    token = objects.account_token(api, namespace, "default")
    objects.grant(api, namespace, "default", {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]})
    own = api.write_kubeconfig(f"{namespace}:default", token)
    assert api.kubectl("auth", "can-i", "list", "pods", "-A", kubeconfig=own).strip() == "yes"
    answers = api.kubectl("auth", "can-i", "--list", "-n", namespace, kubeconfig=own)
    assert "secrets" not in answers


def test_state_and_port_survive_an_api_server_that_went_away(api: ApiServer, namespace: str) -> None:
    with api.away():
        pass
    assert api.request("GET", f"/api/v1/namespaces/{namespace}")["metadata"]["name"] == namespace
