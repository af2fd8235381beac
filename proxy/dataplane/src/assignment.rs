//! An assignment of policyd, from bytes to something that can be enforced, or refused whole with a code (design §8).
//!
//! The order is that of doubt: who signed it, for whom, is it older than what is held, are the bytes the signed ones, and
//! only then what they say.

use std::net::IpAddr;
use std::sync::Arc;

use engine::{Facts, Table};
use prost::Message as _;

use crate::certificate::{hex, sha256};
use crate::clock;
use crate::discovery::Discovery;
use crate::enforcement::Parts;
use crate::generated::{Assignment, Basis, Confirmation, Envelope, Held, PodFacts, Signed};
use crate::limits;
use crate::signed::{self, Context};
use crate::trust::Bundles;

/// Why an assignment is refused. The words of the codes are the wire's.
#[derive(Debug, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Refused {
    /// `Nack.code`.
    pub code: &'static str,
    /// `Nack.detail`.
    pub detail: String,
}

impl Refused {
    fn new(code: &'static str, detail: impl std::fmt::Display) -> Self {
        let detail = detail.to_string().replace(['\n', '\r'], " ");
        Self { code, detail }
    }
}

const INVALID: &str = "SNAPSHOT_INVALID";
const SIGNATURE: &str = "SIGNATURE_INVALID";
const WORKLOAD: &str = "WRONG_WORKLOAD";
const OLDER: &str = "OLDER_BASIS";

/// For whom assignments must be, and by whom.
#[derive(Debug, Clone)]
pub struct Addressee {
    /// policyd's SPIFFE ID.
    pub signer: String,
    /// Our own.
    pub trust_domain: String,
    /// Our own.
    pub namespace: String,
    /// From our own certificate; empty for an external workload.
    pub pod_uid: String,
}

/// When an assignment is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From the stream: its signer must be valid now.
    Stream,
    /// From the state folder: its signer must have been valid when it signed.
    Cache,
}

/// What is held, in the form in which the next one is compared with it.
#[derive(Debug, Clone)]
pub struct Holding {
    /// Epoch, basis and hashes.
    pub held: Held,
    /// The workload that this proxy was first assigned.
    pub workload: String,
    /// The assignment with its facts and its discovery, to which a later one may point by hash. The snapshot's bytes are
    /// not in it: they are on disk, and what they say is in the table.
    pub assignment: Assignment,
    /// What the snapshot was read into.
    pub table: HeldTable,
}

/// A table that was read from bytes with the hash that is held.
#[derive(Debug, Clone)]
pub struct HeldTable {
    /// What decides.
    pub table: Arc<Table>,
    /// From how many bytes it was read.
    pub bytes: usize,
}

/// An assignment that may be enforced.
#[derive(Debug)]
pub struct Accepted {
    /// Ready to decide.
    pub parts: Parts,
    /// To compare the next one with.
    pub holding: Holding,
    /// The snapshot's bytes, as they came; empty where they were left out because they are held.
    pub snapshot: Vec<u8>,
    /// When it was signed.
    pub issued_millis: i64,
}

impl Addressee {
    /// Reads one. `holding` is what is held now.
    pub fn accept(
        &self,
        assignment: Assignment,
        holding: Option<&Holding>,
        bundles: &Bundles,
        source: Source,
    ) -> Result<Accepted, Refused> {
        let signed = assignment
            .envelope
            .as_ref()
            .ok_or_else(|| Refused::new(INVALID, "it has no envelope"))?;
        let envelope = Envelope::decode(signed.payload.as_slice())
            .map_err(|error| Refused::new(INVALID, error))?;
        let at = Time { claimed: envelope.issued_at_millis, source };
        self.check_signature(signed, Context::Envelope, bundles, at)?;
        self.check_addressee(&envelope, holding)?;
        check_not_older(envelope.epoch, &envelope.basis, holding)?;
        let mut assignment = complete(assignment, &envelope, holding)?;
        let snapshot = std::mem::take(&mut assignment.snapshot);
        let table = self.table(&snapshot, &envelope, holding)?;
        let parts = self.read(&assignment, &envelope, &table)?;
        let held = Held {
            epoch: envelope.epoch,
            basis: envelope.basis,
            snapshot_sha256: envelope.snapshot_sha256,
            facts_sha256: envelope.facts_sha256,
            discovery_sha256: envelope.discovery_sha256,
        };
        let holding = Holding { held, workload: envelope.workload, assignment, table };
        Ok(Accepted { parts, holding, snapshot, issued_millis: envelope.issued_at_millis })
    }

