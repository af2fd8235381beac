//! Snapshots: a rule table's canonical bytes, written and read here and nowhere else; and decisions as JSON.
//!
//! The schema is `proto/policyd/v1/snapshot.proto`. [`encode_cluster`] and [`encode_workload`] turn rows into canonical
//! bytes, [`assemble`] puts both parts together, [`version`] names the result, and [`load`] turns bytes into a
//! [`engine::Table`] or refuses them whole. [`Question`] and [`Answer`] are what explaining and testing ask and get.

mod answer;
mod canonical;
mod encode;
mod error;
mod fields;
#[rustfmt::skip]
mod generated;
mod limits;
mod load;
mod question;
mod read;
mod versions;

pub use answer::{Answer, Explanation, Request, WouldBeAnswer, answer, explain};
pub use encode::{
    assemble, encode_cluster, encode_cluster_for, encode_workload, encode_workload_for,
};
pub use error::{QuestionError, SnapshotError};
pub use limits::{MAX_MESSAGES, MAX_SNAPSHOT_BYTES};
pub use load::{Loaded, load, load_as, rows};
pub use question::{Asked, Question};
pub use versions::{History, READER_VERSION, Reader};

use sha2::{Digest, Sha256};

/// A snapshot's version: SHA-256 over both parts' SHA-256.
pub fn version(snapshot: &[u8]) -> Result<[u8; 32], SnapshotError> {
    let parts = load::parts(snapshot)?;
    let mut both = Sha256::new();
    both.update(Sha256::digest(parts.cluster));
    both.update(Sha256::digest(parts.workload));
    Ok(both.finalize().into())
}

/// `sha256:<hex>`, as versions are written.
pub fn version_text(version: &[u8; 32]) -> String {
    use std::fmt::Write;
    version.iter().fold(String::from("sha256:"), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
