"""Every kind of object of the authorization graph, and how a change of one takes a grant away: a table.

Each case has manifests under which the account `caller` may use all ports of the vault, and manifests, one
object apart, under which it may not use those of `ports`. Documents are joined with `---`.
"""

from __future__ import annotations

from dataclasses import dataclass

from .vault import ALL, GRPC, HTTP, TCP

OURS, LINKERD, GATEWAY = "policyd.dev/v1alpha1", "policy.linkerd.io/v1alpha1", "gateway.networking.k8s.io/v1"
LINKERD_SERVER, LINKERD_ROUTE, SERVER_AUTHORIZATION = (
    "policy.linkerd.io/v1beta3",
    "policy.linkerd.io/v1beta3",
    "policy.linkerd.io/v1beta1",
)
PROTOCOLS = {HTTP: "HTTP/1", GRPC: "gRPC", TCP: "opaque"}
EVERY_PORT = {port: port for port in ALL}
CALLER = "{kind: ServiceAccount, name: caller, namespace: callers}"
NOBODY = "{kind: ServiceAccount, name: nobody, namespace: callers}"


@dataclass(frozen=True)
class Case:
    """`change` is what happens to an object of `kind`. `{…}` in manifests are filled in by the test."""

    kind: str
    change: str
    before: str
    after: str
    ports: tuple[str, ...] = ALL

    @property
    def name(self) -> str:
        return f"{self.kind}: {self.change}"


def documents(*texts: str) -> str:
    return "\n---\n".join(texts)


def an(api: str, kind: str, name: str, spec: str, namespace: str | None = "vaults", meta: str = "") -> str:
    """One object; `spec` is a flow mapping without its braces."""
    place = f", namespace: {namespace}" if namespace else ""
    return f"apiVersion: {api}\nkind: {kind}\nmetadata: {{name: {name}{place}{meta}}}\nspec: {{{spec}}}"


def server(
    port: str,
    api: str = OURS,
    selector: str = "app: vault",
    number: str = "",
    extra: str = "",
    labels: str = "",
) -> str:
    return an(
        api,
        "Server",
        f"vault-{port}",
        f"podSelector: {{matchLabels: {{{selector}}}}}, port: {number or port},"
        f" proxyProtocol: {PROTOCOLS[port]}{extra}",
        meta=labels,
    )


def servers(api: str = OURS, selector: str = "app: vault", extra: str = "", labels: str = "") -> str:
    return documents(*(server(port, api, selector, extra=extra, labels=labels) for port in ALL))


def allow(target: str, refs: str, extra: str = "", api: str = OURS, name: str = "grant") -> str:
    return an(
        api, "AuthorizationPolicy", name, f"targetRef: {target}, requiredAuthenticationRefs: [{refs}]{extra}"
    )


def on_servers(refs: str, extra: str = "", api: str = OURS) -> str:
    group = api.split("/", maxsplit=1)[0]
    targets = ((port, f"{{group: {group}, kind: Server, name: vault-{port}}}") for port in ALL)
    return documents(*(allow(target, refs, extra, api, f"grant-{port}") for port, target in targets))


NAMESPACE = "{kind: Namespace, name: vaults}"


def by_ref(api: str, kind: str) -> str:
    """The namespace-wide grant for who is named by an authentication of that kind."""
    return allow(
        NAMESPACE, f"{{group: {api.split('/', maxsplit=1)[0]}, kind: {kind}, name: friends}}", api=api
    )


def friends(api: str, kind: str, spec: str) -> str:
    return an(api, kind, "friends", spec)


def defaults(spec: str) -> str:
    return an(OURS, "MeshDefaults", "default", spec, namespace=None)


def namespace(name: str, meta: str) -> str:
    return f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, {meta}}}"


def route(api: str, kind: str, match: str, port: str, parent_api: str = OURS) -> str:
    parent = f"{{group: {parent_api.split('/', maxsplit=1)[0]}, kind: Server, name: vault-{port}}}"
    return an(api, kind, "vault", f"parentRefs: [{parent}], rules: [{{matches: [{match}]}}]")


