//! A table of routes with an Allow each, a connection to it, and a request to its middle.

use std::sync::Arc;

use engine::gate::{GateProfile, http1_into};
use engine::identity::{IdentityForm, IdentitySet, SpiffeId};
use engine::request::CanonicalRequest;
use engine::route::{Match, PathTest, PathText, Route, RouteKind};
use engine::rows::{Access, ClusterRows, Effect, Level, Pools, PortRow, Rule, Scope, WorkloadRows};
use engine::{Arrival, Connection, Facts, Moment, Peer, Reason, Table, Timestamp, decide};

const CALLER: &str = "spiffe://td/ns/n/sa/caller";

/// Everything that a decision needs; the request's memory is used again.
pub(crate) struct World {
    connection: Connection,
    profile: GateProfile,
    head: Vec<u8>,
    request: Option<CanonicalRequest>,
}

impl World {
    /// So many routes and rules.
    pub(crate) fn new(size: u32) -> Self {
        let cluster = ClusterRows { trust_domain: "td".into(), ..ClusterRows::default() };
        let table = Arc::new(Table::new(cluster, workload(size)).unwrap());
        let peer = Peer {
            identity: SpiffeId::parse(CALLER).unwrap(),
            pod_uid: None,
            certificate_sha256: [0; 32],
            not_before: Timestamp(0),
            not_after: Timestamp(i64::MAX),
        };
        let source = [10, 0, 0, 7].into();
        let profile = table.port(80).profile().clone();
        let connection =
            Connection::open(table, Arc::new(Facts::default()), 80, source, Some(peer));
        let head = format!(
            "GET /p{}/items HTTP/1.1\r\nhost: app.bench\r\nuser-agent: test\r\naccept: */*\r\n\r\n",
            size / 2
        );
        Self {
            connection,
            profile,
            head: head.into_bytes(),
            request: Some(CanonicalRequest::default()),
        }
    }

    /// One request through gate and engine.
    pub(crate) fn request(&mut self) {
        let memory = self.request.take().unwrap();
        self.request = Some(http1_into(memory, &self.head, &self.profile).unwrap());
        self.decide();
    }

    /// One decision about the request that was read last.
    pub(crate) fn decide(&mut self) {
        let request = self.request.as_ref().unwrap();
        let moment = Moment { now: Timestamp(1), table_age_millis: 0 };
        let decision = decide(&self.connection, &Arrival::Http(request), moment);
        assert_eq!(decision.reason(), Reason::Allowed);
    }
}

fn workload(size: u32) -> WorkloadRows {
    let form = IdentityForm::parse(CALLER).unwrap();
    let pools = Pools { identities: vec![IdentitySet::new(vec![form], [])], ..Pools::default() };
    let all: Vec<u32> = (0..size).collect();
    WorkloadRows {
        pools,
        rules: (0..size).map(allow).collect(),
        routes: (0..size).map(route).collect(),
        ports: vec![],
        other: PortRow {
            access: Access::Deny,
            rules: all.clone(),
            routes: all,
            ..PortRow::default()
        },
    }
}

fn route(number: u32) -> Route {
    let matched = Match {
        path: PathTest::Prefix(PathText::new(&format!("/p{number}"))),
        method: None,
        headers: Box::default(),
        query: Box::default(),
    };
    Route {
        name: format!("httproute.policy.linkerd.io/n/r{number}").into(),
        origin: "o".into(),
        kind: RouteKind::Http,
        hosts: Box::default(),
        rules: vec![vec![matched].into_boxed_slice()].into_boxed_slice(),
    }
}

fn allow(route: u32) -> Rule {
    Rule {
        effect: Effect::Allow,
        level: Level::Route,
        authorization: "authorizationpolicy.policyd.dev/n/p".into(),
        origin: "o".into(),
        audit: false,
        scope: Scope::Selected(route),
        identities: Some(0),
        anonymous_too: false,
        networks: None,
        conditions: Box::default(),
        valid_until: None,
    }
}
