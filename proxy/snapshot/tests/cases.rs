//! The shared cases through Rust alone: the tables that Python compiled, decided and compared here.
//!
//! `make cases` writes them to the folder that `POLICYD_CASES` names. Without it the test fails and says so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;
use snapshot::{Question, answer, load};

const AT_LEAST: usize = 400;

#[test]
fn every_case_is_decided_as_expected() {
    let folder = std::env::var_os("POLICYD_CASES")
        .expect("POLICYD_CASES: run `make cases` first, or `make rust`");
    let file = PathBuf::from(folder).join("cases.jsonl");
    let lines = std::fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut tables = HashMap::new();
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in lines.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let table = tables.entry(case["snapshot"].as_str().unwrap().to_owned()).or_insert_with_key(
            |text| Arc::new(load(&BASE64_STANDARD.decode(text).unwrap()).unwrap().table),
        );
        let question = Question::parse(case["question"].to_string().as_bytes()).unwrap();
        let decided = serde_json::to_value(answer(&question.put(table).unwrap())).unwrap();
        count += 1;
        for (field, expected) in case["expect"].as_object().unwrap() {
            if !agrees(&decided[field], expected) {
                wrong.push(format!(
                    "{}: {field} is {}, expected {expected}",
                    case["name"], decided[field]
                ));
            }
        }
    }
    println!("{count} cases on {} tables", tables.len());
    assert!(count >= AT_LEAST, "{count} cases, at least {AT_LEAST} are expected");
    assert!(wrong.is_empty(), "{} of {count} cases:\n{}", wrong.len(), wrong.join("\n"));
}

/// Only what a case gives is compared, inside `audit` as well.
fn agrees(decided: &Value, expected: &Value) -> bool {
    match expected {
        Value::Object(fields) if decided.is_object() => {
            fields.iter().all(|(field, value)| decided[field] == *value)
        }
        _ => decided == expected,
    }
}
