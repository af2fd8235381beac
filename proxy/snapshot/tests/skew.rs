//! Tables for readers that are older or newer than their writer (P-16).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use serde_json::json;
use snapshot::{
    History, Reader, SnapshotError, assemble, encode_workload, encode_workload_for, load, load_as,
};

mod sample;

use sample::{cluster, good, workload, workload_rows};

#[test]
fn p_16_a_snapshot_for_a_newer_reader_is_refused_whole() {
    let mut rows = workload_rows();
    rows["reader_version"] = json!(2);
    let error = encode_workload(rows.to_string().as_bytes()).unwrap_err();
    assert!(matches!(error, SnapshotError::Newer { part: "workload", needs: 2, reader: 1 }));
    let newer = Reader { version: 2, history: History::Real };
    let workload = encode_workload_for(rows.to_string().as_bytes(), newer).unwrap();
    let snapshot = assemble(&cluster(), &workload).unwrap();
    assert_eq!(load(&snapshot).unwrap_err().code(), "SNAPSHOT_UNSUPPORTED");
    assert_eq!(load_as(&snapshot, 2).unwrap().table.rule_count(), 3);
}

#[test]
fn p_16_a_newer_reader_takes_what_an_older_policyd_wrote() {
    assert_eq!(load_as(&good(), 7).unwrap().version, load(&good()).unwrap().version);
}

/// The rows with a condition, and a route, that ask for the query: what version 2 brought on trial.
fn newer_rows(condition: bool, route: bool) -> String {
    let mut rows = workload_rows();
    if condition {
        rows["pools"]["conditions"][1] =
            json!({"subject": 2, "name": "env", "test": 1, "values": ["prod"]});
    }
    if route {
        rows["routes"][0]["rules"][0]["matches"][0]["query"] =
            json!([{"name": "a", "test": 1, "value": "b"}]);
    }
    rows.to_string()
}

/// A snapshot of the rows for a reader of that version.
fn written(rows: &str, version: u32) -> Vec<u8> {
    let reader = Reader { version, history: History::Trial };
    let workload = encode_workload_for(rows.as_bytes(), reader).unwrap();
    assemble(&cluster(), &workload).unwrap()
}

/// What a reader of version 1 is given, as rows.
fn narrowed(rows: &str) -> serde_json::Value {
    let snapshot = written(rows, 1);
    assert!(load(&snapshot).is_ok());
    let mut all: serde_json::Value =
        serde_json::from_slice(&snapshot::rows(&snapshot).unwrap()).unwrap();
    assert_eq!(all["workload"]["reader_version"], json!(1));
    all["workload"].take()
}

/// Whether a reader of version 1 refuses what one of version 2 is given.
fn needs_version_2(rows: &str) -> bool {
    let snapshot = written(rows, 2);
    assert!(load_as(&snapshot, 2).is_ok());
    matches!(load(&snapshot), Err(SnapshotError::Newer { needs: 2, reader: 1, .. }))
}

#[test]
fn p_16_what_an_older_reader_cannot_express_refuses_and_nothing_is_left_out() {
    let rows = narrowed(&newer_rows(true, false));
    let rules = rows["rules"].as_array().unwrap();
    assert_eq!(rules.len(), 2);
    assert_eq!((&rules[0]["effect"], &rules[0]["scope"]), (&json!(4), &json!(3)));
    assert_eq!(rules[0]["authorization"], json!("authorizationpolicy.policyd.dev/a/r"));
    assert_eq!(rules[0]["conditions"], json!([]));
    assert_eq!(rules[1]["effect"], json!(3));
    // The other condition stays: the gate reads with it.
    assert_eq!(rows["pools"]["conditions"].as_array().unwrap().len(), 1);
    assert!(needs_version_2(&newer_rows(true, false)));
}

#[test]
fn p_16_a_route_that_an_older_reader_cannot_express_makes_its_workload_refuse() {
    let rows = narrowed(&newer_rows(false, true));
    assert_eq!(rows["ports"], json!([]));
    assert_eq!(rows["rules"].as_array().unwrap().len(), 1);
    assert_eq!(rows["rules"][0]["effect"], json!(4));
    assert_eq!(rows["other"]["rules"], json!([0]));
    assert!(needs_version_2(&newer_rows(false, true)));
}

#[test]
fn p_16_what_needs_nothing_newer_is_the_same_for_all() {
    let rows = newer_rows(false, false);
    for version in [1, 2] {
        let reader = Reader { version, history: History::Trial };
        assert_eq!(encode_workload_for(rows.as_bytes(), reader).unwrap(), workload());
    }
}
