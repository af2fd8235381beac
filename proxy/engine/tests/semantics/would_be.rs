//! Semantics A6: what the verdict would be, and which Audit policies make it so.

use engine::{
    Reason, Verdict,
    gate::GateRule,
    rows::{Access, ClusterConditions, Probe, Protocol},
};

use super::*;

fn open_port() -> PortRow {
    PortRow { access: Access::AllUnauthenticated, ..PortRow::default() }
}

#[track_caller]
fn would_be(rows: WorkloadRows, line: &str, reason: Reason, rules: &[u32]) {
    let connection = as_x(rows);
    let request = request(line);
    let decision = ask(&connection, &Arrival::Http(&request));
    let other = decision.would_be().expect("the verdict would be another");
    assert_eq!((other.reason, &other.rules[..]), (reason, rules));
    assert_ne!(other.verdict, decision.verdict());
}

fn failing(of: Rule) -> Rule {
    Rule { conditions: [1].into(), ..of }
}

/// Rows with a second set of networks, from which X doesn't come, and a route for everything.
fn with_elsewhere(rules: Vec<Rule>, port: PortRow) -> WorkloadRows {
    let mut rows = workload(rules, port);
    rows.pools.networks.push(networks("11.0.0.0/8"));
    rows.routes = vec![routes::prefix("/")];
    rows
}

fn from_elsewhere(of: Rule) -> Rule {
    Rule { networks: Some(1), ..of }
}

#[test]
fn a6_audit_denies_that_matched_at_the_deciding_step_are_listed() {
    let deny = || audited(Effect::Deny);
    let rules = vec![
        on_route(0, deny()),
        failing(deny()),
        deny(),
        from_elsewhere(deny()),
        from_elsewhere(audited(Effect::Require)),
        Rule { level: Level::Namespace, ..deny() },
    ];
    would_be(with_elsewhere(rules, open_port()), "GET /", Reason::ExplicitDeny, &[2, 5]);
}

#[test]
fn a6_audit_requires_that_are_not_met_are_listed() {
    let unmet = || from_elsewhere(audited(Effect::Require));
    let rules = vec![
        on_route(0, unmet()),
        failing(unmet()),
        unmet(),
        audited(Effect::Require),
        Rule { level: Level::Namespace, ..unmet() },
    ];
    would_be(with_elsewhere(rules, open_port()), "GET /", Reason::RequirementNotMet, &[2, 4]);
}

#[test]
fn u2_an_unreadable_audit_policy_is_listed() {
    let rules = vec![audited(Effect::Refuse), audited(Effect::Deny)];
    would_be(workload(rules, open_port()), "GET /", Reason::PolicyUnreadable, &[0]);
}

#[test]
fn a6_of_routes_only_those_that_match_are_listed() {
    let deny = || audited(Effect::Deny);
    let unmet = || from_elsewhere(audited(Effect::Require));
    for (rules, reason) in [
        (
            vec![on_route(0, deny()), on_route(1, deny()), from_elsewhere(deny())],
            Reason::ExplicitDeny,
        ),
        (vec![on_route(0, unmet()), on_route(1, unmet())], Reason::RequirementNotMet),
    ] {
        let mut rows = with_elsewhere(rules, PortRow { routes: vec![0, 1], ..open_port() });
        rows.routes = vec![routes::prefix("/a"), routes::prefix("/b")];
        would_be(rows, "GET /b", reason, &[1]);
    }
}

#[test]
fn a6_an_audit_allow_that_would_grant_is_listed() {
    let rules = vec![
        on_route(0, audited(Effect::Allow)),
        on_route(1, audited(Effect::Allow)),
        failing(audited(Effect::Allow)),
        audited(Effect::Allow),
    ];
    let mut rows = workload(rules, PortRow { routes: vec![0, 1], ..PortRow::default() });
    rows.routes = vec![routes::prefix("/a"), routes::prefix("/b")];
    would_be(rows, "GET /b", Reason::Allowed, &[1, 3]);
}

#[test]
fn a6_an_audit_default_alone_lists_nobody() {
    let rows = || workload(vec![], PortRow { access: Access::Audit, ..PortRow::default() });
    would_be(rows(), "GET /", Reason::NoMatchingRule, &[]);
    let bytes = ask(&as_x(rows()), &Arrival::Bytes);
    assert_eq!(bytes.would_be().map(|other| other.verdict), Some(Verdict::Deny));
}

#[test]
fn a6_where_the_verdict_is_the_same_nothing_is_said() {
    let connection = as_x(workload(vec![audited(Effect::Deny)], PortRow::default()));
    let decision = ask(&connection, &Arrival::Bytes);
    assert_eq!((decision.verdict(), decision.would_be()), (Verdict::Deny, None));
}

#[test]
fn t3_a_cluster_policy_whose_conditions_count_as_satisfied_is_listed() {
    let deny = Rule { level: Level::Cluster, ..failing(audited(Effect::Deny)) };
    let port = PortRow {
        protocol: Protocol::Opaque,
        cluster_conditions: ClusterConditions::Satisfied,
        ..open_port()
    };
    let rows = ClusterRows { rules: vec![deny], ..cluster() };
    let connection = connect(rows, workload(vec![], port), "10.0.0.1", None);
    let decision = ask(&connection, &Arrival::Bytes);
    assert_eq!(decision.would_be().map(|other| &other.rules[..]), Some(&[0][..]));
}

#[test]
fn t6_a_probe_is_answered_before_any_policy_in_either_reading() {
    let connection = probed("/healthz/x");
    let decision = get(&connection, "/healthz/x");
    assert_eq!((decision.reason(), decision.step()), (Reason::Allowed, 3));
    assert_eq!(decision.would_be(), None);
}

#[test]
fn t6_what_goes_on_unread_is_no_probe_even_where_it_was_declared() {
    let connection = probed("/healthz//x");
    let decision = get(&connection, "/healthz//x");
    assert_eq!((decision.reason(), decision.step()), (Reason::Allowed, 12));
    let other = decision.would_be().map(|other| other.reason);
    assert_eq!(other, Some(Reason::InvalidRequest(GateRule::G5)));
}

/// From where probes come to a port with an `audit` default that declares this one.
fn probed(target: &str) -> Connection {
    let probe = Probe::Http { target: target.into(), headers: Box::default() };
    let port = PortRow { access: Access::Audit, probes: vec![probe], ..PortRow::default() };
    connect(cluster(), workload(vec![], port), "192.168.0.1", None)
}

fn get(connection: &Connection, target: &str) -> Decision {
    let head = format!("GET {target} HTTP/1.1\r\nhost: h\r\n\r\n");
    let request = gate::http1(head.as_bytes(), connection.port().profile()).unwrap();
    ask(connection, &Arrival::Http(&request))
}
