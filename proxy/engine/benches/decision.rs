//! What a decision costs at 10 to 100,000 rules, in worlds that spread the rules differently. Prints JSON lines; not a test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench's own rows")]

use std::{hint::black_box, net::IpAddr, sync::Arc, time::Instant};

use engine::{
    Arrival, Connection, Facts, Moment, Peer, Table, Timestamp,
    condition::{Condition, Subject, Test},
    decide,
    gate::{self, GateProfile},
    identity::{IdentityForm, IdentitySet, SpiffeId},
    near_misses,
    network::NetworkSet,
    route::{Match, PathTest, PathText, Route, RouteKind},
    rows::{Access, ClusterRows, Effect, Level, Pools, PortRow, Rule, Scope, WorkloadRows},
};

const ROUNDS: u32 = 200_000;

fn main() {
    for (world, make) in WORLDS {
        for size in [10, 100, 1_000, 10_000, 100_000] {
            let rows = make(size);
            let table = Arc::new(Table::new(cluster(), rows).expect("the bench's own rows"));
            let path = format!("/p{}/x", size / 2);
            report(world, size, "allow", &table, &path, "spiffe://td/ns/n/sa/caller");
            report(world, size, "deny", &table, &path, "spiffe://td/ns/n/sa/stranger");
        }
    }
    gate_heads();
}

fn report(world: &str, size: u32, kind: &str, table: &Arc<Table>, path: &str, caller: &str) {
    let head = format!("GET {path} HTTP/1.1\r\nhost: web\r\nx-env: e7\r\naccept: */*\r\n\r\n");
    let profile = table.port(80).profile().clone();
    let request = gate::http1(head.as_bytes(), &profile).expect("a plain request");
    let source: IpAddr = [10, 0, 0, 7].into();
    let peer = Peer {
        identity: SpiffeId::parse(caller).expect("an identity"),
        pod_uid: None,
        certificate_sha256: [0; 32],
        not_before: Timestamp(0),
        not_after: Timestamp(i64::MAX),
    };
    let start = Instant::now();
    let connection =
        Connection::open(Arc::clone(table), Arc::new(Facts::default()), 80, source, Some(peer));
    let moment = Moment { now: Timestamp(1), table_age_millis: 0 };
    let arrival = Arrival::Http(&request);
    let reason = decide(&connection, &arrival, moment).reason();
    let first = start.elapsed();
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            black_box(decide(black_box(&connection), black_box(&arrival), moment));
        }
        best = best.min(nanos(start, ROUNDS));
    }
    let start = Instant::now();
    let misses = near_misses(&connection, &arrival, moment, 3).len();
    println!(
        "{{\"bench\":\"decision\",\"world\":\"{world}\",\"rules\":{size},\"kind\":\"{kind}\",\"reason\":\"{reason}\",\
         \"ns\":{best:.1},\"first_on_connection_us\":{:.1},\"near_misses\":{misses},\"explain_us\":{:.1}}}",
        first.as_secs_f64() * 1e6,
        start.elapsed().as_secs_f64() * 1e6,
    );
}

fn gate_heads() {
    let heads = [
        (
            "plain",
            "GET /books/17?lang=en HTTP/1.1\r\nhost: books.books.svc\r\naccept: */*\r\nuser-agent: bench\r\n\r\n",
        ),
        (
            "ten headers",
            "POST /v1/items HTTP/1.1\r\nhost: a.b\r\ncontent-type: application/json\r\ncontent-length: 17\r\n\
          accept: */*\r\nuser-agent: bench\r\nx-request-id: 1\r\ncookie: a=b\r\nx-env: prod\r\nx-a: 1\r\nx-b: 2\r\n\r\n",
        ),
    ];
    for (name, head) in heads {
        let profile = GateProfile::default();
        let mut request = gate::http1(head.as_bytes(), &profile).expect("a plain request");
        let mut best = f64::MAX;
        for _ in 0..5 {
            let start = Instant::now();
            for _ in 0..ROUNDS {
                request = gate::http1_into(request, black_box(head.as_bytes()), &profile)
                    .expect("a plain request");
            }
            best = best.min(nanos(start, ROUNDS));
        }
        println!("{{\"bench\":\"gate\",\"head\":\"{name}\",\"ns\":{best:.1}}}");
    }
}

fn nanos(start: Instant, rounds: u32) -> f64 {
    start.elapsed().as_secs_f64() * 1e9 / f64::from(rounds)
}

type Make = fn(u32) -> WorkloadRows;
const WORLDS: [(&str, Make); 6] = [
    ("spread over paths", spread),
    ("one hot path", hot),
    ("all require", require),
    ("30 % with when", conditional),
    ("networks", networks),
    ("identities", identities),
];

fn cluster() -> ClusterRows {
    ClusterRows { trust_domain: "td".into(), ..ClusterRows::default() }
}

