//! What finds no room, on a disk or in memory, and a disk that fails.

use super::*;
use crate::audit::segments::Open;

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
