//! The engine's sentences, one by one, on tables that are put together by hand: what the shared cases can't reach,
//! because no compiler would write such rows, or because only explaining shows it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod connection;
mod near_misses;
mod port;
mod routes;
mod table;
mod would_be;

use std::{net::IpAddr, sync::Arc};

use engine::{
    Arrival, Connection, Decision, Facts, Moment, Peer, Table, Timestamp,
    condition::{Condition, Subject, Test},
    decide,
    gate::{self, GateProfile},
    identity::{IdentityForm, IdentitySet, SpiffeId},
    network::NetworkSet,
    request::CanonicalRequest,
    rows::{ClusterRows, Effect, Level, Pools, PortRow, Rule, Scope, WorkloadRows},
};

const NOW: Timestamp = Timestamp(1_000);
const X: &str = "spiffe://td/ns/a/sa/x";

/// A rule of a Server that asks nobody for anything.
fn rule(effect: Effect) -> Rule {
    Rule {
        effect,
        level: Level::Server,
        authorization: "p".into(),
        origin: "o".into(),
        audit: false,
        scope: Scope::Port,
        identities: None,
        anonymous_too: false,
        networks: None,
        conditions: Box::default(),
        valid_until: None,
    }
}

fn audited(effect: Effect) -> Rule {
    Rule { audit: true, ..rule(effect) }
}

/// A rule of the route, which an Allow asks to be selected and the others to be matched.
fn on_route(route: u32, of: Rule) -> Rule {
    let scope =
        if of.effect == Effect::Allow { Scope::Selected(route) } else { Scope::Matched(route) };
    Rule { level: Level::Route, scope, ..of }
}

/// Identity set 0: X. Network set 0: 10.0.0.0/8. Condition 0: method GET; 1: header x-env is p.
fn pools() -> Pools {
    let only = |value: &str| Test::In([value.into()].into());
    Pools {
        identities: vec![IdentitySet::new([IdentityForm::parse(X).unwrap()], [])],
        networks: vec![networks("10.0.0.0/8")],
        conditions: vec![
            Condition::new(Subject::Method, only("GET")),
            Condition::new(Subject::Header("x-env".into()), only("p")),
        ],
    }
}

fn networks(block: &str) -> NetworkSet {
    NetworkSet::new([(block.parse().unwrap(), vec![])])
}

/// Every port has `port` for its row, with all the rules.
fn workload(rules: Vec<Rule>, port: PortRow) -> WorkloadRows {
    let other = PortRow { rules: (0..u32::try_from(rules.len()).unwrap()).collect(), ..port };
    WorkloadRows { pools: pools(), rules, other, ..WorkloadRows::default() }
}

fn cluster() -> ClusterRows {
    ClusterRows {
        trust_domain: "td".into(),
        pools: pools(),
        cluster_networks: networks("10.0.0.0/8"),
        probe_networks: networks("192.168.0.0/16"),
        ..ClusterRows::default()
    }
}

fn peer(identity: &str) -> Peer {
    Peer {
        identity: SpiffeId::parse(identity).unwrap(),
        pod_uid: None,
        certificate_sha256: [0; 32],
        not_before: Timestamp(0),
        not_after: Timestamp(i64::MAX),
    }
}

fn connect(
    cluster: ClusterRows,
    workload: WorkloadRows,
    source: &str,
    peer: Option<Peer>,
) -> Connection {
    let table = Arc::new(Table::new(cluster, workload).unwrap());
    let source: IpAddr = source.parse().unwrap();
    Connection::open(table, Arc::new(Facts::default()), 8080, source, peer)
}

/// From inside the cluster, as X.
fn as_x(workload: WorkloadRows) -> Connection {
    connect(cluster(), workload, "10.0.0.1", Some(peer(X)))
}

fn at(now: Timestamp) -> Moment {
    Moment { now, table_age_millis: 0 }
}

fn ask(connection: &Connection, arrival: &Arrival<'_>) -> Decision {
    decide(connection, arrival, at(NOW))
}

fn request(line: &str) -> CanonicalRequest {
    let head = format!("{line} HTTP/1.1\r\nhost: h\r\n\r\n");
    gate::http1(head.as_bytes(), &GateProfile::default()).unwrap()
}
