//! Semantics D6, the property: putting all rows together naively, one by one with the predicates that explain, gives the
//! answer of `decide`, which finds them through indexes and standings.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::{net::IpAddr, sync::Arc};

use engine::{
    Arrival, Connection, Facts, Moment, Peer, Reason, Table, Timestamp, Verdict,
    condition::{Condition, Rigour, Subject, Test},
    decide,
    gate::{self, GateProfile},
    identity::{IdentityForm, IdentitySet, SpiffeId},
    network::NetworkSet,
    request::CanonicalRequest,
    route::{Match, PathTest, PathText, Route, RouteKind},
    rows::{Access, ClusterRows, Effect, Level, Pools, PortRow, Rule, Scope, WorkloadRows},
};
use proptest::prelude::*;

const FORMS: [&str; 4] =
    ["spiffe://td/ns/a/sa/x", "spiffe://td/ns/a/sa/*", "spiffe://td/*", "spiffe://other/ns/a/sa/x"];
const PEERS: [Option<&str>; 4] = [
    None,
    Some("spiffe://td/ns/a/sa/x"),
    Some("spiffe://td/ns/b/sa/y"),
    Some("spiffe://other/ns/a/sa/x"),
];
const PATHS: [&str; 6] = ["/a", "/a/b", "/A", "/a;x", "/b", "/"];
const NOW: Timestamp = Timestamp(1_000);

fn forms(list: &[&str]) -> Vec<IdentityForm> {
    list.iter().map(|form| IdentityForm::parse(form).unwrap()).collect()
}

fn pools() -> Pools {
    let text = |list: &[&str]| list.iter().map(|value| Box::from(*value)).collect();
    Pools {
        identities: FORMS
            .iter()
            .map(|form| IdentitySet::new(forms(&[form]), []))
            .chain([
                IdentitySet::new(forms(&["spiffe://td/*"]), forms(&["spiffe://td/ns/a/sa/x"])),
                IdentitySet::default(),
            ])
            .collect(),
        networks: vec![
            NetworkSet::new([("10.0.0.0/8".parse().unwrap(), vec![])]),
            NetworkSet::new([("0.0.0.0/0".parse().unwrap(), vec!["10.0.0.0/8".parse().unwrap()])]),
        ],
        conditions: vec![
            Condition::new(Subject::Method, Test::In(text(&["GET"]))),
            Condition::new(Subject::Path, Test::Prefix("/a".into())),
            Condition::new(Subject::Path, Test::NotIn(text(&["/a"]))),
            Condition::new(Subject::Header("x-env".into()), Test::In(text(&["p", "q"]))),
            Condition::new(Subject::Header("x-env".into()), Test::NotIn(text(&["p"]))),
        ],
    }
}

