use rcgen::{KeyPair, SigningKey as _};

use super::*;
use crate::generated;
use crate::signed::Context;
use crate::trust::tests::{Authority, authority, bundles, issue, leaf_params, long_lived};

const POLICYD: &str = "spiffe://cluster.local/ns/policyd/sa/policyd";
const UID: &str = "0b7e6a3c-1f0e-4c56-9a57-3c2b8a6f1d01";
const WORKLOAD: &str = "deployment/books/authors";

/// The smallest table there is: one port row for all ports, with this default.
pub(crate) fn snapshot_bytes(access: u32) -> Vec<u8> {
    snapshot_of(&serde_json::json!({
        "protocol": 1, "access": access, "path_mode": 1, "cluster_conditions": 1
    }))
}

/// A table with this row for all ports.
pub(crate) fn snapshot_of(port: &serde_json::Value) -> Vec<u8> {
    snapshot_with(port, &serde_json::json!([]), &serde_json::json!([]))
}

/// The same with the workload's rules, and the conditions they point to.
pub(crate) fn snapshot_with(
    port: &serde_json::Value,
    rules: &serde_json::Value,
    conditions: &serde_json::Value,
) -> Vec<u8> {
    let pools = serde_json::json!({"identities": [], "networks": [], "conditions": []});
    let own = serde_json::json!({"identities": [], "networks": [], "conditions": conditions});
    let cluster =
        serde_json::json!({"reader_version": 1, "trust_domain": "cluster.local", "pools": pools});
    let workload = serde_json::json!({
        "reader_version": 1, "workload_shape": "books", "pools": own,
        "rules": rules, "other": port
    });
    let cluster = snapshot::encode_cluster(cluster.to_string().as_bytes()).unwrap();
    let workload = snapshot::encode_workload(workload.to_string().as_bytes()).unwrap();
    snapshot::assemble(&cluster, &workload).unwrap()
}

pub(crate) struct Policyd {
    authority: Authority,
    chain: Vec<Vec<u8>>,
    key: KeyPair,
}

impl Policyd {
    pub(crate) fn new() -> Self {
        Self::named(POLICYD)
    }

    fn named(id: &str) -> Self {
        let authority = authority("root");
        let (chain, key) = issue(&long_lived(id), &authority);
        let chain = chain.iter().map(|certificate| certificate.to_vec()).collect();
        Self { authority, chain, key }
    }

    pub(crate) fn bundles(&self) -> Bundles {
        bundles("cluster.local", &self.authority)
    }

    pub(crate) fn sign(&self, context: &str, payload: Vec<u8>) -> Signed {
        let message = [context.as_bytes(), &[0], &payload].concat();
        Signed { signature: self.key.sign(&message).unwrap(), payload, chain: self.chain.clone() }
    }

    pub(crate) fn assign(&self, envelope: &Envelope, snapshot: Vec<u8>) -> Assignment {
        Assignment {
            envelope: Some(self.sign("policyd.v1.Envelope", envelope.encode_to_vec())),
            snapshot,
            facts: facts(),
            discovery: Vec::new(),
        }
    }
}

fn facts() -> Vec<u8> {
    let address = vec!["127.1.0.5".to_owned()];
    PodFacts {
        uid: UID.to_owned(),
        name: "authors-0".to_owned(),
        addresses: address,
        probe_addresses: vec![],
    }
    .encode_to_vec()
}

fn basis(revision: u64) -> Vec<Basis> {
    vec![Basis { source: "files".to_owned(), kind: "Server".to_owned(), revision }]
}

pub(crate) fn envelope(snapshot: &[u8], revision: u64) -> Envelope {
    Envelope {
        trust_domain: "cluster.local".to_owned(),
        workload: WORKLOAD.to_owned(),
        pod_uid: UID.to_owned(),
        snapshot_sha256: snapshot::version(snapshot).unwrap().to_vec(),
        facts_sha256: sha256(&facts()).to_vec(),
        discovery_sha256: sha256(b"").to_vec(),
        basis: basis(revision),
        issued_at_millis: clock::now_millis(),
        epoch: 1,
        serial: 1,
    }
}

pub(crate) fn addressee() -> Addressee {
    Addressee {
        signer: POLICYD.to_owned(),
        trust_domain: "cluster.local".to_owned(),
        namespace: "books".to_owned(),
        pod_uid: UID.to_owned(),
    }
}

