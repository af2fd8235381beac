"""What concerns a port: rows of its Server, its routes, its namespace (semantics A4, A5, R1, T3, U, V8)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from policyd.compile.authorizations import Authorization, refusal
from policyd.compile.conditions import reads_path
from policyd.compile.context import Context
from policyd.compile.findings import about
from policyd.compile.mesh import MOST_CONDITIONAL, WARN_CONDITIONAL
from policyd.compile.placed import Bound, Placed, PortRows
from policyd.compile.ports import UNREAD
from policyd.compile.routes import Attached, attach, hangs_on_unread_ports_only
from policyd.compile.rows import Effect, Level, PathMode, Protocol, Scope
from policyd.index.attachments import parents_of
from policyd.index.targets import namespace_key
from policyd.index.view import View
from policyd.index.world import Object
from policyd.model.finding import Finding
from policyd.resources.base import Resource
from policyd.resources.server import ServerSpec

_PROTOCOLS = {
    "unknown": Protocol.UNKNOWN,
    "HTTP/1": Protocol.HTTP1,
    "HTTP/2": Protocol.HTTP2,
    "gRPC": Protocol.GRPC,
    "opaque": Protocol.OPAQUE,
    "TLS": Protocol.TLS,
}
_PATH_MODES = {"strict": PathMode.STRICT, "merge": PathMode.MERGE, "opaque": PathMode.OPAQUE}


def spec_of(server: Object) -> ServerSpec | None:
    """Return a Server's spec, None where it can't be read."""
    return server.spec if isinstance(server, Resource) and isinstance(server.spec, ServerSpec) else None


def protocol_of(server: Object) -> Protocol:
    """Return what a Server's port speaks; an unreadable one's counts as unknown (semantics U3)."""
    spec = spec_of(server)
    return Protocol.UNKNOWN if spec is None else _PROTOCOLS[spec.proxy_protocol]


def rows_without_server(context: Context, view: View, namespace: str, protocol: Protocol) -> PortRows:
    """Return what concerns the ports of a namespace that no Server owns: its own policies."""
    key = ("unowned", namespace, protocol)
    return context.once(view, key, lambda inner: _unowned(context, inner, namespace, protocol))


def rows_of_server(context: Context, view: View, server: Object) -> PortRows:
    """Return what concerns the ports that a Server owns."""
    return context.once(view, ("server", server.key), lambda inner: _owned(context, inner, server))


def _unowned(context: Context, view: View, namespace: str, protocol: Protocol) -> PortRows:
    policies = context.authorizations(view, namespace_key(namespace))
    if protocol in UNREAD:
        return PortRows(protocol, tuple(Placed(each) for each in _passing(policies)))
    bound = Bound(_cluster_count(context, view, policies))
    return PortRows(protocol, tuple(Placed(each) for each in bound.admit(policies)))


def _passing(policies: Iterable[Authorization]) -> Iterator[Authorization]:
    """Policies of a namespace with a `when` pass over ports on which nothing is read (semantics T3)."""
    return (policy for policy in policies if not policy.conditions)


def _owned(context: Context, view: View, server: Object) -> PortRows:
    view.object(server.key)
    if protocol_of(server) in UNREAD:
        return _unread(context, view, server)
    rows = _read(context, view, server)
    if rows.path_mode is PathMode.OPAQUE and rows.readable and _reads_paths(context, view, rows):
        return _read(context, view, server, path_mode_contradicts=True)
    return rows


def _reads_paths(context: Context, view: View, rows: PortRows) -> bool:
    policies = any(reads_path(placed.authorization.conditions) for placed in rows.placed)
    return bool(rows.routes) or policies or context.cluster_rules_for(view).reads_path


def _unread(context: Context, view: View, server: Object) -> PortRows:
    """Return the rows of a port on which nothing is read: what needs reading is unreadable (semantics T3)."""
    of_namespace = context.authorizations(view, namespace_key(server.key.namespace))
    placed = [Placed(each) for each in _passing(of_namespace)]
    findings = [_passes_over(view, each, server) for each in of_namespace if each.conditions]
    doubtful = [each for each in context.authorizations(view, server.key) if each.conditions]
    placed += [Placed(each) for each in context.authorizations(view, server.key) if not each.conditions]
    for route in view.routes(server.key):
        parents = (view.object(parent) for parent in parents_of(route))
        if hangs_on_unread_ports_only(protocol_of(parent) for parent in parents if parent is not None):
            doubtful += context.authorizations(view, route.key)
    for each in doubtful:
        findings.append(_needs_reading(view, each, server))
        refused = each.refused()
        if refused is not None:
            placed.append(Placed(refused))
    return PortRows(protocol_of(server), tuple(placed), findings=tuple(findings))


def _read(context: Context, view: View, server: Object, path_mode_contradicts: bool = False) -> PortRows:
    """Return the rows of a port on which HTTP is read."""
    spec = None if path_mode_contradicts else spec_of(server)
    protocol = Protocol.UNKNOWN if spec is None else protocol_of(server)
    routes = [] if spec is None else attach(view.routes(server.key), protocol)
    of_namespace = context.authorizations(view, namespace_key(server.key.namespace))
    of_server = context.authorizations(view, server.key)
    of_routes = [(route, each) for route in routes for each in context.authorizations(view, route.key)]
    of_routes.sort(key=lambda pair: pair[1].age)
    everything = [*of_namespace, *of_server, *(each for _, each in of_routes)]
    bound = Bound(_cluster_count(context, view, everything))
    placed = [Placed(each) for each in bound.admit([*of_namespace, *of_server])]
    for route, each in of_routes:
        placed += [_on_route(route, admitted) for admitted in bound.admit([each])]
    placed += _unreadable_parts(server, routes, readable=spec is not None)
    findings = [*_bound_findings(view, server, bound)]
    if path_mode_contradicts:
        findings.append(_path_mode_finding(server))
    mode = PathMode.STRICT if spec is None else _PATH_MODES[spec.path_mode]
    return PortRows(protocol, tuple(placed), tuple(routes), spec is not None, mode, tuple(findings))


def _cluster_count(context: Context, view: View, policies: Iterable[Authorization]) -> int:
    """Return how many of the cluster's rules count first; not asked where nothing else could be beyond."""
    if any(policy.conditions and not policy.audit for policy in policies):
        return context.cluster_rules_for(view).conditional
    return 0


