//! The messages of policyd, signed, as pieces that are written one after the other: what many proxies get alike is never
//! copied for one of them.

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::contents::{Standing, Wanted};
use crate::credentials::{CredentialError, Credentials};
use crate::generated::{Confirmation, ControllerMessage, Envelope, Signed};

const ENVELOPE_CONTEXT: &[u8] = b"policyd.v1.Envelope";
const CONFIRMATION_CONTEXT: &[u8] = b"policyd.v1.Confirmation";
/// Shorter pieces are copied: a piece is a frame.
const LEAST_SHARED: usize = 1_024;

// Numbers of fields in `stream.proto`.
const CONTROLLER_ASSIGNMENT: u32 = 1;
const ASSIGNMENT_ENVELOPE: u32 = 1;
const ASSIGNMENT_SNAPSHOT: u32 = 2;
const ASSIGNMENT_FACTS: u32 = 3;
const ASSIGNMENT_DISCOVERY: u32 = 4;

/// The parts that go with an assignment; empty where the proxy has them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sent {
    pub(crate) snapshot: Bytes,
    pub(crate) facts: Bytes,
    pub(crate) discovery: Bytes,
}

/// A signed envelope and what goes with it, as the pieces of one `ControllerMessage`.
pub(crate) fn assignment(
    credentials: &Credentials,
    wanted: &Wanted,
    standing: &Standing,
    serial: u64,
    sent: &Sent,
) -> Result<Vec<Bytes>, CredentialError> {
    let envelope = Envelope {
        trust_domain: wanted.subject.trust_domain.clone(),
        workload: wanted.subject.workload.clone(),
        pod_uid: wanted.subject.pod_uid.clone(),
        snapshot_sha256: wanted.snapshot.sha256.to_vec(),
        facts_sha256: wanted.facts.sha256.to_vec(),
        discovery_sha256: wanted.discovery.sha256.to_vec(),
        basis: standing.rows(),
        issued_at_millis: standing.at_millis,
        epoch: standing.epoch,
        serial,
    };
    let signed = signed(credentials, ENVELOPE_CONTEXT, envelope.encode_to_vec())?;
    let fields = [
        (ASSIGNMENT_ENVELOPE, Bytes::from(signed.encode_to_vec())),
        (ASSIGNMENT_SNAPSHOT, sent.snapshot.clone()),
        (ASSIGNMENT_FACTS, sent.facts.clone()),
        (ASSIGNMENT_DISCOVERY, sent.discovery.clone()),
    ];
    let length: usize = fields.iter().map(|(number, bytes)| field_len(*number, bytes.len())).sum();
    let mut pieces = Pieces::default();
    encode_key(CONTROLLER_ASSIGNMENT, WireType::LengthDelimited, &mut pieces.open);
    encode_varint(length as u64, &mut pieces.open);
    for (number, bytes) in fields {
        pieces.field(number, bytes);
    }
    Ok(pieces.done())
}

/// A signed confirmation of what was told, as a `ControllerMessage`.
pub(crate) fn confirmation(
    credentials: &Credentials,
    wanted: &Wanted,
    standing: &Standing,
) -> Result<Vec<Bytes>, CredentialError> {
    let confirmation = Confirmation {
        workload: wanted.subject.workload.clone(),
        pod_uid: wanted.subject.pod_uid.clone(),
        snapshot_sha256: wanted.snapshot.sha256.to_vec(),
        facts_sha256: wanted.facts.sha256.to_vec(),
        basis: standing.rows(),
        epoch: standing.epoch,
        at_millis: standing.at_millis,
    };
    let signed = signed(credentials, CONFIRMATION_CONTEXT, confirmation.encode_to_vec())?;
    let message = ControllerMessage { assignment: None, confirmation: Some(signed) };
    Ok(vec![Bytes::from(message.encode_to_vec())])
}

fn signed(
    credentials: &Credentials,
    context: &[u8],
    payload: Vec<u8>,
) -> Result<Signed, CredentialError> {
    let message = [context, &[0], &payload].concat();
    let signature = credentials.sign(&message)?;
    Ok(Signed { payload, signature, chain: credentials.chain.clone() })
}

/// Protobuf as it is written: short things together, long ones as they are.
#[derive(Default)]
struct Pieces {
    closed: Vec<Bytes>,
    open: BytesMut,
}

impl Pieces {
    fn field(&mut self, number: u32, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        encode_key(number, WireType::LengthDelimited, &mut self.open);
        encode_varint(bytes.len() as u64, &mut self.open);
        if bytes.len() < LEAST_SHARED {
            self.open.put(bytes);
        } else {
            self.closed.push(self.open.split().freeze());
            self.closed.push(bytes);
        }
    }

    fn done(mut self) -> Vec<Bytes> {
        if !self.open.is_empty() {
            self.closed.push(self.open.freeze());
        }
        self.closed
    }
}

/// Proto3: an empty field isn't there.
fn field_len(number: u32, length: usize) -> usize {
    match length {
        0 => 0,
        _ => key_len(number) + encoded_len_varint(length as u64) + length,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::contents::{Content, Subject};
    use crate::tests::credentials;

    fn content(bytes: &'static [u8]) -> Arc<Content> {
        Arc::new(Content { sha256: (*b"hash").into(), bytes: Bytes::from_static(bytes) })
    }

    #[test]
    fn pieces_are_the_message_and_long_parts_are_shared() {
        static LONG: [u8; 5_000] = [7; 5_000];
        let subject = Subject {
            trust_domain: "test".into(),
            workload: "deployment/a/b".into(),
            pod_uid: "u".into(),
        };
        let standing =
            Standing { epoch: 2, basis: vec![("f".into(), "*".into(), 5)], at_millis: 7 };
        let wanted = Wanted {
            subject,
            snapshot: content(&LONG),
            facts: content(b"facts"),
            discovery: content(b""),
            as_of: Arc::new(standing.clone()),
        };
        let sent = Sent {
            snapshot: wanted.snapshot.bytes.clone(),
            facts: wanted.facts.bytes.clone(),
            discovery: wanted.discovery.bytes.clone(),
        };
        let pieces = assignment(&credentials(), &wanted, &standing, 9, &sent).unwrap();
        assert!(pieces.iter().any(|piece| std::ptr::eq(piece.as_ptr(), LONG.as_ptr())));
        let message = ControllerMessage::decode(pieces.concat().as_slice()).unwrap();
        let found = message.assignment.unwrap();
        assert_eq!((found.snapshot.len(), found.facts.as_slice()), (5_000, &b"facts"[..]));
        let payload = found.envelope.unwrap().payload;
        let envelope = Envelope::decode(payload.as_slice()).unwrap();
        assert_eq!((envelope.serial, envelope.epoch, envelope.issued_at_millis), (9, 2, 7));
        assert_eq!(envelope.workload, "deployment/a/b");
    }
}
