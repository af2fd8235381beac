//! Rows that make no table: what `snapshot.proto` promises about a rule is checked, and the whole table refused.

use engine::{TableError, rows::PortRow};

use super::*;

fn link(rules: Vec<Rule>) -> Result<Table, TableError> {
    let mut rows = workload(rules, PortRow::default());
    rows.routes = vec![routes::prefix("/")];
    Table::new(cluster(), rows)
}

#[track_caller]
fn contradicts(rule: Rule) {
    let shown = format!("{rule:?}");
    assert!(matches!(link(vec![rule]), Err(TableError::Contradiction(..))), "{shown}");
}

#[test]
fn a4_level_effect_and_scope_go_together() {
    use Effect::{Allow, Deny, Refuse, Require};
    let with = |effect, level, scope| Rule { level, scope, ..rule(effect) };
    for effect in [Allow, Deny, Require] {
        contradicts(with(effect, Level::Route, Scope::Port));
        contradicts(with(effect, Level::Route, Scope::Http));
        contradicts(with(effect, Level::Server, Scope::Http));
        contradicts(with(effect, Level::Cluster, Scope::Port));
    }
    for effect in [Deny, Require] {
        contradicts(with(effect, Level::Route, Scope::Selected(0)));
        contradicts(with(effect, Level::Server, Scope::Matched(0)));
    }
    contradicts(with(Allow, Level::Route, Scope::Matched(0)));
    contradicts(with(Allow, Level::Server, Scope::Selected(0)));
    contradicts(with(Refuse, Level::Namespace, Scope::Matched(0)));
    for good in [
        with(Allow, Level::Route, Scope::Selected(0)),
        with(Deny, Level::Route, Scope::Matched(0)),
        with(Refuse, Level::Route, Scope::Selected(0)),
        with(Refuse, Level::Route, Scope::Matched(0)),
        with(Refuse, Level::Route, Scope::Port),
        with(Refuse, Level::Route, Scope::Http),
        with(Refuse, Level::Server, Scope::Port),
    ] {
        assert!(link(vec![good]).is_ok());
    }
}

#[test]
fn u2_a_refuse_row_asks_nobody_for_anything() {
    contradicts(Rule { identities: Some(0), ..rule(Effect::Refuse) });
    contradicts(Rule { networks: Some(0), ..rule(Effect::Refuse) });
    contradicts(Rule { conditions: [0].into(), ..rule(Effect::Refuse) });
}

#[test]
fn a7_only_an_allow_ends() {
    for effect in [Effect::Deny, Effect::Require, Effect::Refuse] {
        contradicts(Rule { valid_until: Some(NOW), ..rule(effect) });
    }
    assert!(link(vec![Rule { valid_until: Some(NOW), ..rule(Effect::Allow) }]).is_ok());
}

#[test]
fn a3_only_a_deny_with_identities_meets_peers_without_one() {
    let too = |effect, identities| Rule { anonymous_too: true, identities, ..rule(effect) };
    contradicts(too(Effect::Deny, None));
    contradicts(too(Effect::Allow, Some(0)));
    contradicts(too(Effect::Require, Some(0)));
    assert!(link(vec![too(Effect::Deny, Some(0))]).is_ok());
}

#[test]
fn d2_rules_stand_in_order_of_attribution() {
    let on = |level| Rule { level, ..rule(Effect::Allow) };
    assert!(link(vec![on(Level::Server), on(Level::Server), on(Level::Namespace)]).is_ok());
    let order = link(vec![on(Level::Namespace), on(Level::Server)]);
    assert!(matches!(order, Err(TableError::Order(name)) if name == "p"));
}

#[test]
fn an_index_that_points_nowhere_refuses_the_table() {
    let dangling = |rows: WorkloadRows| match Table::new(cluster(), rows) {
        Err(TableError::Dangling { what, index, count, .. }) => (what, index, count),
        other => panic!("{other:?}"),
    };
    let with = |rule| workload(vec![rule], PortRow::default());
    let allow = || rule(Effect::Allow);
    assert_eq!(dangling(with(Rule { identities: Some(1), ..allow() })), ("identity set", 1, 1));
    assert_eq!(dangling(with(Rule { networks: Some(1), ..allow() })), ("network set", 1, 1));
    assert_eq!(dangling(with(Rule { conditions: [0, 2].into(), ..allow() })), ("condition", 2, 2));
    assert_eq!(dangling(with(on_route(0, allow()))), ("route", 0, 0));
    let mut rows = workload(vec![], PortRow { routes: vec![0], ..PortRow::default() });
    assert_eq!(dangling(rows.clone()), ("route", 0, 0));
    rows.other = PortRow { rules: vec![0], ..PortRow::default() };
    assert_eq!(dangling(rows), ("rule", 0, 0));
}

#[test]
fn w5_a_table_says_what_it_calls_the_clusters_networks() {
    let table = link(vec![rule(Effect::Allow)]).unwrap();
    assert!(table.cluster_networks().contains("10.1.2.3".parse().unwrap()));
    assert!(!table.cluster_networks().is_empty());
    assert_eq!((table.rule_count(), table.trust_domain()), (1, "td"));
    assert!(table.rule(0).is_some() && table.rule(1).is_none() && table.route(1).is_none());
}

#[test]
fn w3_a_port_has_its_own_row_or_that_of_every_other_port() {
    let row =
        |number, owner: &str| PortRow { number, server: Some(owner.into()), ..PortRow::default() };
    let rows = WorkloadRows {
        ports: vec![row(80, "a"), row(443, "b")],
        other: row(0, "c"),
        ..WorkloadRows::default()
    };
    let table = Table::new(cluster(), rows).unwrap();
    let mut ports: Vec<_> = table.ports().collect();
    ports.sort_unstable();
    assert_eq!(ports, [80, 443]);
    for (number, owner) in [(80, "a"), (443, "b"), (8080, "c"), (0, "c")] {
        assert_eq!(table.port(number).server(), Some(owner), "{number}");
    }
}