fn code(policyd: &Policyd, assignment: Assignment, holding: Option<&Holding>) -> &'static str {
    addressee()
        .accept(assignment, holding, &policyd.bundles(), Source::Stream)
        .map_or_else(|refused| refused.code, |_| "accepted")
}

fn held(policyd: &Policyd, revision: u64) -> Holding {
    let bytes = snapshot_bytes(1);
    let assignment = policyd.assign(&envelope(&bytes, revision), bytes);
    addressee().accept(assignment, None, &policyd.bundles(), Source::Stream).unwrap().holding
}

#[test]
fn what_policyd_signed_for_this_pod_is_accepted() {
    let policyd = Policyd::new();
    let bytes = snapshot_bytes(1);
    let accepted = addressee()
        .accept(
            policyd.assign(&envelope(&bytes, 1), bytes.clone()),
            None,
            &policyd.bundles(),
            Source::Stream,
        )
        .unwrap();
    assert_eq!(
        accepted.parts.table_version,
        snapshot::version_text(&snapshot::version(&bytes).unwrap())
    );
    assert_eq!(accepted.parts.workload, WORKLOAD);
    assert_eq!(accepted.parts.facts.addresses.len(), 1);
}

#[test]
fn a_signature_of_anybody_else_is_refused() {
    let bytes = snapshot_bytes(1);
    let policyd = Policyd::new();
    // Another authority; another service account; another context; a changed payload.
    let stranger = Policyd::new();
    assert_eq!(
        code(&policyd, stranger.assign(&envelope(&bytes, 1), bytes.clone()), None),
        "SIGNATURE_INVALID"
    );
    let other = Policyd::named("spiffe://cluster.local/ns/books/sa/policyd");
    assert_eq!(
        code(&other, other.assign(&envelope(&bytes, 1), bytes.clone()), None),
        "SIGNATURE_INVALID"
    );
    let mut wrong_context = policyd.assign(&envelope(&bytes, 1), bytes.clone());
    wrong_context.envelope =
        Some(policyd.sign("policyd.v1.Confirmation", envelope(&bytes, 1).encode_to_vec()));
    assert_eq!(code(&policyd, wrong_context, None), "SIGNATURE_INVALID");
    let mut changed = policyd.assign(&envelope(&bytes, 1), bytes.clone());
    let mut later = envelope(&bytes, 1);
    later.serial = 9;
    changed.envelope.as_mut().unwrap().payload = later.encode_to_vec();
    assert_eq!(code(&policyd, changed, None), "SIGNATURE_INVALID");
    let mut future = envelope(&bytes, 1);
    future.issued_at_millis += 3_600_000;
    assert_eq!(code(&policyd, policyd.assign(&future, bytes), None), "SIGNATURE_INVALID");
}

#[test]
fn what_is_for_somebody_else_is_refused() {
    let policyd = Policyd::new();
    let bytes = snapshot_bytes(1);
    let change = |how: fn(&mut Envelope)| {
        let mut changed = envelope(&bytes, 1);
        how(&mut changed);
        policyd.assign(&changed, bytes.clone())
    };
    assert_eq!(code(&policyd, change(|it| it.pod_uid.push('x')), None), "WRONG_WORKLOAD");
    assert_eq!(code(&policyd, change(|it| it.pod_uid.clear()), None), "WRONG_WORKLOAD");
    assert_eq!(code(&policyd, change(|it| it.trust_domain.push('x')), None), "WRONG_WORKLOAD");
    assert_eq!(
        code(&policyd, change(|it| it.workload = "deployment/other/authors".to_owned()), None),
        "WRONG_WORKLOAD"
    );
    let moved = change(|it| it.workload = "deployment/books/webapp".to_owned());
    assert_eq!(code(&policyd, moved, Some(&held(&policyd, 1))), "WRONG_WORKLOAD");
}

