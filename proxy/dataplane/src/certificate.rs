//! What a leaf certificate says about a peer, and whether it may say it (X509-SVID §2–§5; `security.md` TLS-03 to TLS-05).
//!
//! Nothing here trusts: chains are verified in [`crate::trust`].

use aws_lc_rs::digest;
use engine::identity::SpiffeId;
use engine::{Peer, Timestamp};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Version;

/// The arc under 2.25 (a UUID) of the extension with the pod's uid.
const POD_UID_ARC: u128 = 0x30c6_dfd6_3b56_4eb6_90ad_d707_9c2e_8481;
/// That OID as the bytes of its DER body: one for 2.25, then 18 groups of seven bits, for the arc has 126.
const POD_UID_OID: [u8; 19] = uuid_oid(POD_UID_ARC);

const POD_UID_BYTES: usize = 128;

/// Why a certificate is no leaf of a workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// Not DER of an X.509 v3 certificate.
    #[error("it isn't an X.509 v3 certificate in DER")]
    Malformed,
    /// Zero or several URI SANs.
    #[error("it has {0} URI SANs, expected exactly one")]
    UriCount(usize),
    /// The URI SAN is no SPIFFE ID.
    #[error("its URI SAN is no SPIFFE ID: {0}")]
    SpiffeId(String),
    /// It may sign certificates, or may not sign a handshake.
    #[error("{0}")]
    Usage(&'static str),
    /// The pod uid extension can't be read.
    #[error("its pod uid extension can't be read")]
    PodUid,
}

/// What a leaf says.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// Its one URI SAN.
    pub identity: SpiffeId,
    /// The pod it was made for; to be honoured from our own issuers only.
    pub pod_uid: Option<String>,
    /// SHA-256 of the DER.
    pub sha256: [u8; 32],
    /// Milliseconds since the epoch.
    pub not_before_millis: i64,
    /// Milliseconds since the epoch.
    pub not_after_millis: i64,
    /// Its DNS SANs.
    pub dns_names: Vec<String>,
    /// How many SANs it has that are neither URI nor DNS name.
    pub other_names: usize,
}

impl Leaf {
    /// Reads a leaf and checks what X509-SVID asks of one.
    pub fn read(der: &[u8]) -> Result<Self, LeafError> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| LeafError::Malformed)?;
        if !rest.is_empty() || certificate.version() != X509Version::V3 {
            return Err(LeafError::Malformed);
        }
        check_usage(&certificate)?;
        let (identity, dns_names, other_names) = names(&certificate)?;
        let validity = certificate.validity();
        Ok(Self {
            identity,
            pod_uid: pod_uid(&certificate)?,
            sha256: sha256(der),
            not_before_millis: validity.not_before.timestamp().saturating_mul(1000),
            not_after_millis: validity.not_after.timestamp().saturating_mul(1000),
            dns_names,
            other_names,
        })
    }

    /// SHA-256 of the DER, lower-case hex.
    pub fn sha256_hex(&self) -> String {
        hex(&self.sha256)
    }

    /// The peer as the engine knows it. A pod uid counts only from an issuer of our own trust domain (design §7).
    pub fn peer(&self, own_trust_domain: &str) -> Peer {
        let ours = self.identity.trust_domain() == own_trust_domain;
        Peer {
            identity: self.identity.clone(),
            pod_uid: self.pod_uid.as_deref().filter(|_| ours).map(Into::into),
            certificate_sha256: self.sha256,
            not_before: Timestamp(self.not_before_millis),
            not_after: Timestamp(self.not_after_millis),
        }
    }
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    // The digest of this algorithm is 32 bytes long.
    sum.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    sum
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(*byte));
    }
    text
}

/// The one URI SAN as SPIFFE ID, the DNS SANs, and how many others there are.
fn names(certificate: &X509Certificate<'_>) -> Result<(SpiffeId, Vec<String>, usize), LeafError> {
    let extension = certificate.subject_alternative_name().map_err(|_| LeafError::Malformed)?;
    let names = extension.map_or(&[][..], |found| &found.value.general_names);
    let mut uris = Vec::new();
    let mut dns_names = Vec::new();
    let mut others = 0;
    for name in names {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            GeneralName::DNSName(name) => dns_names.push((*name).to_owned()),
            // FAIL-CLOSED: a name that can't be read might be a second URI.
            GeneralName::Invalid(..) => return Err(LeafError::Malformed),
            _ => others += 1,
        }
    }
    let [uri] = uris.as_slice() else { return Err(LeafError::UriCount(uris.len())) };
    let identity = SpiffeId::parse(uri).map_err(|error| LeafError::SpiffeId(error.to_string()))?;
    Ok((identity, dns_names, others))
}

fn check_usage(certificate: &X509Certificate<'_>) -> Result<(), LeafError> {
    let basic = certificate.basic_constraints().map_err(|_| LeafError::Malformed)?;
    if basic.is_some_and(|found| found.value.ca) {
        return Err(LeafError::Usage("it is a CA certificate"));
    }
    let usage = certificate.key_usage().map_err(|_| LeafError::Malformed)?;
    let usage = usage.ok_or(LeafError::Usage("it has no key usage"))?.value;
    if usage.key_cert_sign() || usage.crl_sign() {
        return Err(LeafError::Usage("its key may sign certificates or revocation lists"));
    }
    if !usage.digital_signature() {
        return Err(LeafError::Usage(
            "its key may not sign a handshake (digitalSignature is missing)",
        ));
    }
    Ok(())
}

fn pod_uid(certificate: &X509Certificate<'_>) -> Result<Option<String>, LeafError> {
    let mut found = certificate
        .extensions()
        .iter()
        .filter(|extension| extension.oid.as_bytes() == POD_UID_OID.as_slice());
    let Some(extension) = found.next() else { return Ok(None) };
    // FAIL-CLOSED: two uids are as good as none that could be believed.
    if found.next().is_some()
        || !matches!(extension.parsed_extension(), ParsedExtension::UnsupportedExtension { .. })
    {
        return Err(LeafError::PodUid);
    }
    utf8_string(extension.value).map(|uid| Some(uid.to_owned())).ok_or(LeafError::PodUid)
}

const fn uuid_oid(arc: u128) -> [u8; 19] {
    let mut oid = [0; 19];
    oid[0] = 2 * 40 + 25;
    let mut at = 1;
    while at < 19 {
        let group = (arc >> (7 * (18 - at))).to_le_bytes()[0] & 0x7f;
        let more = if at < 18 { 0x80 } else { 0 };
        oid[at] = group | more;
        at += 1;
    }
    oid
}

/// The text of a DER `UTF8String` of less than 128 bytes.
fn utf8_string(der: &[u8]) -> Option<&str> {
    const UTF8_STRING: u8 = 0x0c;
    let (&[tag, length], text) = der.split_first_chunk::<2>()?;
    let fits =
        tag == UTF8_STRING && usize::from(length) == text.len() && text.len() < POD_UID_BYTES;
    let text = if fits { std::str::from_utf8(text).ok()? } else { return None };
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (!text.is_empty() && text.bytes().all(legal)).then_some(text)
}

#[cfg(test)]
mod tests;
