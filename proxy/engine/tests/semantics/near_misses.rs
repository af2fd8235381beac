//! Semantics D6: why not.

use engine::{Arrival, Dimension, NEAREST, near_misses, rows::PortRow};

use super::*;

fn failed(connection: &Connection, arrival: &Arrival<'_>) -> Vec<(u32, Vec<Dimension>)> {
    near_misses(connection, arrival, at(NOW), NEAREST)
        .into_iter()
        .map(|miss| (miss.rule, miss.failed))
        .collect()
}

fn demanding() -> Rule {
    Rule {
        identities: Some(0),
        networks: Some(0),
        conditions: [0, 1].into(),
        valid_until: Some(NOW),
        ..rule(Effect::Allow)
    }
}

#[test]
fn d6_every_failed_dimension_is_named() {
    let stranger =
        |rules| connect(cluster(), workload(rules, PortRow::default()), "11.0.0.1", None);
    let request = request("POST /");
    let all = [
        Dimension::Identity,
        Dimension::Network,
        Dimension::Condition(0),
        Dimension::Condition(1),
        Dimension::Expired,
    ];
    let connection = stranger(vec![demanding()]);
    assert_eq!(failed(&connection, &Arrival::Http(&request)), [(0, all.to_vec())]);
    let later = Rule { valid_until: Some(Timestamp(NOW.0 + 1)), ..demanding() };
    let connection = stranger(vec![later]);
    assert_eq!(failed(&connection, &Arrival::Http(&request)), [(0, all[..4].to_vec())]);
}

#[test]
fn d6_only_enforced_allows_that_failed_are_told() {
    let rules = vec![
        rule(Effect::Allow),
        Rule { conditions: [0].into(), ..rule(Effect::Allow) },
        Rule { conditions: [0].into(), ..audited(Effect::Allow) },
        Rule { conditions: [0].into(), ..rule(Effect::Deny) },
        Rule { conditions: [0].into(), ..rule(Effect::Require) },
    ];
    let connection = as_x(workload(rules, PortRow::default()));
    let request = request("POST /");
    let told = failed(&connection, &Arrival::Http(&request));
    assert_eq!(told, [(1, vec![Dimension::Condition(0)])]);
}

#[test]
fn d6_the_three_nearest_in_order_of_attribution() {
    let far = || Rule { conditions: [0, 1].into(), ..rule(Effect::Allow) };
    let near = || Rule { conditions: [0].into(), ..rule(Effect::Allow) };
    let rules = vec![far(), near(), far(), near()];
    let connection = as_x(workload(rules, PortRow::default()));
    let request = request("POST /");
    let told = failed(&connection, &Arrival::Http(&request));
    assert_eq!(told.iter().map(|miss| miss.0).collect::<Vec<_>>(), [1, 3, 0]);
}

#[test]
fn d6_on_a_route_it_is_the_route_that_failed() {
    let rules = vec![on_route(0, rule(Effect::Allow)), on_route(1, rule(Effect::Allow))];
    let mut rows = workload(rules, PortRow { routes: vec![0, 1], ..PortRow::default() });
    rows.routes = vec![routes::prefix("/a"), routes::prefix("/b")];
    let connection = as_x(rows);
    let request = request("GET /b");
    assert_eq!(failed(&connection, &Arrival::Http(&request)), [(0, vec![Dimension::Route])]);
}

#[test]
fn d6_on_bytes_the_route_and_each_condition_fail() {
    let rules = vec![
        on_route(0, rule(Effect::Allow)),
        Rule { conditions: [0, 1].into(), ..rule(Effect::Allow) },
    ];
    let mut rows = workload(rules, PortRow { routes: vec![0], ..PortRow::default() });
    rows.routes = vec![routes::prefix("/a")];
    let told = failed(&as_x(rows), &Arrival::Bytes);
    let conditions = vec![Dimension::Condition(0), Dimension::Condition(1)];
    assert_eq!(told, [(0, vec![Dimension::Route]), (1, conditions)]);
}