def on_route(api: str, kind: str, grant_api: str = OURS) -> str:
    return allow(
        f"{{group: {api.split('/', maxsplit=1)[0]}, kind: {kind}, name: vault}}", CALLER, api=grant_api
    )


def _of_servers(api: str, server_api: str) -> list[Case]:
    kind = f"Server ({api.split('/', maxsplit=1)[0]})"
    grants = on_servers(CALLER, api=api)
    before = documents(servers(server_api), grants)
    cases = [
        Case(kind, "deleted", before, grants),
        Case(kind, "selects other pods", before, documents(servers(server_api, "app: other"), grants)),
        Case(
            kind,
            "another port",
            before,
            documents(*(server(port, server_api, number="1") for port in ALL), grants),
        ),
    ]
    opened = servers(server_api, extra=", accessPolicy: all-authenticated")
    cases.append(Case(kind, "accessPolicy closed", opened, servers(server_api, extra=", accessPolicy: deny")))
    protocol = documents(servers(server_api).replace("opaque", "HTTP/1"), grants)
    cases.append(Case(kind, "another protocol", before, protocol, (TCP,)))
    return cases


def _of_policies(api: str, server_api: str) -> list[Case]:
    kind = f"AuthorizationPolicy ({api.split('/', maxsplit=1)[0]})"
    base = servers(server_api)
    on_all, wide = (
        documents(base, on_servers(CALLER, api=api)),
        documents(base, allow(NAMESPACE, CALLER, api=api)),
    )
    return [
        Case(kind, "on Servers, deleted", on_all, base),
        Case(kind, "on a Namespace, deleted", wide, base),
        Case(kind, "names another account", wide, documents(base, allow(NAMESPACE, NOBODY, api=api))),
        Case(
            kind,
            "names another target",
            on_all,
            documents(base, on_servers(CALLER, api=api).replace("name: vault-", "name: other-")),
        ),
    ]


def _of_our_policies() -> list[Case]:
    kind, base = "AuthorizationPolicy (policyd.dev)", servers()
    wide = documents(base, allow(NAMESPACE, CALLER))
    ended = ', validUntil: "2020-01-01T00:00:00Z"'
    audited = allow(NAMESPACE, CALLER, ", action: Deny, mode: Audit", name="stop")
    enforced = allow(NAMESPACE, CALLER, ", action: Deny, mode: Enforce", name="stop")
    floor = allow(NAMESPACE, NOBODY, ", action: Require", name="floor")
    return [
        Case(kind, "validUntil is past", wide, documents(base, allow(NAMESPACE, CALLER, ended))),
        Case(
            kind,
            "gets a when",
            wide,
            documents(base, allow(NAMESPACE, CALLER, ", when: [{method: {in: [PUT]}}]")),
        ),
        Case(kind, "becomes a Deny", wide, documents(base, allow(NAMESPACE, CALLER, ", action: Deny"))),
        Case(kind, "a Deny is added", wide, documents(wide, enforced)),
        Case(kind, "a Require is added", wide, documents(wide, floor)),
        Case(
            kind, "a Deny is enforced that was audited", documents(wide, audited), documents(wide, enforced)
        ),
        Case(
            kind,
            "becomes unreadable",
            wide,
            documents(base, allow(NAMESPACE, CALLER, ", surprise: true")),
        ),
    ]


