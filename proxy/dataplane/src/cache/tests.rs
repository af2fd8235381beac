use std::sync::Arc;

use super::*;
use crate::assignment::tests::{Policyd, addressee, envelope, snapshot_bytes};
use crate::clock;

struct Folder {
    path: std::path::PathBuf,
    state: StateDir,
}

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("policyd-cache-{}", uuid::Uuid::now_v7()));
        Self { state: StateDir::open(&path).unwrap(), path }
    }
}

impl Folder {
    /// The files of snapshots that are believed.
    fn snapshots(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.path).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(SNAPSHOT) && !name.contains('.')).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.path).unwrap();
    }
}

fn kept(policyd: &Policyd, folder: &Folder) -> Accepted {
    let bytes = snapshot_bytes(1);
    let assignment = policyd.assign(&envelope(&bytes, 5), bytes);
    let accepted =
        addressee().accept(assignment, None, &policyd.bundles(), Source::Stream).unwrap();
    keep_assignment(&folder.state, &accepted.holding, &accepted.snapshot).unwrap();
    accepted
}

#[test]
fn l4_02_what_was_kept_is_taken_up_with_its_latest_confirmation() {
    let (policyd, folder) = (Policyd::new(), Folder::new());
    assert!(resume(&folder.state, &addressee(), &policyd.bundles()).unwrap().is_none());
    let accepted = kept(&policyd, &folder);
    let held = &accepted.holding.held;
    let later = clock::now_millis() + 5_000;
    let confirmation = Confirmation {
        workload: accepted.holding.workload.clone(),
        pod_uid: addressee().pod_uid,
        snapshot_sha256: held.snapshot_sha256.clone(),
        facts_sha256: held.facts_sha256.clone(),
        basis: held
            .basis
            .iter()
            .cloned()
            .map(|mut basis| {
                basis.revision = 9;
                basis
            })
            .collect(),
        epoch: held.epoch,
        at_millis: later,
    };
    keep_confirmation(
        &folder.state,
        &policyd.sign("policyd.v1.Confirmation", confirmation.encode_to_vec()),
    )
    .unwrap();
    let (resumed, vouched) =
        resume(&folder.state, &addressee(), &policyd.bundles()).unwrap().unwrap();
    assert_eq!(resumed.parts.table_version, accepted.parts.table_version);
    assert_eq!((vouched, resumed.holding.held.basis[0].revision), (later, 9));
}

#[test]
fn the_same_snapshot_is_written_once_and_another_takes_its_place() {
    let (policyd, folder) = (Policyd::new(), Folder::new());
    let first = kept(&policyd, &folder);
    // Left out, because it is held: the very table, and the file that is there.
    let bytes = snapshot_bytes(1);
    let left_out = policyd.assign(&envelope(&bytes, 6), Vec::new());
    let bundles = policyd.bundles();
    let accept = |assignment, held| {
        addressee().accept(assignment, Some(held), &bundles, Source::Stream).unwrap()
    };
    let again = accept(left_out, &first.holding);
    assert!(Arc::ptr_eq(&again.parts.table, &first.parts.table) && again.snapshot.is_empty());
    keep_assignment(&folder.state, &again.holding, &again.snapshot).unwrap();
    // Sent again, as after a restart: the very table, too.
    let sent = accept(policyd.assign(&envelope(&bytes, 6), bytes), &again.holding);
    assert!(Arc::ptr_eq(&sent.parts.table, &first.parts.table));
    let bytes = snapshot_bytes(3);
    let other = accept(policyd.assign(&envelope(&bytes, 7), bytes), &sent.holding);
    assert!(!Arc::ptr_eq(&other.parts.table, &first.parts.table));
    keep_assignment(&folder.state, &other.holding, &other.snapshot).unwrap();
    assert_eq!(folder.snapshots(), [snapshot_name(&other.holding.held.snapshot_sha256)]);
    let (resumed, _) = resume(&folder.state, &addressee(), &bundles).unwrap().unwrap();
    assert_eq!(resumed.parts.table_version, other.parts.table_version);
    assert!(resumed.snapshot.is_empty());
}

#[test]
fn what_was_never_written_is_not_named_on_disk() {
    let (policyd, folder) = (Policyd::new(), Folder::new());
    let accepted = kept(&policyd, &folder);
    let [name] = folder.snapshots().try_into().unwrap();
    std::fs::remove_file(folder.path.join(&name)).unwrap();
    assert!(keep_assignment(&folder.state, &accepted.holding, &[]).is_err());
    let problem = resume(&folder.state, &addressee(), &policyd.bundles()).unwrap_err();
    assert!(problem.contains("is missing"), "{problem}");
}

#[test]
fn l4_03_what_does_not_verify_is_set_aside_whole() {
    let (policyd, folder) = (Policyd::new(), Folder::new());
    kept(&policyd, &folder);
    let whole = folder.state.read("assignment").unwrap().unwrap();
    for at in (0..whole.len()).step_by(7) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        for damaged in [&flipped[..], &whole[..at]] {
            folder.state.write("assignment", damaged).unwrap();
            let resumed = resume(&folder.state, &addressee(), &policyd.bundles());
            assert!(resumed.is_err(), "byte {at} of {}", whole.len());
            assert!(folder.state.read("assignment").unwrap().is_none());
        }
    }
    folder.state.write("assignment", &whole).unwrap();
    let [name] = folder.snapshots().try_into().unwrap();
    let snapshot = folder.state.read(&name).unwrap().unwrap();
    for at in 0..snapshot.len() {
        let mut flipped = snapshot.clone();
        flipped[at] ^= 0x10;
        for damaged in [&flipped[..], &snapshot[..at]] {
            folder.state.write("assignment", &whole).unwrap();
            folder.state.write(&name, damaged).unwrap();
            assert!(resume(&folder.state, &addressee(), &policyd.bundles()).is_err(), "byte {at}");
            assert!(folder.state.read(&name).unwrap().is_none());
        }
    }
    folder.state.write(&name, &snapshot).unwrap();
    // Another pod's, and another signer's.
    let mut other = addressee();
    other.pod_uid.push('x');
    folder.state.write("assignment", &whole).unwrap();
    assert!(resume(&folder.state, &other, &policyd.bundles()).is_err());
    folder.state.write("assignment", &whole).unwrap();
    assert!(resume(&folder.state, &addressee(), &Policyd::new().bundles()).is_err());
}