def _on_route(route: Attached, authorization: Authorization) -> Placed:
    allow = authorization.effect is Effect.ALLOW
    return Placed(authorization, Scope.ROUTE_SELECTED if allow else Scope.ROUTE_MATCHED, route.key)


def _unreadable_parts(server: Object, routes: Iterable[Attached], readable: bool) -> Iterator[Placed]:
    """Yield the `refuse` rows of the Server and of the routes themselves (semantics U3, U5)."""
    if not readable:
        yield Placed(refusal(server, Level.SERVER))
    for route in routes:
        if not route.matches_readable:
            yield Placed(route.refusal, Scope.HTTP)
        elif not route.readable:
            yield Placed(route.refusal, Scope.ROUTE_SELECTED, route.key)


def _needs_reading(view: View, authorization: Authorization, server: Object) -> Finding:
    """Tell of a policy that would have to read what arrives at an `opaque` or `TLS` Server."""
    found = view.object(authorization.key)
    speaks = protocol_of(server).name
    effect = "grants nothing" if authorization.action is Effect.ALLOW else "refuses everything"
    message = f"{server.key.text} is {speaks}, where nothing is read, so this policy {effect} there"
    advice = "remove `when` or target the Server instead of a route, or change the Server's proxyProtocol"
    return about(found or server, "NothingIsRead", "spec", message, advice)


def _passes_over(view: View, authorization: Authorization, server: Object) -> Finding:
    """Tell of a policy of the namespace that has no effect on an `opaque` or `TLS` Server."""
    found = view.object(authorization.key)
    message = f"passes over {server.key.text}, which is {protocol_of(server).name}: nothing is read there"
    advice = "give that Server a policy of its own, by identity or network"
    return about(found or server, "PassesOver", "spec.when", message, advice, "warning")


def _bound_findings(view: View, server: Object, bound: Bound) -> Iterator[Finding]:
    for key in bound.beyond:
        found = view.object(key)
        message = (
            f"beyond the {MOST_CONDITIONAL} enforced policies with a `when` that {server.key.text} can have"
        )
        yield about(
            found or server, "TooManyConditions", "spec.when", message, "merge policies or remove some"
        )
    if WARN_CONDITIONAL <= bound.count <= MOST_CONDITIONAL:
        message = f"{bound.count} enforced policies with a `when`; beyond {MOST_CONDITIONAL} unreadable"
        yield about(server, "ManyConditions", "spec", message, "merge policies", "warning")


def _path_mode_finding(server: Object) -> Finding:
    return about(
        server,
        "PathModeContradicts",
        "spec.pathMode",
        "pathMode opaque reads no path, but a route or a policy here does; everything is refused",
        "use pathMode strict or merge, or remove the routes and path conditions",
    )