def _of_authentications(api: str, server_api: str) -> list[Case]:
    group = api.split("/", maxsplit=1)[0]
    tls, networks = "MeshTLSAuthentication", "NetworkAuthentication"
    base = servers(server_api)

    def granted(kind: str, spec: str) -> str:
        return documents(base, by_ref(api, kind), friends(api, kind, spec))

    whom = granted(tls, 'identities: ["{caller}"]')
    ref = "identityRefs: [{kind: ServiceAccount, name: %s, namespace: callers}]"
    where = granted(networks, "networks: [{cidr: 127.0.0.0/8}]")
    return [
        Case(f"{tls} ({group})", "deleted", whom, documents(base, by_ref(api, tls))),
        Case(f"{tls} ({group})", "another identity", whom, granted(tls, 'identities: ["{nobody}"]')),
        Case(
            f"{tls} ({group})", "another account", granted(tls, ref % "caller"), granted(tls, ref % "nobody")
        ),
        Case(f"{networks} ({group})", "deleted", where, documents(base, by_ref(api, networks))),
        Case(
            f"{networks} ({group})",
            "another network",
            where,
            granted(networks, "networks: [{cidr: 192.0.2.0/24}]"),
        ),
        Case(
            f"{networks} ({group})",
            "an exception",
            where,
            granted(networks, "networks: [{cidr: 127.0.0.0/8, except: [127.0.0.1/32]}]"),
        ),
    ]


def _of_labels() -> list[Case]:
    kind = "MeshTLSAuthentication"
    base = documents(servers(), by_ref(OURS, kind))
    selecting = friends(OURS, kind, "namespaceSelector: {matchLabels: {team: red}}")
    trusted = defaults("trustedNamespaceLabels: [team]")
    red, blue = namespace("callers", "labels: {team: red}"), namespace("callers", "labels: {team: blue}")
    excepted = friends(OURS, kind, 'identities: ["{caller}"], except: {identities: ["{caller}"]}')
    by_selector = documents(base, selecting, trusted, red)
    return [
        Case("Namespace", "relabelled", by_selector, documents(base, selecting, trusted, blue)),
        Case("Namespace", "deleted", by_selector, documents(base, selecting, trusted)),
        Case(
            f"{kind} (policyd.dev)",
            "an exception",
            documents(base, friends(OURS, kind, 'identities: ["{caller}"]')),
            documents(base, excepted),
        ),
        Case(
            "MeshDefaults",
            "a label is trusted no more",
            by_selector,
            documents(base, selecting, defaults("trustedNamespaceLabels: []"), red),
        ),
    ]


def _of_defaults() -> list[Case]:
    note = "annotations: {policyd.dev/default-access: %s}"
    opened, closed = (namespace("vaults", note % access) for access in ("all-authenticated", "deny"))
    narrowed = namespace("vaults", "annotations: {config.linkerd.io/default-inbound-policy: deny}")
    mesh = defaults("defaultAccess: all-authenticated")
    wide = documents(servers(), allow(NAMESPACE, CALLER))
    inside = servers(extra=", accessPolicy: cluster-authenticated")
    return [
        Case("Namespace", "default access closed", opened, closed),
        Case("Namespace", "default access removed", opened, namespace("vaults", "labels: {a: b}")),
        Case("Namespace", "default access narrowed, Linkerd's annotation", mesh, documents(mesh, narrowed)),
        Case("MeshDefaults", "deleted", mesh, namespace("vaults", "labels: {a: b}")),
        Case("MeshDefaults", "defaultAccess closed", mesh, defaults("defaultAccess: deny")),
        Case(
            "MeshDefaults",
            "maxDefault narrowed",
            mesh,
            defaults("defaultAccess: all-authenticated, maxDefault: deny"),
        ),
        Case(
            "MeshDefaults",
            "clusterNetworks narrowed",
            documents(inside, defaults("clusterNetworks: [127.0.0.1/32]")),
            documents(inside, defaults("clusterNetworks: [192.0.2.0/24]")),
        ),
        Case(
            "MeshDefaults",
            "a deny",
            wide,
            documents(
                wide,
                defaults(
                    'deny: [{{name: stop, identities: ["{caller}"], withoutIdentity: Ignore}}]'.replace(
                        "{{", "{"
                    ).replace("}}", "}")
                ),
            ),
        ),
        Case(
            "MeshDefaults",
            "a require",
            wide,
            documents(wide, defaults('require: [{name: floor, identities: ["{nobody}"]}]')),
        ),
        Case(
            "MeshDefaults",
            "an identity is revoked",
            wide,
            documents(wide, defaults('revoked: [{identity: "{caller}"}]')),
        ),
        Case(
            "MeshDefaults",
            "a pod is revoked",
            wide,
            documents(wide, defaults('revoked: [{podUID: "{uid}"}]')),
        ),
        Case(
            "MeshDefaults",
            "a certificate is revoked",
            wide,
            documents(wide, defaults('revoked: [{certificateSHA256: "{sha256}"}]')),
        ),
    ]


