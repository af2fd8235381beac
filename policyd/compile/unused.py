"""What has no effect: targets that aren't there, selectors and annotations that say nothing, idle routes."""

from __future__ import annotations

from collections.abc import Iterator

from policyd.compile.annotations import doubts
from policyd.compile.findings import about
from policyd.compile.routes import attaches
from policyd.compile.servers import protocol_of
from policyd.index.attachments import ROUTE_KINDS, authorizes, parents_are_unknown, parents_of
from policyd.index.claims import claim_of
from policyd.index.shapes import Shape
from policyd.index.targets import POLICY_KINDS, namespace_key, target_of
from policyd.index.world import Object, World
from policyd.model.finding import Finding, Severity
from policyd.model.names import OUR_GROUPS, ObjectKey
from policyd.resources.base import Resource
from policyd.resources.route import RouteSpec
from policyd.resources.server_authorization import ServerAuthorizationSpec
from policyd.resources.workload import PodOwner


def without_effect(world: World, found: Object) -> Iterator[Finding]:
    """Yield what is wrong with an object that changes nothing."""
    key = found.key
    yield from _annotations(world, found)
    if key.kind in ROUTE_KINDS:
        yield from _route(world, found)
    elif key.group not in OUR_GROUPS:
        return
    elif key.kind in POLICY_KINDS:
        yield from _policy(world, found)
    elif key.kind == "Server":
        yield from _server(world, found)
    elif key.kind == "ServerAuthorization":
        yield from _server_authorization(world, found)


def _annotations(world: World, found: Object) -> Iterator[Finding]:
    """Tell of annotations on namespaces and pods (or their templates) that can't be read."""
    member = world.workloads.member(found.key)
    place = "metadata.annotations"
    if found.key == namespace_key(found.key.name):
        doubtful = doubts(found.meta.annotations, None)
    elif member is not None and member.shape is not None:
        doubtful = doubts(member.shape.annotation_map, member.shape.ports)
        if isinstance(found, Resource) and isinstance(found.spec, PodOwner):
            place = "spec.template.metadata.annotations"
    else:
        return
    for name, message in doubtful:
        yield about(found, "UnknownAnnotationValue", f'{place}["{name}"]', message, "correct the annotation")


def _policy(world: World, found: Object) -> Iterator[Finding]:
    target = target_of(found)
    if target.kind == "Namespace":
        return
    there = world.objects.get(target)
    if there is None:
        message = f"{target.text} isn't there, so this policy concerns nothing"
        yield about(found, "TargetNotFound", "spec.targetRef", message, _meant(world, target))
    elif target.kind in ROUTE_KINDS and not _servers_of(world, there):
        message = f"{target.text} hangs on no Server that takes it, so this policy concerns nothing"
        advice = "give the route a parentRef to a Server of this namespace"
        yield about(found, "NoEffect", "spec.targetRef", message, advice, "warning")


def _meant(world: World, target: ObjectKey) -> str:
    """Say which object was probably meant: the same name in the other group, or else to create it."""
    wanted = (target.kind, target.namespace, target.name)
    same = sorted(key.group for key in world.objects if (key.kind, key.namespace, key.name) == wanted)
    if same:
        return f"did you mean group {same[0]}?"
    return "create it, or correct targetRef"


def _servers_of(world: World, route: Object) -> list[Object]:
    """Return the Servers on which a route has an effect (semantics R1)."""
    named = (world.objects.get(server) for server in parents_of(route))
    return [
        server
        for server in named
        if isinstance(server, Resource) and attaches(route.key.kind, protocol_of(server))
    ]


def _server(world: World, found: Object) -> Iterator[Finding]:
    claim = claim_of(found)
    if claim is None:
        return
    selected = [shape for shape in world.workloads.shapes_in(found.key.namespace) if claim.selects(shape)]
    field = "spec.externalWorkloadSelector" if claim.external else "spec.podSelector"
    if not selected:
        message = "selects no workload of its namespace"
        yield about(found, "SelectsNothing", field, message, "correct the selector or the labels", "warning")
    elif not any(_declares(shape, claim.port) for shape in selected):
        what = "has a container port of that name" if isinstance(claim.port, str) else "declares that port"
        message = f"port {claim.port!r}: no workload that it selects {what}"
        severity: Severity = "error" if isinstance(claim.port, str) else "warning"
        yield about(found, "PortNotDeclared", "spec.port", message, _declared(selected), severity)


def _declares(shape: Shape, port: int | str) -> bool:
    return any(port in (declared.number, declared.name) for declared in shape.ports)


def _declared(shapes: list[Shape]) -> str:
    ports = sorted({port for shape in shapes for port in shape.ports})
    names = ", ".join(f"{port.number} ({port.name})" if port.name else str(port.number) for port in ports)
    return f"declared are {names}" if names else "declare the port in the pod template"


def _server_authorization(world: World, found: Object) -> Iterator[Finding]:
    servers = world.servers_in(found.key.namespace)
    spec = found.spec if isinstance(found, Resource) else None
    if not isinstance(spec, ServerAuthorizationSpec) or any(authorizes(found, server) for server in servers):
        return
    if spec.server.selector is None:
        message = f"Server {spec.server.name!r} of policy.linkerd.io isn't there, so this grants nothing"
        yield about(found, "TargetNotFound", "spec.server.name", message, "create it, or correct the name")
    else:
        message = "selects no Server of policy.linkerd.io in its namespace, so this grants nothing"
        yield about(found, "SelectsNothing", "spec.server.selector", message, "correct the labels", "warning")


def _route(world: World, found: Object) -> Iterator[Finding]:
    spec = found.spec if isinstance(found, Resource) else None
    if not isinstance(spec, RouteSpec):
        return
    if parents_are_unknown(found):
        message = "a parent can't be read, so the route refuses all HTTP of every Server of its namespace"
        yield about(found, "ParentUnreadable", "spec.parentRefs", message, "correct the parentRef")
    for index, parent in enumerate(spec.parent_refs):
        field = f"spec.parentRefs[{index}]"
        key = parent.server(found.key.namespace)
        if parent.names_a_server and key is None:
            message = "a route hangs on Servers of its own namespace only"
            yield about(found, "RefNotPermitted", field, message, "move the route to the Server's namespace")
        elif key is not None:
            yield from _parent(world, found, key, field)


def _parent(world: World, found: Object, key: ObjectKey, field: str) -> Iterator[Finding]:
    server = world.objects.get(key)
    if server is None:
        message = f"{key.text} isn't there, so the route has no effect on it"
        yield about(found, "TargetNotFound", field, message, "create it, or correct the parentRef")
    elif not isinstance(server, Resource):
        message = f"{key.text} can't be read, so the route has no effect on it"
        yield about(found, "NoEffect", field, message, "correct the Server", "warning")
    elif not attaches(found.key.kind, protocol_of(server)):
        message = f"{key.text} speaks {protocol_of(server).name}, which takes no {found.key.kind}"
        yield about(found, "NoEffect", field, message, "change the Server's proxyProtocol", "warning")
