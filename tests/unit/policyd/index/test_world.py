"""What a change touches, and the hash over everything."""

from policyd.index.affected import Fact
from policyd.index.digests import digest
from policyd.index.world import Object, World
from policyd.model.names import ObjectKey
from policyd.resources.base import Document
from policyd.resources.read import read


def made(
    kind: str, name: str, spec: dict[str, object], api: str = "policyd.dev/v1alpha1", **meta: object
) -> Object:
    metadata = {"name": name, "namespace": "books", **meta}
    found = read(Document({"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec}))
    assert found is not None
    return found


def server(name: str, app: str = "web", api: str = "policyd.dev/v1alpha1", **labels: str) -> Object:
    return made(
        "Server", name, {"podSelector": {"matchLabels": {"app": app}}, "port": 80}, api, labels=labels
    )


def pod(name: str, app: str) -> Object:
    return made("Pod", name, {"containers": [{"name": "a"}]}, "v1", labels={"app": app})


def shape(world: World, name: str) -> str:
    member = world.workloads.member(ObjectKey("", "Pod", "books", name))
    assert member is not None
    assert member.shape is not None
    return member.shape.key


def test_a_server_touches_the_workloads_that_its_old_or_new_selector_selects() -> None:
    world = World()
    world.apply((each.key, each) for each in (pod("a", "a"), pod("b", "b"), pod("c", "c"), server("s", "a")))
    moved = server("s", "b")
    facts = world.apply([(moved.key, moved)]).facts
    touched = {fact.of for fact in facts if fact.about == "servers"}
    assert touched == {shape(world, "a"), shape(world, "b")}


def test_a_policy_touches_its_old_and_its_new_target() -> None:
    world = World()

    def policy(target: str) -> Object:
        spec: dict[str, object] = {
            "targetRef": {"group": "policyd.dev", "kind": "Server", "name": target},
            "requiredAuthenticationRefs": [],
        }
        return made("AuthorizationPolicy", "p", spec)

    first, second = policy("one"), policy("two")
    world.apply([(first.key, first)])
    facts = world.apply([(second.key, second)]).facts
    targets = {fact.of.name for fact in facts if fact.about == "policies" and isinstance(fact.of, ObjectKey)}
    assert targets == {"one", "two"}
    assert world.policies_about(ObjectKey("policyd.dev", "Server", "books", "one")) == []


def test_a_server_authorization_touches_the_servers_that_it_selects() -> None:
    world = World()
    api = "policy.linkerd.io/v1beta3"
    for each in (server("x", api=api, tier="front"), server("y", api=api)):
        world.apply([(each.key, each)])
    spec = {"server": {"selector": {"matchLabels": {"tier": "front"}}}, "client": {"unauthenticated": True}}
    grant = made("ServerAuthorization", "g", spec, "policy.linkerd.io/v1beta1")
    facts = world.apply([(grant.key, grant)]).facts
    assert Fact("policies", ObjectKey("policy.linkerd.io", "Server", "books", "x")) in facts
    assert len([fact for fact in facts if fact.about == "policies"]) == 1


def test_what_says_the_same_touches_nothing() -> None:
    world = World()
    first, again = server("s"), server("s")
    assert world.apply([(first.key, first)])
    assert not world.apply([(again.key, again)])
    assert not world.apply([(ObjectKey("policyd.dev", "Server", "books", "none"), None)])


def test_a_shape_that_left_and_came_back_in_one_batch_still_sees_the_server() -> None:
    world = World()
    one, old, new = pod("a", "a"), server("s", "a"), server("s", "b")
    world.apply([(one.key, one), (old.key, old)])
    affected = world.apply([(one.key, None), (new.key, new), (one.key, one)])
    assert Fact("servers", shape(world, "a")) in affected.facts


def test_the_hash_is_of_what_is_there_and_not_of_its_history() -> None:
    first, second = World(), World()
    one, two = server("s"), server("t")
    first.apply([(one.key, one), (two.key, two)])
    second.apply([(two.key, two)])
    second.apply([(two.key, None), (one.key, one)])
    assert first.state_hash != second.state_hash
    second.apply([(two.key, two)])
    assert first.state_hash == second.state_hash == second.hash_from_scratch()
    assert first.state_hash.startswith("sha256:")


def test_a_number_beyond_64_bits_has_a_digest() -> None:
    assert digest(made("Server", "s", {"port": 2**80})) != digest(made("Server", "s", {"port": 2**80 + 1}))