    /// Reads a confirmation of what is held; its time, and the basis up to which it speaks.
    pub fn confirm(
        &self,
        signed: &Signed,
        holding: &Holding,
        bundles: &Bundles,
        source: Source,
    ) -> Result<Confirmation, Refused> {
        let message = Confirmation::decode(signed.payload.as_slice())
            .map_err(|error| Refused::new(INVALID, error))?;
        let at = Time { claimed: message.at_millis, source };
        self.check_signature(signed, Context::Confirmation, bundles, at)?;
        if message.workload != holding.workload || message.pod_uid != self.pod_uid {
            return Err(Refused::new(
                WORKLOAD,
                format!("a confirmation for `{}`", message.workload),
            ));
        }
        check_not_older(message.epoch, &message.basis, Some(holding))?;
        let held = &holding.held;
        if message.snapshot_sha256 != held.snapshot_sha256
            || message.facts_sha256 != held.facts_sha256
        {
            return Err(Refused::new(
                OLDER,
                "a confirmation of another table than the one in force",
            ));
        }
        Ok(message)
    }

    fn check_signature(
        &self,
        signed: &Signed,
        context: Context,
        bundles: &Bundles,
        at: Time,
    ) -> Result<(), Refused> {
        let now = clock::now_millis();
        let skew = i64::try_from(limits::CLOCK_SKEW.as_millis()).unwrap_or(0);
        if at.claimed > now.saturating_add(skew) {
            return Err(Refused::new(
                SIGNATURE,
                format!("signed at {}, that is yet to come", clock::rfc3339(at.claimed)),
            ));
        }
        let verified_at = match at.source {
            Source::Stream => now,
            Source::Cache => at.claimed,
        };
        signed::verify(signed, context, bundles, &self.signer, verified_at)
            .map_err(|error| Refused::new(SIGNATURE, error))
    }

    fn check_addressee(
        &self,
        envelope: &Envelope,
        holding: Option<&Holding>,
    ) -> Result<(), Refused> {
        let wrong = |field: &str, found: &str, expected: &str| {
            Err(Refused::new(WORKLOAD, format!("{field} `{found}`, expected `{expected}`")))
        };
        if envelope.trust_domain != self.trust_domain {
            return wrong("trust domain", &envelope.trust_domain, &self.trust_domain);
        }
        if envelope.pod_uid != self.pod_uid {
            return wrong("pod uid", &envelope.pod_uid, &self.pod_uid);
        }
        let mut parts = envelope.workload.split('/');
        if (parts.next().is_none_or(str::is_empty), parts.next())
            != (false, Some(self.namespace.as_str()))
        {
            return wrong("workload", &envelope.workload, &format!("…/{}/…", self.namespace));
        }
        match holding {
            Some(holding) if holding.workload != envelope.workload => {
                wrong("workload", &envelope.workload, &holding.workload)
            }
            _ => Ok(()),
        }
    }

    /// What these bytes, whose hash was checked, are read into. The same bytes come to the same table: it isn't built
    /// twice.
    fn table(
        &self,
        snapshot: &[u8],
        envelope: &Envelope,
        holding: Option<&Holding>,
    ) -> Result<HeldTable, Refused> {
        if let Some(holding) = holding
            && holding.held.snapshot_sha256 == envelope.snapshot_sha256
        {
            return Ok(holding.table.clone());
        }
        let loaded = snapshot::load(snapshot).map_err(|error| Refused::new(error.code(), error))?;
        if loaded.table.trust_domain() != self.trust_domain {
            let found = loaded.table.trust_domain();
            return Err(Refused::new(INVALID, format!("the table's trust domain is `{found}`")));
        }
        Ok(HeldTable { table: Arc::new(loaded.table), bytes: snapshot.len() })
    }