fn set(forms: &[String]) -> IdentitySet {
    let forms: Vec<_> = forms.iter().filter_map(|form| IdentityForm::parse(form).ok()).collect();
    IdentitySet::new(forms, [])
}

fn route(path: &str) -> Route {
    let matched = Match {
        path: PathTest::Prefix(PathText::new(path)),
        method: None,
        headers: Box::default(),
        query: Box::default(),
    };
    Route {
        name: path.into(),
        origin: "o".into(),
        kind: RouteKind::Http,
        hosts: Box::default(),
        rules: vec![vec![matched].into_boxed_slice()].into_boxed_slice(),
    }
}

fn rule(effect: Effect, level: Level, scope: Scope) -> Rule {
    Rule {
        effect,
        level,
        authorization: "authorizationpolicy.policyd.dev/n/p".into(),
        origin: "o".into(),
        audit: false,
        scope,
        identities: Some(0),
        anonymous_too: false,
        networks: None,
        conditions: Box::default(),
        valid_until: None,
    }
}

fn rows(pools: Pools, rules: Vec<Rule>, routes: Vec<Route>) -> WorkloadRows {
    let other = PortRow {
        access: Access::Deny,
        rules: (0..count(rules.len())).collect(),
        routes: (0..count(routes.len())).collect(),
        ..PortRow::default()
    };
    WorkloadRows { pools, rules, routes, ports: vec![], other }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn caller() -> IdentitySet {
    set(&["spiffe://td/ns/n/sa/caller".into()])
}

fn spread(size: u32) -> WorkloadRows {
    let routes = (0..size).map(|n| route(&format!("/p{n}"))).collect();
    let rules = (0..size).map(|n| rule(Effect::Allow, Level::Route, Scope::Selected(n))).collect();
    rows(Pools { identities: vec![caller()], ..Pools::default() }, rules, routes)
}

fn hot(size: u32) -> WorkloadRows {
    let identities = (0..size)
        .map(|n| if n == size / 2 { caller() } else { set(&[format!("spiffe://td/ns/n/sa/s{n}")]) })
        .collect();
    let rules = (0..size)
        .map(|n| Rule {
            identities: Some(n),
            ..rule(Effect::Allow, Level::Route, Scope::Selected(0))
        })
        .collect();
    rows(Pools { identities, ..Pools::default() }, rules, vec![route("/")])
}

fn require(size: u32) -> WorkloadRows {
    let identities = (0..size)
        .map(|n| set(&["spiffe://td/ns/n/sa/caller".into(), format!("spiffe://td/ns/n/sa/s{n}")]))
        .collect();
    let mut rules: Vec<Rule> = (0..size)
        .map(|n| Rule { identities: Some(n), ..rule(Effect::Require, Level::Server, Scope::Port) })
        .collect();
    rules.push(Rule { identities: None, ..rule(Effect::Allow, Level::Server, Scope::Port) });
    rows(Pools { identities, ..Pools::default() }, rules, vec![])
}

/// A third of the routes' policies carry a condition; at most as many on one Server as V8 lets be, so the rest is spread.
fn conditional(size: u32) -> WorkloadRows {
    let routes: Vec<Route> = (0..size).map(|n| route(&format!("/p{n}"))).collect();
    let values = vec![Box::from("e7")].into_boxed_slice();
    let conditions = vec![Condition::new(Subject::Header("x-env".into()), Test::In(values))];
    let rules = (0..size)
        .map(|n| {
            let conditions =
                if n % 10 < 3 || n == size / 2 { Box::from([0]) } else { Box::default() };
            Rule { conditions, ..rule(Effect::Allow, Level::Route, Scope::Selected(n)) }
        })
        .collect();
    rows(Pools { identities: vec![caller()], conditions, ..Pools::default() }, rules, routes)
}

fn networks(size: u32) -> WorkloadRows {
    let blocks = (0..size).filter_map(|n| {
        format!("10.{}.{}.{}/32", n >> 16, (n >> 8) & 255, n & 255)
            .parse()
            .ok()
            .map(|net| (net, vec![]))
    });
    let networks = vec![NetworkSet::new(blocks)];
    let allow = Rule { networks: Some(0), ..rule(Effect::Allow, Level::Server, Scope::Port) };
    rows(Pools { identities: vec![caller()], networks, ..Pools::default() }, vec![allow], vec![])
}

fn identities(size: u32) -> WorkloadRows {
    let mut forms: Vec<String> = (1..size).map(|n| format!("spiffe://td/ns/n/sa/s{n}")).collect();
    forms.push("spiffe://td/ns/n/sa/caller".into());
    let pools = Pools { identities: vec![set(&forms)], ..Pools::default() };
    rows(pools, vec![rule(Effect::Allow, Level::Server, Scope::Port)], vec![])
}
