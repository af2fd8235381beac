use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sha2::Digest as _;

use super::kept::{CHAIN, FOLDER};
use super::*;
use crate::audit::segments::Open;
use crate::generated::{AuditHello, AuditRecords};

/// A folder of its own, removed at the end.
pub(in crate::audit) struct Folder(pub(in crate::audit) PathBuf);

impl Folder {
    pub(in crate::audit) fn new() -> Self {
        Self(std::env::temp_dir().join(format!("policyd-spool-{}", uuid::Uuid::now_v7())))
    }

    pub(in crate::audit) fn state(&self) -> StateDir {
        StateDir::open(&self.0).unwrap()
    }

    /// The spool's files, in order.
    fn segments(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.0.join(FOLDER)).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const SMALL: Bounds = Bounds {
    memory_records: 64,
    memory_bytes: 64 * 1024,
    disk_bytes: 8 * 1024,
    segment_bytes: 1024,
};

fn writer() -> Writer {
    Writer { namespace: "books".to_owned(), pod: "authors-0".to_owned(), workload: None }
}

fn open(folder: &Folder, bounds: Bounds) -> Spool {
    Spool::open(Some(folder.state()), bounds, writer(), Arc::default())
}

fn in_memory(bounds: Bounds) -> Spool {
    Spool::open(None, bounds, writer(), Arc::default())
}

fn denial(number: usize) -> Bytes {
    format!("{{\"event\":\"denial\",\"id\":\"{number}\"}}").into()
}

fn keep(spool: &mut Spool, numbers: std::ops::Range<usize>) {
    numbers.for_each(|number| spool.keep(denial(number)));
    spool.settle();
}

/// Takes all there is, as a store does: checks numbers and hashes, acknowledges.
fn drain(spool: &mut Spool, into: &mut Store) {
    while let Some(records) = spool.batch() {
        let last = into.take(records);
        assert!(spool.acknowledge(last));
    }
}

/// What a store knows of a chain, computed by another implementation of SHA-256.
#[derive(Default)]
pub(in crate::audit) struct Store {
    chain: Vec<u8>,
    pub(in crate::audit) sequence: u64,
    head: Vec<u8>,
    pub(in crate::audit) records: Vec<serde_json::Value>,
}

impl Store {
    pub(in crate::audit) fn greet(&mut self, hello: AuditHello) {
        if hello.chain != self.chain {
            assert_eq!((hello.acknowledged, hello.acknowledged_sha256.len()), (0, 0));
            (self.chain, self.sequence, self.head) = (hello.chain, 0, vec![0; 32]);
        } else if hello.acknowledged == self.sequence && self.sequence > 0 {
            assert_eq!(hello.acknowledged_sha256, self.head);
        }
    }

    /// The last sequence that is kept now. What it has already it doesn't keep twice.
    pub(in crate::audit) fn take(&mut self, records: AuditRecords) -> u64 {
        for record in records.records {
            if record.sequence <= self.sequence {
                continue;
            }
            assert_eq!((record.sequence, &record.previous_sha256), (self.sequence + 1, &self.head));
            let mut hash = sha2::Sha256::new();
            hash.update(b"policyd.v1.AuditRecord\0");
            hash.update(&self.chain);
            hash.update(record.sequence.to_be_bytes());
            hash.update(&record.previous_sha256);
            hash.update(&record.json);
            (self.sequence, self.head) = (record.sequence, hash.finalize().to_vec());
            self.records.push(serde_json::from_slice(&record.json).unwrap());
        }
        self.sequence
    }

    pub(in crate::audit) fn ids(&self) -> Vec<usize> {
        let denials = self.records.iter().filter(|record| record["event"] == "denial");
        denials.map(|record| record["id"].as_str().unwrap().parse().unwrap()).collect()
    }