    fn read(
        &self,
        assignment: &Assignment,
        envelope: &Envelope,
        held: &HeldTable,
    ) -> Result<Parts, Refused> {
        let facts = self.read_facts(&assignment.facts)?;
        let discovery = crate::generated::Discovery::decode(assignment.discovery.as_slice())
            .map_err(|error| Refused::new(INVALID, error))?;
        let discovery =
            Discovery::read(&discovery).map_err(|error| Refused::new(INVALID, error))?;
        Ok(Parts {
            table: Arc::clone(&held.table),
            facts: Arc::new(facts),
            discovery: Arc::new(discovery),
            workload: envelope.workload.clone(),
            table_version: format!("sha256:{}", hex(&envelope.snapshot_sha256)),
            facts_version: format!("sha256:{}", hex(&envelope.facts_sha256)),
        })
    }

    fn read_facts(&self, bytes: &[u8]) -> Result<Facts, Refused> {
        let facts = PodFacts::decode(bytes).map_err(|error| Refused::new(INVALID, error))?;
        if facts.uid != self.pod_uid {
            return Err(Refused::new(WORKLOAD, format!("pod facts of `{}`", facts.uid)));
        }
        let addresses = |texts: &[String]| -> Result<Vec<IpAddr>, Refused> {
            let read = |text: &String| {
                text.parse().map_err(|_| {
                    Refused::new(INVALID, format!("pod facts: `{text}` is no address"))
                })
            };
            texts.iter().map(read).collect()
        };
        Ok(Facts {
            uid: facts.uid.as_str().into(),
            addresses: addresses(&facts.addresses)?,
            probe_addresses: addresses(&facts.probe_addresses)?,
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Time {
    claimed: i64,
    source: Source,
}

/// No component may be lower than what is held; a higher epoch begins anew.
fn check_not_older(epoch: u64, basis: &[Basis], holding: Option<&Holding>) -> Result<(), Refused> {
    let Some(Holding { held, .. }) = holding else { return Ok(()) };
    if epoch > held.epoch {
        return Ok(());
    }
    if epoch < held.epoch {
        return Err(Refused::new(OLDER, format!("epoch {epoch}, held is {}", held.epoch)));
    }
    for before in &held.basis {
        let now =
            basis.iter().find(|next| (&next.source, &next.kind) == (&before.source, &before.kind));
        // FAIL-CLOSED: a component that is missing is lower than any.
        let revision = now.map(|next| next.revision);
        if revision < Some(before.revision) {
            let shown = revision.map_or("missing".to_owned(), |revision| revision.to_string());
            let Basis { source, kind, revision } = before;
            return Err(Refused::new(
                OLDER,
                format!("basis {source}/{kind} is {shown}, held is {revision}"),
            ));
        }
    }
    Ok(())
}

/// Puts in what was left out because it is held, and checks that all bytes are the signed ones. A snapshot that is held is
/// there as a table: its bytes stay left out.
fn complete(
    mut assignment: Assignment,
    envelope: &Envelope,
    holding: Option<&Holding>,
) -> Result<Assignment, Refused> {
    let mut snapshot_is_held = false;
    if let Some(Holding { held, assignment: before, .. }) = holding {
        snapshot_is_held =
            assignment.snapshot.is_empty() && envelope.snapshot_sha256 == held.snapshot_sha256;
        if assignment.facts.is_empty() && envelope.facts_sha256 == held.facts_sha256 {
            assignment.facts.clone_from(&before.facts);
        }
        if assignment.discovery.is_empty() && envelope.discovery_sha256 == held.discovery_sha256 {
            assignment.discovery.clone_from(&before.discovery);
        }
    }
    if !snapshot_is_held {
        let version = snapshot::version(&assignment.snapshot)
            .map_err(|error| Refused::new(error.code(), error))?;
        check_hash("snapshot", version, &envelope.snapshot_sha256)?;
    }
    check_hash("facts", sha256(&assignment.facts), &envelope.facts_sha256)?;
    check_hash("discovery", sha256(&assignment.discovery), &envelope.discovery_sha256)?;
    Ok(assignment)
}

fn check_hash(what: &str, found: [u8; 32], signed: &[u8]) -> Result<(), Refused> {
    if found.as_slice() == signed {
        return Ok(());
    }
    let detail = format!("the {what} hashes to {}, signed is {}", hex(&found), hex(signed));
    Err(Refused::new(INVALID, detail))
}

#[cfg(test)]
pub(crate) mod tests;
