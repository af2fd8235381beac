//! Semantics D1, D5, T2, T3, T5 and T6: what a port does with what arrives, before and beside its rules.

use engine::{
    Form, Reason, Verdict,
    gate::GateRule,
    route::{Match, NamedMatch, PathTest, PathText, ValueTest},
    rows::{Access, Probe, Protocol},
};

use super::*;

const PROBER: &str = "192.168.0.1";

fn open(protocol: Protocol) -> PortRow {
    PortRow { protocol, access: Access::AllUnauthenticated, ..PortRow::default() }
}

fn from_prober(port: PortRow) -> Connection {
    connect(cluster(), workload(vec![], port), PROBER, None)
}

#[test]
fn d1_a_table_is_stale_beyond_its_age_not_at_it() {
    let rows = ClusterRows { max_table_age_millis: Some(500), ..cluster() };
    let connection = connect(rows, workload(vec![], open(Protocol::Unknown)), PROBER, None);
    assert_eq!(connection.table().max_table_age_millis(), Some(500));
    for (table_age_millis, expected) in
        [(0, Reason::Allowed), (500, Reason::Allowed), (501, Reason::PolicyStale)]
    {
        let moment = Moment { now: NOW, table_age_millis };
        let decision = decide(&connection, &Arrival::Bytes, moment);
        assert_eq!(decision.reason(), expected, "{table_age_millis}");
    }
}

#[test]
fn d1_every_step_says_its_number() {
    let step = |rules, line: &str| {
        let connection = as_x(workload(rules, PortRow::default()));
        ask(&connection, &Arrival::Http(&request(line))).step()
    };
    assert_eq!(step(vec![rule(Effect::Refuse)], "GET /"), 5);
    assert_eq!(step(vec![rule(Effect::Deny)], "GET /"), 6);
    assert_eq!(step(vec![rule(Effect::Allow)], "GET /"), 11);
    assert_eq!(step(vec![], "GET /"), 12);
}

#[test]
fn d5_a_refusal_without_a_table_is_never_an_allow() {
    let refusal = Decision::refusal(Reason::Overloaded, Form::Http);
    assert_eq!((refusal.verdict(), refusal.reason()), (Verdict::Deny, Reason::Overloaded));
    assert_eq!(refusal.client_view().map(|view| view.status), Some(503));
    let refusal = Decision::refusal(Reason::Allowed, Form::Closed);
    assert_eq!((refusal.verdict(), refusal.reason()), (Verdict::Deny, Reason::EngineError));
    assert!(refusal.permit().is_none() && refusal.client_view().is_none());
    assert_eq!((refusal.step(), refusal.rule(), refusal.route()), (1, None, None));
}

#[test]
fn t2_where_nothing_is_read_the_gate_is_not_asked() {
    let head = b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n";
    let refusal = gate::http1(head, &GateProfile::default()).unwrap_err();
    for protocol in [Protocol::Opaque, Protocol::Tls] {
        let decision = ask(&from_prober(open(protocol)), &Arrival::Refused(&refusal));
        assert_eq!((decision.reason(), decision.form()), (Reason::Allowed, Form::Closed));
    }
    let decision = ask(&from_prober(open(Protocol::Unknown)), &Arrival::Refused(&refusal));
    assert_eq!(decision.reason(), Reason::InvalidRequest(GateRule::G1));
    assert_eq!((decision.form(), decision.step()), (Form::Http, 2));
}

#[test]
fn t2_a_row_of_http_refuses_nothing_where_nothing_is_read() {
    let refuse = Rule { level: Level::Route, scope: Scope::Http, ..rule(Effect::Refuse) };
    let port = |protocol| workload(vec![refuse.clone()], open(protocol));
    assert_eq!(ask(&as_x(port(Protocol::Opaque)), &Arrival::Bytes).reason(), Reason::Allowed);
    let http = as_x(port(Protocol::Unknown));
    assert_eq!(ask(&http, &Arrival::Bytes).reason(), Reason::ProtocolRefused);
    let decision = ask(&http, &Arrival::Http(&request("GET /")));
    assert_eq!(decision.reason(), Reason::PolicyUnreadable);
}

