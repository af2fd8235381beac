"""What an install consists of, by our own checker (P-17)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from identity.settings import Settings as IdentitySettings
from policyd.admission.settings import Settings as InjectorSettings
from policyd.checkup.preflight import path_of
from policyd.distribute.settings import Settings as PolicydSettings
from policyd.install import ports
from policyd.install.documents import documents
from policyd.install.names import AUDIT_SECRET, COMPONENTS, INJECTOR, INJECTOR_SECRET, POLICYD
from policyd.install.objects import custom_resource_definitions, in_order_of_removal, render
from policyd.install.ports import PORTS
from policyd.install.rbac import GRANTS, table
from policyd.resources.crd import FOLDER
from policyd.sources.kubernetes.served import FOLLOWED
from servicekit.config import Config, load_config
from tests.unit.policyd.install.restricted import faults
from tests.unit.policyd.install.worlds import MATERIAL, VARIANTS, of_kind, settings

REFERENCE = Path(__file__).parents[4] / "docs" / "reference" / "install.md"
_WRITES = {"create", "update", "patch", "delete", "deletecollection"}


@pytest.fixture(params=VARIANTS, ids=str)
def objects(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return render(settings(**VARIANTS[request.param]), MATERIAL)


def _key(value: dict[str, Any]) -> tuple[str, ...]:
    metadata = value["metadata"]
    return value["apiVersion"], value["kind"], metadata.get("namespace", ""), metadata["name"]


def test_the_same_settings_give_the_same_bytes() -> None:
    once, again = (documents(render(settings(ha=True), MATERIAL)) for _ in range(2))
    assert once == again


def test_documents_read_as_the_objects_that_were_written(objects: list[dict[str, Any]]) -> None:
    assert list(yaml.safe_load_all(documents(objects))) == objects


def test_no_object_is_there_twice_and_all_are_labelled(objects: list[dict[str, Any]]) -> None:
    assert len({_key(each) for each in objects}) == len(objects)
    for each in objects:
        assert each["metadata"]["labels"]["app.kubernetes.io/part-of"] == "policyd", _key(each)


def test_all_objects_are_cluster_scoped_or_in_the_one_namespace(objects: list[dict[str, Any]]) -> None:
    namespace = of_kind(objects, "Namespace")[0]["metadata"]["name"]
    elsewhere = [each for each in objects if each["metadata"].get("namespace", namespace) != namespace]
    [binding] = elsewhere  # of a Role that Kubernetes has there for extension API servers
    assert (binding["kind"], binding["metadata"]["namespace"]) == ("RoleBinding", "kube-system")
    assert binding["roleRef"]["name"] == "extension-apiserver-authentication-reader"


def test_the_namespace_comes_before_what_is_in_it_and_goes_after(objects: list[dict[str, Any]]) -> None:
    assert objects[0]["kind"] == "Namespace"
    removed = in_order_of_removal([*custom_resource_definitions(), *objects])
    kinds = [each["kind"] for each in removed]
    assert kinds[0] == "APIService"
    hooks = [at for at, kind in enumerate(kinds) if kind.endswith("WebhookConfiguration")]
    assert max(hooks) < kinds.index("Deployment")
    assert kinds.index("Namespace") > kinds.index("Deployment")
    assert kinds.index("CustomResourceDefinition") > kinds.index("MeshDefaults")


@pytest.mark.promise("P-17")
def test_p_17_every_pod_fits_the_restricted_profile(objects: list[dict[str, Any]]) -> None:
    enforced = of_kind(objects, "Namespace")[0]["metadata"]["labels"]
    assert enforced["pod-security.kubernetes.io/enforce"] == "restricted"
    deployments = of_kind(objects, "Deployment")
    assert {each["metadata"]["name"] for each in deployments} == set(COMPONENTS)
    for each in deployments:
        pod = each["spec"]["template"]["spec"]
        assert list(faults(pod)) == []
        assert all(container["securityContext"]["readOnlyRootFilesystem"] for container in pod["containers"])


@pytest.mark.promise("P-17")
def test_p_17_rights_have_no_wildcard_and_reach_no_foreign_secret(objects: list[dict[str, Any]]) -> None:
    for role in (*of_kind(objects, "Role"), *of_kind(objects, "ClusterRole")):
        for rule in role["rules"]:
            assert not any("*" in word for words in rule.values() for word in words), role["metadata"]
            if "secrets" in rule.get("resources", ()):
                assert role["kind"] == "Role"
                assert rule["resourceNames"] in ([INJECTOR_SECRET], [AUDIT_SECRET])


@pytest.mark.promise("P-17")
def test_p_17_nobody_may_make_pods_roles_or_webhooks() -> None:
    """Who holds a component's account can't make more of the cluster obey (security 6.7)."""
    for grant in GRANTS:
        written = set(grant.verbs) & _WRITES
        if not written:
            continue
        powerful = {
            "pods",
            "clusterroles",
            "roles",
            "clusterrolebindings",
            "rolebindings",
            "nodes",
            "namespaces",
        }
        assert not powerful & set(grant.resources)
        assert not {"escalate", "bind", "impersonate"} & set(grant.verbs)
        if any("webhookconfigurations" in resource for resource in grant.resources):
            assert grant.names
            assert "create" not in written
        assert grant.why


@pytest.mark.promise("P-17")
def test_p_17_every_port_is_in_the_one_table(objects: list[dict[str, Any]]) -> None:
    known = {(port.component, port.name, port.number) for port in PORTS}
    found = {
        (each["metadata"]["name"], port["name"], port["containerPort"])
        for each in of_kind(objects, "Deployment")
        for container in each["spec"]["template"]["spec"]["containers"]
        for port in container["ports"]
    }
    assert found == known
    for service in of_kind(objects, "Service"):
        assert service["spec"]["type"] == "ClusterIP"
        name = service["metadata"]["name"]
        offered = {(name, port["targetPort"], port["port"]) for port in service["spec"]["ports"]}
        assert offered == {(name, p.name, p.service) for p in PORTS if p.component == name and p.service}


@pytest.mark.promise("P-17")
def test_p_17_settings_listen_on_ports_of_the_table_only(objects: list[dict[str, Any]]) -> None:
    known = {(port.component, port.number) for port in PORTS}
    maps = {each["metadata"]["name"]: each["data"] for each in of_kind(objects, "ConfigMap")}
    for component in COMPONENTS:
        file = json.loads(maps[f"{component}-settings"]["settings.json"])
        items = [*file.items(), *file.get("auditApi", {}).items()]
        listened = {int(value.rpartition(":")[2]) for key, value in items if key.lower().endswith("listen")}
        assert {(component, number) for number in listened} == {k for k in known if k[0] == component}


def test_network_policies_deny_what_no_other_names(objects: list[dict[str, Any]]) -> None:
    policies = {each["metadata"]["name"]: each["spec"] for each in of_kind(objects, "NetworkPolicy")}
    assert set(policies) == {"default-deny", *COMPONENTS}
    closed = policies["default-deny"]
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for component in COMPONENTS:
        open_to_all = [rule for rule in policies[component]["ingress"] if "from" not in rule]
        numbers = {port["port"] for rule in open_to_all for port in rule["ports"]}
        served = {port.number for port in PORTS if port.component == component and port.service}
        assert numbers == served


def test_pods_of_enrolled_namespaces_need_the_injector_and_nobody_elses_do() -> None:
    [mutating] = of_kind(render(settings(), MATERIAL), "MutatingWebhookConfiguration")
    policies = {}
    for hook in mutating["webhooks"]:
        label, name = hook["namespaceSelector"]["matchExpressions"]
        policies[(label["operator"], *label["values"])] = hook["failurePolicy"]
        assert {"kube-system", "policyd"} <= set(name["values"])
        assert name["operator"] == "NotIn"
        assert hook["sideEffects"] == "None"
    assert policies == {("In", "enabled"): "Fail", ("NotIn", "enabled"): "Ignore"}


def test_a_policy_can_be_changed_while_the_injector_is_away() -> None:
    [validating] = of_kind(render(settings(), MATERIAL), "ValidatingWebhookConfiguration")
    assert {hook["failurePolicy"] for hook in validating["webhooks"]} == {"Ignore"}


def test_high_availability_is_two_replicas_apart_with_budgets() -> None:
    plain, twice = (render(settings(ha=ha), MATERIAL) for ha in (False, True))
    assert not of_kind(plain, "PodDisruptionBudget")
    assert {each["metadata"]["name"] for each in of_kind(twice, "PodDisruptionBudget")} == set(COMPONENTS)
    for each in of_kind(twice, "Deployment"):
        assert each["spec"]["replicas"] == 2
        by_node, by_zone = each["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert (by_node["topologyKey"], by_node["whenUnsatisfiable"]) == (
            "kubernetes.io/hostname",
            "DoNotSchedule",
        )
        assert by_zone["whenUnsatisfiable"] == "ScheduleAnyway"
        # Neither old pods nor nodes that take none stand in the way of new ones: two nodes, or one, do.
        assert by_node["matchLabelKeys"] == ["pod-template-hash"]
        assert by_node["nodeTaintsPolicy"] == "Honor"
    assert {each["spec"]["replicas"] for each in of_kind(plain, "Deployment")} == {1}


def test_pods_that_end_serve_until_services_lead_elsewhere(objects: list[dict[str, Any]]) -> None:
    for each in of_kind(objects, "Deployment"):
        pod = each["spec"]["template"]["spec"]
        [container] = pod["containers"]
        seconds = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert 0 < seconds < pod["terminationGracePeriodSeconds"] / 2


def test_an_upgrade_touches_neither_issuer_nor_roots() -> None:
    whole, kept = render(settings(), MATERIAL), render(settings(), None)
    left_out = {_key(each) for each in whole} - {_key(each) for each in kept}
    assert {name for *_, name in left_out} == {"policyd-issuer", "policyd-trust-roots"}


def test_a_changed_setting_replaces_the_pods_that_read_it() -> None:
    one, other = (render(settings(trustDomain=name), MATERIAL) for name in ("a.example", "b.example"))
    pairs = zip(of_kind(one, "Deployment"), of_kind(other, "Deployment"), strict=True)
    for before, after in pairs:
        assert before["spec"]["template"] != after["spec"]["template"]


def test_the_injectors_secret_is_never_written_by_an_install(objects: list[dict[str, Any]]) -> None:
    [secret] = [s for s in of_kind(objects, "Secret") if s["metadata"]["name"] == INJECTOR_SECRET]
    assert "data" not in secret
    assert "stringData" not in secret
    assert secret["metadata"]["labels"]["app.kubernetes.io/component"] == INJECTOR


def test_crds_are_those_of_the_folder() -> None:
    files = [yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yaml"))]
    made = custom_resource_definitions()
    for each in made:
        assert each["metadata"].pop("labels")
    assert sorted(made, key=lambda crd: crd["metadata"]["name"]) == files


def test_rights_are_documented_with_their_reasons() -> None:
    assert table() in REFERENCE.read_text(encoding="utf-8")


def test_ports_are_documented() -> None:
    assert ports.table() in REFERENCE.read_text(encoding="utf-8")


def test_policyd_may_read_every_kind_that_it_follows() -> None:
    """A kind without the right would be a kind without objects."""
    readable = {
        (grant.group, resource)
        for grant in GRANTS
        if grant.component == POLICYD and {"list", "watch"} <= set(grant.verbs)
        for resource in grant.resources
    }
    reserved = {"JWTAuthentication"}
    for kind in FOLLOWED:
        if kind.name not in reserved:
            path = path_of(f"{kind.group}/v1", kind.name, None)
            assert (kind.group, path.plural) in readable, kind.name


def test_settings_files_are_those_that_the_processes_read(
    objects: list[dict[str, Any]], tmp_path: Path
) -> None:
    maps = {
        each["metadata"]["name"]: each["data"]["settings.json"]
        for each in of_kind(objects, "ConfigMap")
        if each["metadata"]["name"].endswith("-settings")
    }
    models: dict[str, type[Config]] = {
        "identity": IdentitySettings,
        "policyd": PolicydSettings,
        "injector": InjectorSettings,
    }
    for component, model in models.items():
        file = tmp_path / component
        file.write_text(maps[f"{component}-settings"])
        load_config(file, model)