fn routes() -> Vec<Route> {
    let route = |name: &str, path: PathTest| {
        let matched = Match { path, method: None, headers: Box::default(), query: Box::default() };
        Route {
            name: name.into(),
            origin: "o".into(),
            kind: RouteKind::Http,
            hosts: Box::default(),
            rules: vec![vec![matched].into_boxed_slice()].into_boxed_slice(),
        }
    };
    vec![
        route("r0", PathTest::Prefix(PathText::new("/a"))),
        route("r1", PathTest::Exact(PathText::new("/a/b"))),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let effects = vec![Effect::Allow, Effect::Deny, Effect::Require, Effect::Refuse];
    let asked = (
        prop::option::of(0..2_u32),
        prop::collection::btree_set(0..5_u32, 0..2),
        0..4_i64,
        prop::option::of(0..6_u32),
    );
    (prop::sample::select(effects), 0..5_u32, any::<bool>(), any::<bool>(), asked).prop_map(
        |(effect, place, audit, anonymous_too, (networks, conditions, until, identities))| {
            let refuse = effect == Effect::Refuse;
            let (level, scope) = match (place, effect) {
                (0 | 1, Effect::Allow) => (Level::Route, Scope::Selected(place)),
                (0 | 1, _) => (Level::Route, Scope::Matched(place)),
                (2, _) => (Level::Namespace, Scope::Port),
                (3, Effect::Refuse) => (Level::Route, Scope::Http),
                _ => (Level::Server, Scope::Port),
            };
            let identities = identities.filter(|_| !refuse);
            Rule {
                effect,
                level,
                authorization: "p".into(),
                origin: "o".into(),
                audit,
                scope,
                identities,
                anonymous_too: anonymous_too && effect == Effect::Deny && identities.is_some(),
                networks: networks.filter(|_| !refuse),
                conditions: conditions.into_iter().filter(|_| !refuse).collect(),
                valid_until: (effect == Effect::Allow && until > 0)
                    .then_some(Timestamp(until * 500)),
            }
        },
    )
}

#[derive(Debug, Clone)]
struct World {
    rules: Vec<Rule>,
    routed: bool,
    access: Access,
}

fn world() -> impl Strategy<Value = World> {
    let access = prop::sample::select(vec![
        Access::Deny,
        Access::Audit,
        Access::AllUnauthenticated,
        Access::AllAuthenticated,
        Access::ClusterUnauthenticated,
        Access::ClusterAuthenticated,
    ]);
    (prop::collection::vec(rule(), 0..8), any::<bool>(), access).prop_map(
        |(mut rules, routed, access)| {
            rules.sort_by_key(|rule| rule.level);
            World { rules, routed, access }
        },
    )
}

/// One request of one peer against all rows, without index and without standing.
struct Naive<'a> {
    world: &'a World,
    pools: Pools,
    routes: Vec<Route>,
    request: &'a CanonicalRequest,
    peer: Option<&'a SpiffeId>,
    source: IpAddr,
}

impl Naive<'_> {
    fn selected(&self) -> Option<u32> {
        match self.request.path() {
            _ if !self.world.routed => None,
            "/a/b" => Some(1),
            "/a" => Some(0),
            _ => None,
        }
    }

    fn identity(&self, rule: &Rule) -> Option<bool> {
        match (rule.identities, self.peer) {
            (None, _) => Some(true),
            (Some(_), None) => None,
            (Some(index), Some(peer)) => Some(self.pools.identities[index as usize].contains(peer)),
        }
    }

    fn network(&self, rule: &Rule) -> bool {
        rule.networks.is_none_or(|index| self.pools.networks[index as usize].contains(self.source))
    }

    fn concerns(&self, rule: &Rule) -> bool {
        let rigour = match rule.effect {
            Effect::Allow => Rigour::EveryValue,
            _ => Rigour::AnyValue,
        };
        let scope = match rule.scope {
            Scope::Port | Scope::Http => true,
            Scope::Selected(route) => self.selected() == Some(route),
            Scope::Matched(route) => self.routes[route as usize].concerns(self.request),
        };
        scope
            && rule
                .conditions
                .iter()
                .all(|index| self.pools.conditions[*index as usize].holds(self.request, rigour))
            && rule.valid_until.is_none_or(|end| NOW < end)
    }

    fn first(
        &self,
        effect: Effect,
        on_route: Option<bool>,
        hits: impl Fn(&Rule) -> bool,
    ) -> Option<&Rule> {
        self.world.rules.iter().find(|rule| {
            !rule.audit
                && rule.effect == effect
                && on_route.is_none_or(|want| want == (rule.level == Level::Route))
                && self.concerns(rule)
                && hits(rule)
        })
    }

    fn refused(&self) -> Option<Reason> {
        if self.first(Effect::Refuse, None, |_| true).is_some() {
            return Some(Reason::PolicyUnreadable);
        }
        for on_route in [Some(false), Some(true)] {
            let deny = self.first(Effect::Deny, on_route, |rule| {
                let identity = self.identity(rule);
                self.network(rule)
                    && (identity == Some(true) || (identity.is_none() && rule.anonymous_too))
            });
            if let Some(rule) = deny {
                let anonymous = self.peer.is_none() && rule.identities.is_some();
                return Some(if anonymous { Reason::NoIdentity } else { Reason::ExplicitDeny });
            }
            let unmet = |rule: &Rule| !(self.network(rule) && self.identity(rule) == Some(true));
            if self.first(Effect::Require, on_route, unmet).is_some() {
                return Some(Reason::RequirementNotMet);
            }
            let strict = self.world.routed && self.world.access != Access::Audit;
            if on_route == Some(false) && strict && self.selected().is_none() {
                return Some(Reason::NoRoute);
            }
        }
        None
    }

    fn reason(&self) -> Reason {
        if let Some(reason) = self.refused() {
            return reason;
        }
        let grants = |rule: &Rule| self.network(rule) && self.identity(rule) == Some(true);
        if self.first(Effect::Allow, None, grants).is_some() {
            return Reason::Allowed;
        }
        let cluster = self.source.to_string().starts_with("10.");
        let (from, needs) = match self.world.access {
            Access::Deny => (false, false),
            Access::Audit | Access::AllUnauthenticated => (true, false),
            Access::AllAuthenticated => (true, true),
            Access::ClusterUnauthenticated => (cluster, false),
            Access::ClusterAuthenticated => (cluster, true),
        };
        if from && (!needs || self.peer.is_some_and(|peer| peer.trust_domain() == "td")) {
            return Reason::Allowed;
        }
        let lacks = |rule: &Rule| {
            let set = rule.identities.map(|index| &self.pools.identities[index as usize]);
            self.identity(rule).is_none()
                && self.network(rule)
                && set.is_some_and(|set| !set.is_empty())
        };
        let help = (from && needs) || self.first(Effect::Allow, None, lacks).is_some();
        if self.peer.is_none() && help { Reason::NoIdentity } else { Reason::NoMatchingRule }
    }
}

