//! Bytes that are no snapshot are refused whole, with a reason and without a panic (P-14, PC-09, PC-10).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use proptest::prelude::*;
use serde_json::json;
use snapshot::{SnapshotError, assemble, encode_workload, load, version};

mod sample;

use sample::{cluster, good, workload, workload_rows};

#[test]
fn what_is_written_is_read() {
    let loaded = load(&good()).unwrap();
    assert_eq!(loaded.version, version(&good()).unwrap());
    assert_eq!(loaded.table.rule_count(), 3);
}

#[test]
fn w8_the_order_of_pools_ports_and_values_changes_no_byte() {
    let mut rows = workload_rows();
    rows["ports"].as_array_mut().unwrap().reverse();
    rows["pools"]["conditions"].as_array_mut().unwrap().reverse();
    rows["pools"]["conditions"][1]["values"].as_array_mut().unwrap().reverse();
    rows["rules"][0]["conditions"] = json!([0, 1]);
    rows["routes"][0]["hosts"].as_array_mut().unwrap().reverse();
    assert_eq!(encode_workload(rows.to_string().as_bytes()).unwrap(), workload());
}

#[test]
fn every_truncation_is_refused() {
    let bytes = good();
    for end in 0..bytes.len() {
        assert!(load(&bytes[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn a_flipped_bit_is_refused_or_changes_the_version() {
    let bytes = good();
    let before = version(&bytes).unwrap();
    for place in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[place] ^= 1 << bit;
            if let Ok(loaded) = load(&flipped) {
                assert_ne!(loaded.version, before, "bit {bit} of byte {place}");
            }
        }
    }
}

#[test]
fn pc_10_an_unknown_field_is_refused_whole() {
    for field in [vec![0xf8, 0x01, 0x01], vec![0x7a, 0x01, 0x61]] {
        let newer = [workload(), field].concat();
        let snapshot = assemble(&cluster(), &newer).unwrap();
        assert_eq!(load(&snapshot).unwrap_err(), SnapshotError::NotCanonical("workload"));
        assert_eq!(load(&snapshot).unwrap_err().code(), "SNAPSHOT_UNSUPPORTED");
    }
}

#[test]
fn rules_and_routes_stand_where_they_belong_and_in_one_form() {
    const RULE: u8 = 0x22;
    const ROUTE: u8 = 0x2a;
    let whole = workload();
    let find = |key: u8, text: &[u8]| {
        let text = whole.windows(text.len()).position(|window| window == text).unwrap();
        whole[..text].iter().rposition(|byte| *byte == key).unwrap()
    };
    let rule = find(RULE, b"authorizationpolicy.policyd.dev/a/s");
    let route = find(ROUTE, b"httproute.policy.linkerd.io/a/r");
    let length = usize::from(whole[rule + 1]);
    let field = &whole[rule..rule + 2 + length];
    // At the end, behind the routes, and with a length that is longer than it need be.
    let appended = [&whole[..], field].concat();
    let behind = [&whole[..rule], &whole[route..], field].concat();
    let wide = [&[RULE, whole[rule + 1] | 0x80, 0][..], &field[2..]].concat();
    let wide = [&whole[..rule], &wide, &whole[rule + 2 + length..]].concat();
    // A rule of which a default is written out.
    let padded = [&[RULE, whole[rule + 1] + 2][..], &field[2..], &[0x28, 0]].concat();
    let padded = [&whole[..rule], &padded, &whole[rule + 2 + length..]].concat();
    for damaged in [appended, behind, wide, padded] {
        let snapshot = assemble(&cluster(), &damaged).unwrap();
        assert_eq!(load(&snapshot).unwrap_err(), SnapshotError::NotCanonical("workload"));
    }
    let (cluster, workload) = (cluster(), workload());
    let good = assemble(&cluster, &workload).unwrap();
    let second = good.len() - workload.len() - 2;
    assert!(load(&[&good[second..], &good[..second]].concat()).is_err());
    assert!(load(&[&good[..], &good[second..]].concat()).is_err());
}

#[test]
fn an_unsorted_list_is_refused() {
    // Field 6 (cluster_networks) twice, in the wrong order: "b" before "a" in bytes.
    let bytes = cluster();
    let swapped = swap(&bytes, b"10.0.0.0/8", b"192.168.0.0/16");
    let snapshot = assemble(&swapped, &workload()).unwrap();
    assert!(matches!(load(&snapshot).unwrap_err(), SnapshotError::Unsorted(_)));
}

/// Exchanges two length-prefixed fields that stand side by side.
fn swap(bytes: &[u8], first: &[u8], second: &[u8]) -> Vec<u8> {
    let find =
        |text: &[u8]| bytes.windows(text.len()).position(|window| window == text).unwrap() - 2;
    let (a, b) = (find(first), find(second));
    let end = b + 2 + second.len();
    [&bytes[..a], &bytes[b..end], &bytes[a..b], &bytes[end..]].concat()
}

#[test]
fn a_dangling_index_is_refused() {
    for (pointer, value) in [
        ("/rules/0/route", json!(1)),
        ("/rules/0/networks", json!(1)),
        ("/rules/0/conditions", json!([7])),
        ("/ports/1/rules", json!([2])),
        ("/ports/1/routes", json!([1])),
    ] {
        let mut rows = workload_rows();
        *rows.pointer_mut(pointer).unwrap() = value;
        let refused = encode_workload(rows.to_string().as_bytes())
            .and_then(|workload| assemble(&cluster(), &workload))
            .and_then(|snapshot| load(&snapshot).map(drop));
        assert!(refused.is_err(), "{pointer}");
    }
}

#[test]
fn what_was_not_said_permits_nothing() {
    for pointer in [
        "/rules/0/effect",
        "/rules/0/identity",
        "/rules/0/network",
        "/rules/0/scope",
        "/rules/0/level",
        "/ports/0/access",
        "/ports/0/protocol",
        "/ports/0/path_mode",
        "/ports/0/cluster_conditions",
        "/routes/0/kind",
        "/routes/0/rules/0/matches/0/path_test",
        "/pools/conditions/0/test",
    ] {
        let mut rows = workload_rows();
        *rows.pointer_mut(pointer).unwrap() = json!(0);
        let refused = encode_workload(rows.to_string().as_bytes())
            .and_then(|workload| assemble(&cluster(), &workload))
            .and_then(|snapshot| load(&snapshot).map(drop));
        assert!(matches!(refused, Err(SnapshotError::Invalid { .. })), "{pointer}: {refused:?}");
    }
}

#[test]
fn pc_03_values_that_are_no_values_are_refused() {
    for (pointer, value) in [
        ("/pools/networks/0/any_of/0/cidr", json!("10.0.0.1/8")),
        ("/pools/networks/0/any_of/0/cidr", json!("10.0.0.0/33")),
        ("/pools/networks/0/any_of/0/cidr", json!("::ffff:10.0.0.0/104")),
        ("/routes/0/rules/0/matches/0/path", json!("/a/../b")),
        ("/routes/0/rules/0/matches/0/path", json!("/a/")),
        ("/routes/0/hosts/0", json!("UPPER")),
        ("/pools/conditions/1/name", json!("X-Env")),
        ("/pools/conditions/0/values", json!([])),
    ] {
        let mut rows = workload_rows();
        *rows.pointer_mut(pointer).unwrap() = value.clone();
        let refused = encode_workload(rows.to_string().as_bytes())
            .and_then(|workload| assemble(&cluster(), &workload))
            .and_then(|snapshot| load(&snapshot).map(drop));
        assert!(refused.is_err(), "{pointer} = {value}");
    }
}

#[test]
fn a_million_empty_messages_are_refused_before_they_are_decoded() {
    let repeated = [workload(), [0x22, 0x00].repeat(1_000_000)].concat();
    let snapshot = assemble(&cluster(), &repeated).unwrap();
    assert!(matches!(
        load(&snapshot).unwrap_err(),
        SnapshotError::TooLarge { what: "messages", .. }
    ));
}

#[test]
fn too_many_bytes_are_refused() {
    let error = load(&vec![0; snapshot::MAX_SNAPSHOT_BYTES + 1]).unwrap_err();
    assert!(matches!(error, SnapshotError::TooLarge { what: "bytes", .. }));
}

#[test]
fn rows_with_an_unknown_field_are_refused() {
    let mut rows = workload_rows();
    rows["rules"][0]["effekt"] = json!(1);
    assert!(matches!(encode_workload(rows.to_string().as_bytes()), Err(SnapshotError::Rows(_))));
}

proptest! {
    #[test]
    fn p_14_no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = load(&bytes);
        let _ = load(&assemble(&bytes, &workload()).unwrap());
        let _ = load(&assemble(&cluster(), &bytes).unwrap());
    }

    #[test]
    fn p_14_no_damage_makes_it_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = good();
        for (place, value) in edits {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        let _ = load(&bytes);
    }
}
