//! The spool, and a store that checks what it is told.

mod chains;
mod damage;
mod room;

use std::fs;
use std::path::PathBuf;

use sha2::Digest as _;

use super::kept::{CHAIN, FOLDER};
use super::*;
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