    pub(in crate::audit) fn lost(&self) -> u64 {
        let told = self.records.iter().filter(|record| record["event"] == "lost");
        told.map(|record| record["count"].as_u64().unwrap()).sum()
    }
}

fn upto(count: usize) -> Vec<usize> {
    (0..count).collect()
}

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
fn au_02_a_file_torn_at_any_byte_loses_what_is_torn_and_nothing_else() {
    const RECORDS: usize = 3;
    let folder = Folder::new();
    let mut spool = open(&folder, SMALL);
    keep(&mut spool, 0..RECORDS);
    drop(spool);
    let chain = fs::read(folder.0.join(CHAIN)).unwrap();
    let [path] = folder.segments().try_into().unwrap();
    let whole = fs::read(&path).unwrap();
    let frame = 12 + denial(0).len();
    assert_eq!(whole.len(), 24 + RECORDS * frame);
    for length in 0..=whole.len() {
        // Cut off, or as a file system leaves it after a loss of power.
        for tail in [&[][..], &[0; 64], &[0xff; 64]] {
            let torn = [&whole[..length], tail].concat();
            folder.segments().iter().for_each(|path| fs::remove_file(path).unwrap());
            fs::write(&path, torn).unwrap();
            fs::write(folder.0.join(CHAIN), &chain).unwrap();
            let mut spool = open(&folder, SMALL);
            let mut store = Store::default();
            store.greet(spool.hello());
            let left = length.saturating_sub(24) / frame;
            keep(&mut spool, left..left + 3);
            drain(&mut spool, &mut store);
            assert_eq!((store.ids(), store.lost()), (upto(left + 3), 0), "{length}");
        }
    }
}

#[test]
fn au_02_a_record_that_went_bad_is_told_as_lost_and_the_others_are_kept() {
    let folder = Folder::new();
    let mut spool = open(&folder, SMALL);
    (0..10).for_each(|tens| keep(&mut spool, tens * 10..tens * 10 + 10));
    drop(spool);
    let paths = folder.segments();
    assert!(paths.len() > 2);
    // One byte of the second record, and a whole file.
    let mut bytes = fs::read(&paths[0]).unwrap();
    bytes[24 + 12 + denial(0).len() + 20] ^= 1;
    fs::write(&paths[0], bytes).unwrap();
    let gone = fs::read(&paths[1]).unwrap();
    fs::remove_file(&paths[1]).unwrap();
    let first = usize::try_from(u64::from_be_bytes(*gone[16..].first_chunk().unwrap())).unwrap();
    let bytes = fs::read(&paths[2]).unwrap();
    let after = usize::try_from(u64::from_be_bytes(*bytes[16..].first_chunk().unwrap())).unwrap();

    let mut spool = open(&folder, SMALL);
    let mut store = Store::default();
    store.greet(spool.hello());
    drain(&mut spool, &mut store);
    let left: Vec<_> = upto(100)
        .into_iter()
        .filter(|number| *number != 1 && !(first - 1..after - 1).contains(number))
        .collect();
    assert_eq!(store.ids(), left);
    assert_eq!(store.lost(), 1 + (after - first) as u64);
}

#[test]
fn a_beginning_that_is_gone_is_told_in_another_chain() {
    let folder = Folder::new();
    let mut spool = open(&folder, SMALL);
    keep(&mut spool, 0..100);
    let old = spool.chain.id;
    drop(spool);
    fs::remove_file(&folder.segments()[0]).unwrap();
    let mut spool = open(&folder, SMALL);
    let mut store = Store::default();
    store.greet(spool.hello());
    drain(&mut spool, &mut store);
    spool.tick();
    drain(&mut spool, &mut store);
    assert_eq!(store.records[0]["after"], format!("{old}:0"));
    assert_eq!(store.ids().len() as u64 + store.lost(), 100);
}

#[test]
fn a_chain_file_that_cannot_be_read_begins_another_chain_with_the_same_records() {
    let folder = Folder::new();
    let mut spool = open(&folder, SMALL);
    keep(&mut spool, 0..20);
    let mut store = Store::default();
    store.greet(spool.hello());
    drop(spool);
    folder.state().write(CHAIN, b"\xff").unwrap();
    let mut spool = open(&folder, SMALL);
    let hello = spool.hello();
    assert_ne!(hello.chain, store.chain);
    store.greet(hello);
    drain(&mut spool, &mut store);
    assert_eq!(store.ids(), upto(20));
}

#[test]
fn au_04_what_finds_no_room_is_counted_exactly() {
    for folder in [None, Some(Folder::new())] {
        let mut spool = folder.as_ref().map_or_else(|| in_memory(SMALL), |at| open(at, SMALL));
        let mut store = Store::default();
        store.greet(spool.hello());
        let mut denied = 0;
        // A store that takes little, then all, then nothing, again and again.
        for round in 0..50 {
            keep(&mut spool, denied..denied + 37 * (round % 7));
            denied += 37 * (round % 7);
            for _ in 0..round % 3 {
                if let Some(mut records) = spool.batch() {
                    records.records.truncate(1 + round % 11);
                    let last = store.take(records);
                    assert!(spool.acknowledge(last));
                    store.greet(spool.hello());
                }
            }
            assert!(spool.window.len() <= SMALL.memory_records + REASONS.len());
            let disk = spool.segments.as_ref().map_or(0, Segments::bytes);
            assert!(disk <= SMALL.disk_bytes, "{disk}");
        }
        drain(&mut spool, &mut store);
        spool.tick();
        drain(&mut spool, &mut store);
        assert!(store.lost() > 0 && spool.is_drained());
        assert_eq!(store.ids().len() as u64 + store.lost(), denied as u64);
        assert!(store.ids().is_sorted());
        let mut text = String::new();
        spool.metrics.audit.text(&mut text);
        let counted =
            format!("policyd_audit_lost_total{{reason=\"spool_full\"}} {}\n", store.lost());
        assert!(text.contains(&counted), "{counted} in {text}");
    }
}

#[test]
fn au_04_what_was_not_told_is_told_after_a_restart() {
    let folder = Folder::new();
    let mut spool = open(&folder, SMALL);
    keep(&mut spool, 0..1_000);
    spool.close();
    let waiting = spool.waiting();
    assert!(spool.has_untold());
    drop(spool);
    let mut spool = open(&folder, SMALL);
    let mut store = Store::default();
    store.greet(spool.hello());
    drain(&mut spool, &mut store);
    spool.tick();
    drain(&mut spool, &mut store);
    // Those that were in memory only, since the disk had no room, ended with the process and are what is missing.
    let memory_only = waiting - store.ids().len() as u64;
    assert!(memory_only <= SMALL.memory_records as u64);
    assert_eq!(store.ids().len() as u64 + store.lost() + memory_only, 1_000);
}

#[test]
fn au_03_a_full_disk_leaves_memory_and_comes_back() {
    let folder = Folder::new();
    let mut spool = open(&folder, SMALL);
    let mut store = Store::default();
    store.greet(spool.hello());
    keep(&mut spool, 0..10);
    // Every write to it fails with ENOSPC, and it can't be shortened.
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    spool.segments.as_mut().unwrap().open = Some(Open { file: full, dirty: false });
    keep(&mut spool, 10..20);
    assert_eq!((spool.disk, spool.written), (Disk::Failing, 10));
    keep(&mut spool, 20..30);
    assert_eq!(spool.written, 10);
    spool.tick();
    assert_eq!((spool.disk, spool.written), (Disk::Fine, 30));
    drop(spool);
    let mut spool = open(&folder, SMALL);
    store.greet(spool.hello());
    drain(&mut spool, &mut store);
    assert_eq!((store.ids(), store.lost()), (upto(30), 0));
}

#[test]
fn au_03_without_a_disk_memory_is_used_to_its_bound() {
    let folder = Folder::new();
    let state = folder.state();
    // A folder can't be made where a file is, whoever asks.
    state.write(FOLDER, b"").unwrap();
    let mut spool = open(&folder, SMALL);
    let mut store = Store::default();
    store.greet(spool.hello());
    keep(&mut spool, 0..100);
    spool.tick();
    assert_eq!((spool.disk, spool.waiting()), (Disk::Failing, 64));
    drain(&mut spool, &mut store);
    spool.tick();
    drain(&mut spool, &mut store);
    assert_eq!((store.ids(), store.lost()), (upto(64), 36));
    assert_eq!(store.records.last().unwrap()["reason"], "disk");
    // It is mended, and the chain goes on from disk.
    fs::remove_file(folder.0.join(FOLDER)).unwrap();
    spool.tick();
    keep(&mut spool, 64..70);
    assert_eq!(spool.disk, Disk::Fine);
    spool.close();
    drop(spool);
    let mut spool = open(&folder, SMALL);
    store.greet(spool.hello());
    drain(&mut spool, &mut store);
    assert_eq!(store.ids(), upto(70));
}

#[test]
fn acknowledged_in_memory_while_the_disk_failed_is_no_gap_after_a_restart() {
    let folder = Folder::new();
    let mut spool = open(&folder, SMALL);
    let mut store = Store::default();
    store.greet(spool.hello());
    keep(&mut spool, 0..10);
    spool.failed(&io::Error::other("for a while"));
    keep(&mut spool, 10..20);
    drain(&mut spool, &mut store);
    keep(&mut spool, 20..25);
    spool.tick();
    drop(spool);
    let mut spool = open(&folder, SMALL);
    store.greet(spool.hello());
    drain(&mut spool, &mut store);
    assert_eq!((store.ids(), store.lost()), (upto(25), 0));
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

const CHILD: &str = "POLICYD_TEST_SPOOL";

/// Not a test by itself: what is killed below.
#[test]
fn writes_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let state = StateDir::open(PathBuf::from(path)).unwrap();
    let mut spool = Spool::open(Some(state), Bounds::default(), writer(), Arc::default());
    let first = usize::try_from(spool.head).unwrap();
    for number in first.. {
        spool.keep(denial(number));
        spool.settle();
        if number % 500 == 0 {
            spool.tick();
        }
    }
}

fn grown(folder: &Path, than: u64) -> bool {
    let Ok(entries) = fs::read_dir(folder.join(FOLDER)) else { return false };
    entries
        .flatten()
        .filter_map(|entry| entry.metadata().ok())
        .map(|about| about.len())
        .sum::<u64>()
        > than
}

#[test]
fn au_02_a_killed_process_leaves_whole_records_only() {
    let folder = Folder::new();
    let mut bytes = 0;
    for round in 0..20 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "audit::spool::tests::writes_until_it_is_killed"])
            .env(CHILD, &folder.0)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !grown(&folder.0, bytes + 1_000 + round * 137) {
            assert!(Instant::now() < deadline, "it doesn't write");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        bytes = folder.segments().iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    }
    let mut spool = open(&folder, Bounds::default());
    let mut store = Store::default();
    store.greet(spool.hello());
    drain(&mut spool, &mut store);
    let ids = store.ids();
    assert!(ids.len() > 20);
    assert_eq!((ids.clone(), store.lost()), (upto(ids.len()), 0));
}