fn table(world: &World) -> Arc<Table> {
    let other = PortRow {
        access: world.access,
        rules: (0..u32::try_from(world.rules.len()).unwrap()).collect(),
        routes: if world.routed { vec![0, 1] } else { vec![] },
        ..PortRow::default()
    };
    let workload = WorkloadRows {
        pools: pools(),
        rules: world.rules.clone(),
        routes: routes(),
        other,
        ..WorkloadRows::default()
    };
    let cluster = ClusterRows {
        trust_domain: "td".into(),
        cluster_networks: NetworkSet::new([("10.0.0.0/8".parse().unwrap(), vec![])]),
        ..ClusterRows::default()
    };
    Arc::new(Table::new(cluster, workload).unwrap())
}

fn connect(world: &World, peer: Option<&SpiffeId>, source: IpAddr) -> Connection {
    let peer = peer.map(|identity| Peer {
        identity: identity.clone(),
        pod_uid: None,
        certificate_sha256: [0; 32],
        not_before: Timestamp(0),
        not_after: Timestamp(i64::MAX),
    });
    Connection::open(table(world), Arc::new(Facts::default()), 80, source, peer)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8192))]

    #[test]
    fn d6_all_rows_put_together_naively_give_the_decision(
        world in world(),
        path in prop::sample::select(PATHS.to_vec()),
        method in prop::sample::select(vec!["GET", "POST"]),
        header in prop::sample::select(
            vec!["", "x-env: p\r\n", "x-env: p, q\r\n", "x-env: z\r\nX-Env: q\r\n"]
        ),
        peer in prop::sample::select(PEERS.to_vec()),
        source in prop::sample::select(vec!["10.0.0.1", "11.0.0.1"]),
    ) {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: h\r\n{header}\r\n");
        let request = gate::http1(head.as_bytes(), &GateProfile::default()).unwrap();
        let peer = peer.map(|text| SpiffeId::parse(text).unwrap());
        let source = source.parse().unwrap();
        let connection = connect(&world, peer.as_ref(), source);
        let moment = Moment { now: NOW, table_age_millis: 0 };
        let decision = decide(&connection, &Arrival::Http(&request), moment);
        let naive = Naive {
            world: &world,
            pools: pools(),
            routes: routes(),
            request: &request,
            peer: peer.as_ref(),
            source,
        };
        let expected = naive.reason();
        prop_assert_eq!(decision.reason(), expected);
        prop_assert_eq!(decision.permit().is_some(), expected == Reason::Allowed);
        prop_assert_eq!(decision.verdict() == Verdict::Allow, expected == Reason::Allowed);
    }
}
