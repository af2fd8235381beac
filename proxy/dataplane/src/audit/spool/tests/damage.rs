//! Files that were torn, went bad or were written by a process that was killed.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

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
            .args(["--exact", "audit::spool::tests::damage::writes_until_it_is_killed"])
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
