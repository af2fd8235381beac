//! The bounds of a head: the last that passes, the first that doesn't.

use super::super::{GateProfile, GateRule, http1, http2, limits, normal_host};
use super::*;

/// A head of exactly so many bytes, in fields that are small enough each.
fn head_of(bytes: usize) -> Vec<u8> {
    let mut head = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
    let field = |length: usize| format!("a: {}\r\n", "b".repeat(length - 5)).into_bytes();
    while bytes - 2 - head.len() > 4000 {
        head.extend(field(2000));
    }
    head.extend(field(bytes - 2 - head.len()));
    head.extend(b"\r\n");
    assert_eq!(head.len(), bytes);
    head
}

#[test]
fn h1_18_the_whole_head() {
    accepted(head_of(limits::HEAD_BYTES));
    refused(GateRule::Limits, head_of(limits::HEAD_BYTES + 1));
    let lenient = GateProfile { lenient: true, ..GateProfile::default() };
    let unread = |bytes| http1(&head_of(bytes), &lenient).map(|read| read.unread().is_some());
    assert_eq!(unread(limits::HEAD_BYTES), Ok(false));
    assert_eq!(unread(limits::HEAD_BYTES + 1), Ok(true));
    assert_eq!(unread(limits::LENIENT_HEAD_BYTES), Ok(true));
    let refusal = unread(limits::LENIENT_HEAD_BYTES + 1).unwrap_err();
    assert_eq!((refusal.rule, refusal.offset), (GateRule::Limits, 64 * 1024));
}

#[test]
fn h1_18_one_field_and_their_number() {
    let field = |bytes: usize| with_fields(&format!("a: {}", "b".repeat(bytes - 1)));
    accepted(field(8192));
    refused(GateRule::Limits, field(8193));
    accepted(with_fields(&vec!["a: b"; 99].join("\r\n")));
    refused(GateRule::Limits, with_fields(&vec!["a: b"; 100].join("\r\n")));
}

#[test]
fn h1_18_target_method_and_authority() {
    let target = |bytes: usize| with_line(&format!("GET /{} HTTP/1.1", "a".repeat(bytes - 1)));
    accepted(target(8192));
    refused(GateRule::Limits, target(8193));
    let method = |bytes: usize| with_line(&format!("{} / HTTP/1.1", "A".repeat(bytes)));
    accepted(method(32));
    refused(GateRule::G17, method(33));
    assert!(normal_host(&"a".repeat(260)).is_ok());
    let flaw = normal_host(&"a".repeat(261)).unwrap_err();
    assert_eq!((flaw.rule, flaw.offset), (GateRule::G1, 260));
}

#[test]
fn h2_06_the_size_of_a_field_list_is_that_of_its_names_and_values() {
    let profile = GateProfile::default();
    let read = |bytes: usize| {
        let pseudo = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
        let taken: usize = pseudo.iter().map(|(name, value)| name.len() + value.len()).sum();
        let name = "n".repeat(2000);
        let (value, last) = ("v".repeat(3000), "v".repeat(bytes - taken - 12_000));
        let fields =
            pseudo.into_iter().chain([(&*name, &*value), (&*name, &*value), (&*name, &*last)]);
        let fields: Vec<_> =
            fields.map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        http2(&fields, &profile).map_err(|refusal| refusal.rule)
    };
    assert!(read(limits::HEAD_BYTES).is_ok());
    assert_eq!(read(limits::HEAD_BYTES + 1), Err(GateRule::Limits));
}