#[test]
fn t6_on_an_opaque_port_only_the_probe_itself_is_answered() {
    let probe = Probe::Http { target: "/healthz".into(), headers: Box::default() };
    let port = |access| PortRow { access, probes: vec![probe.clone()], ..open(Protocol::Opaque) };
    let (closed, open) = (port(Access::Deny), port(Access::AllUnauthenticated));
    let is = |port: &PortRow, line: &str| {
        let decision = ask(&from_prober(port.clone()), &Arrival::Http(&request(line)));
        (decision.reason(), decision.form(), decision.step())
    };
    assert_eq!(is(&closed, "GET /healthz"), (Reason::Allowed, Form::Http, 3));
    assert_eq!(is(&closed, "GET /other"), (Reason::NoMatchingRule, Form::Closed, 12));
    assert_eq!(is(&open, "GET /other"), (Reason::Allowed, Form::Closed, 12));
}

#[test]
fn t5_a_request_of_another_protocol_matches_no_condition() {
    let rules = vec![Rule { conditions: [0].into(), ..rule(Effect::Allow) }];
    let port = PortRow { access: Access::Audit, ..open(Protocol::Http1) };
    let connection = as_x(workload(rules, port));
    let fields: [(&[u8], &[u8]); 4] =
        [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"h"), (b":path", b"/")];
    let other = gate::http2(&fields, connection.port().profile()).unwrap();
    let decision = ask(&connection, &Arrival::Http(&other));
    assert_eq!((decision.reason(), decision.rule()), (Reason::Allowed, None));
    assert_eq!(decision.would_be().map(|other| other.reason), Some(Reason::ProtocolRefused));
    let decision = ask(&connection, &Arrival::Http(&request("GET /")));
    assert_eq!((decision.reason(), decision.rule()), (Reason::Allowed, Some(0)));
}

#[test]
fn d5_a_port_says_who_owns_it() {
    let port = PortRow {
        server: Some("server/a".into()),
        server_origin: "servers.yaml:3".into(),
        ..PortRow::default()
    };
    let connection = from_prober(port);
    assert_eq!(connection.port().server(), Some("server/a"));
    assert_eq!(connection.port().server_origin(), "servers.yaml:3");
}

#[test]
fn t4_the_gate_guards_the_names_that_rules_and_routes_read() {
    let named = |name: &str| NamedMatch { name: name.into(), test: ValueTest::Exact("a".into()) };
    let matched = Match {
        path: PathTest::Prefix(PathText::new("/")),
        method: None,
        headers: [named("x-route"), named("x-env")].into(),
        query: [named("page"), named("by-route")].into(),
    };
    let query = Condition::new(Subject::Query("page".into()), Test::Exists);
    let port = PortRow { routes: vec![0], ..PortRow::default() };
    let reads = |condition| Rule { conditions: [condition].into(), ..rule(Effect::Allow) };
    let mut rows = workload(vec![reads(1), reads(2), reads(0)], port);
    rows.routes = vec![routes::one(matched)];
    rows.pools.conditions.push(query);
    let of_cluster = Rule { level: Level::Cluster, ..reads(2) };
    let mut above = ClusterRows { rules: vec![of_cluster], ..cluster() };
    above.pools.conditions.push(Condition::new(Subject::Header("x-all".into()), Test::Exists));
    let connection = connect(above, rows, PROBER, None);
    let port = connection.port();
    assert_eq!(port.profile().policy_headers, ["x-all", "x-env", "x-route"]);
    assert_eq!(port.query_keys(), ["by-route", "page"]);
    let head = b"GET / HTTP/1.1\r\nhost: h\r\nx_env: p\r\n\r\n";
    let refusal = gate::http1(head, port.profile()).unwrap_err();
    assert_eq!(refusal.rule, GateRule::G11);
}