def _of_routes() -> list[Case]:
    cases = []
    http = ("{path: {type: PathPrefix, value: /}}", "{path: {type: PathPrefix, value: /other}}")
    grpc = ("{method: {service: books.Greeter}}", "{method: {service: books.Other}}")
    of = (
        ("HTTPRoute", GATEWAY, OURS, OURS, HTTP, http),
        ("HTTPRoute", LINKERD_ROUTE, LINKERD_SERVER, LINKERD, HTTP, http),
        ("GRPCRoute", GATEWAY, OURS, OURS, GRPC, grpc),
    )
    for kind, api, server_api, grant_api, port, (matches, differs) in of:
        base = documents(server(port, server_api), on_route(api, kind, grant_api))
        before = documents(base, route(api, kind, matches, port, server_api))
        name = f"{kind} ({api.split('/')[0]})"
        cases += [
            Case(name, "deleted", before, base, (port,)),
            Case(
                name,
                "matches others",
                before,
                documents(base, route(api, kind, differs, port, server_api)),
                (port,),
            ),
            Case(
                name,
                "another parent",
                before,
                documents(base, route(api, kind, matches, "other", server_api)),
                (port,),
            ),
        ]
    return cases


def _of_server_authorizations() -> list[Case]:
    kind = "ServerAuthorization (policy.linkerd.io)"
    label = ", labels: {of: vault}"
    account = "meshTLS: {serviceAccounts: [{name: %s, namespace: callers}]}, networks: [{cidr: 127.0.0.0/8}]"

    def granted(selector: str, client: str, server_label: str = label) -> str:
        spec = f"server: {{selector: {{matchLabels: {{{selector}}}}}}}, client: {{{client}}}"
        return documents(
            servers(LINKERD_SERVER, labels=server_label),
            an(SERVER_AUTHORIZATION, "ServerAuthorization", "grant", spec),
        )

    before = granted("of: vault", account % "caller")
    return [
        Case(kind, "deleted", before, servers(LINKERD_SERVER, labels=label)),
        Case(kind, "another account", before, granted("of: vault", account % "nobody")),
        Case(kind, "selects other Servers", before, granted("of: other", account % "caller")),
        Case(
            "Server (policy.linkerd.io)",
            "relabelled",
            before,
            granted("of: vault", account % "caller", ", labels: {of: other}"),
        ),
    ]


CASES = [
    *_of_servers(OURS, OURS),
    *_of_servers(LINKERD, LINKERD_SERVER),
    *_of_policies(OURS, OURS),
    *_of_policies(LINKERD, LINKERD_SERVER),
    *_of_our_policies(),
    *_of_authentications(OURS, OURS),
    *_of_authentications(LINKERD, LINKERD_SERVER),
    *_of_labels(),
    *_of_defaults(),
    *_of_routes(),
    *_of_server_authorizations(),
]

# Of a pod's own object, which the kubelet writes: (change, its labels, its annotations).
OPENED_POD = {"policyd.dev/default-access": "all-authenticated"}
POD_CASES: tuple[tuple[str, dict[str, str], dict[str, str], str], ...] = (
    ("relabelled", {"app": "other"}, {}, documents(servers(), on_servers(CALLER))),
    (
        "default access closed",
        {"app": "vault"},
        {"policyd.dev/default-access": "deny"},
        defaults("defaultAccess: all-authenticated"),
    ),
)