#[test]
fn nothing_older_than_what_is_held_is_accepted() {
    let policyd = Policyd::new();
    let holding = held(&policyd, 5);
    let bytes = snapshot_bytes(1);
    let with = |revision, epoch, kinds: &[&str]| {
        let mut changed = envelope(&bytes, revision);
        changed.epoch = epoch;
        changed.basis = kinds
            .iter()
            .map(|kind| Basis { source: "files".to_owned(), kind: (*kind).to_owned(), revision })
            .collect();
        code(&policyd, policyd.assign(&changed, bytes.clone()), Some(&holding))
    };
    assert_eq!(with(4, 1, &["Server"]), "OLDER_BASIS");
    assert_eq!(with(9, 1, &["Pod"]), "OLDER_BASIS");
    assert_eq!(with(9, 0, &["Server"]), "OLDER_BASIS");
    assert_eq!(with(5, 1, &["Server"]), "accepted");
    assert_eq!(with(6, 1, &["Pod", "Server"]), "accepted");
    assert_eq!(with(1, 2, &["Server"]), "accepted");
}

#[test]
fn bytes_that_were_not_signed_are_refused() {
    let policyd = Policyd::new();
    let (bytes, other) = (snapshot_bytes(1), snapshot_bytes(3));
    assert_eq!(
        code(&policyd, policyd.assign(&envelope(&bytes, 1), other), None),
        "SNAPSHOT_INVALID"
    );
    let mut swapped = policyd.assign(&envelope(&bytes, 1), bytes.clone());
    swapped.facts = b"".to_vec();
    assert_eq!(code(&policyd, swapped, None), "SNAPSHOT_INVALID");
    let left_out = policyd.assign(&envelope(&bytes, 1), Vec::new());
    assert_ne!(code(&policyd, left_out.clone(), None), "accepted");
    assert_eq!(code(&policyd, left_out, Some(&held(&policyd, 1))), "accepted");
}

#[test]
fn a_confirmation_is_of_the_table_in_force_or_refused() {
    let policyd = Policyd::new();
    let holding = held(&policyd, 5);
    let confirmation = |how: fn(&mut Confirmation)| {
        let mut message = Confirmation {
            workload: WORKLOAD.to_owned(),
            pod_uid: UID.to_owned(),
            snapshot_sha256: holding.held.snapshot_sha256.clone(),
            facts_sha256: holding.held.facts_sha256.clone(),
            basis: basis(6),
            epoch: 1,
            at_millis: clock::now_millis(),
        };
        how(&mut message);
        let signed = policyd.sign("policyd.v1.Confirmation", message.encode_to_vec());
        addressee()
            .confirm(&signed, &holding, &policyd.bundles(), Source::Stream)
            .map_or_else(|refused| refused.code, |_| "accepted")
    };
    assert_eq!(confirmation(|_| {}), "accepted");
    assert_eq!(confirmation(|it| it.snapshot_sha256 = vec![0; 32]), "OLDER_BASIS");
    assert_eq!(confirmation(|it| it.basis = basis(4)), "OLDER_BASIS");
    assert_eq!(confirmation(|it| it.workload.push('x')), "WRONG_WORKLOAD");
    assert_eq!(confirmation(|it| it.at_millis += 3_600_000), "SIGNATURE_INVALID");
}

#[test]
fn what_was_kept_is_verified_as_of_when_it_was_signed() {
    let mut policyd = Policyd::new();
    // A signer whose certificate has ended since.
    let mut params = leaf_params(POLICYD);
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 2, 1);
    let (chain, key) = issue(&params, &policyd.authority);
    policyd.chain = chain.iter().map(|certificate| certificate.to_vec()).collect();
    policyd.key = key;
    let bytes = snapshot_bytes(1);
    let mut old = envelope(&bytes, 1);
    old.issued_at_millis = 1_579_000_000_000; // 2020-01-14
    let assignment = policyd.assign(&old, bytes);
    let bundles = policyd.bundles();
    assert!(addressee().accept(assignment.clone(), None, &bundles, Source::Cache).is_ok());
    let refused = addressee().accept(assignment, None, &bundles, Source::Stream).unwrap_err();
    assert_eq!(refused.code, "SIGNATURE_INVALID");
}

#[test]
fn contexts_are_the_wires() {
    // The names are part of what is signed, and written down in the wire contract.
    let policyd = Policyd::new();
    let signed = policyd.sign("policyd.v1.Envelope", b"x".to_vec());
    let bundles = policyd.bundles();
    let now = clock::now_millis();
    assert!(signed::verify(&signed, Context::Envelope, &bundles, POLICYD, now).is_ok());
    assert!(signed::verify(&signed, Context::Confirmation, &bundles, POLICYD, now).is_err());
    let _: generated::Signed = signed;
}
