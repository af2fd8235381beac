//! A chain over restarts, and what a store says to it: acknowledged, or refused.

use super::*;

#[test]
fn p_12_a_chain_is_what_its_format_says_and_a_restart_goes_on_with_it() {
    let folder = Folder::new();
    let mut store = Store::default();
    let mut spool = open(&folder, SMALL);
    let hello = spool.hello();
    assert_eq!((hello.chain.len(), hello.acknowledged), (16, 0));
    store.greet(hello);
    keep(&mut spool, 0..10);
    drain(&mut spool, &mut store);
    keep(&mut spool, 10..20);
    spool.close();
    drop(spool);

    let mut spool = open(&folder, SMALL);
    let hello = spool.hello();
    assert_eq!((&hello.chain, hello.acknowledged), (&store.chain, 10));
    store.greet(hello);
    keep(&mut spool, 20..30);
    drain(&mut spool, &mut store);
    assert_eq!((store.ids(), store.sequence), (upto(30), 30));
    assert!(spool.is_drained());
}

#[test]
fn a_restart_without_a_record_left_goes_on_with_the_chain_too() {
    let folder = Folder::new();
    let mut store = Store::default();
    for round in 0..3 {
        let mut spool = open(&folder, SMALL);
        store.greet(spool.hello());
        keep(&mut spool, round * 100..round * 100 + 100);
        drain(&mut spool, &mut store);
        spool.close();
    }
    assert_eq!((store.ids(), store.sequence), (upto(300), 300));
}

#[test]
fn a_refused_chain_is_followed_by_one_with_the_same_records() {
    let folder = Folder::new();
    let mut spool = open(&folder, SMALL);
    let mut store = Store::default();
    store.greet(spool.hello());
    keep(&mut spool, 0..40);
    let mut some = spool.batch().unwrap();
    some.records.truncate(7);
    assert!(spool.acknowledge(store.take(some)));
    let old = spool.chain.id;
    spool.begin_chain("ROLLED_BACK");
    drop(spool);
    let mut spool = open(&folder, SMALL);
    store.greet(spool.hello());
    keep(&mut spool, 40..50);
    drain(&mut spool, &mut store);
    assert_eq!((store.ids(), store.lost()), (upto(50), 0));
    let chain = &store.records[7];
    assert_eq!((&chain["event"], &chain["reason"]), (&"chain".into(), &"ROLLED_BACK".into()));
    assert_eq!(chain["after"], format!("{old}:7"));
    assert_eq!((&chain["namespace"], &chain["pod"]), (&"books".into(), &"authors-0".into()));
}

#[test]
fn what_is_refused_again_is_given_up_and_counted() {
    let mut spool = in_memory(SMALL);
    let mut store = Store::default();
    store.greet(spool.hello());
    let first = spool.chain.id;
    keep(&mut spool, 0..100);
    let lost = 100 - spool.waiting();
    assert!(spool.batch().is_some());
    spool.begin_chain("WRONG_WRITER");
    assert_eq!(spool.waiting(), 100 - lost + 1);
    assert!(spool.batch().is_some());
    spool.begin_chain("WRONG_WRITER");
    keep(&mut spool, 100..110);
    store.greet(spool.hello());
    drain(&mut spool, &mut store);
    spool.tick();
    drain(&mut spool, &mut store);
    assert_eq!(store.records[0]["after"], format!("{first}:0"));
    assert_eq!(store.ids(), (100..110).collect::<Vec<_>>());
    assert_eq!(store.lost(), 100);
    assert!(spool.is_drained());
}

#[test]
fn acknowledgements_late_twice_and_beyond() {
    let mut spool = in_memory(SMALL);
    keep(&mut spool, 0..20);
    spool.hello();
    assert!(!spool.acknowledge(1), "nothing was sent");
    assert_eq!(spool.batch().unwrap().records.len(), 20);
    assert!(spool.acknowledge(12) && spool.acknowledge(5) && spool.acknowledge(12));
    assert_eq!(spool.chain.acknowledged, 12);
    assert!(!spool.acknowledge(21));
    assert_eq!(spool.hello().acknowledged, 12);
    assert_eq!(spool.batch().unwrap().records[0].sequence, 13);
}

#[test]
fn the_stream_is_told_no_more_than_may_be_in_flight() {
    let mut spool = in_memory(Bounds::default());
    keep(&mut spool, 0..5_000);
    spool.hello();
    let mut sent = 0;
    while let Some(records) = spool.batch() {
        assert!(records.records.len() <= limits::AUDIT_BATCH_RECORDS);
        sent += records.records.len();
    }
    assert_eq!(sent, limits::AUDIT_IN_FLIGHT_RECORDS);
}
