//! Whom we believe: the roots of each trust domain, and chains verified against those of the peer's own.

use std::collections::HashMap;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, aws_lc_rs as algorithms};

use crate::certificate::{Leaf, LeafError};
use crate::generated::TrustBundles;
use crate::limits;

mod verified;

use verified::{Verified, mark};

/// What a peer's certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It dialled us.
    Client,
    /// We dialled it.
    Server,
}

/// Why a peer is not who it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The leaf itself.
    #[error("certificate: {0}")]
    Leaf(#[from] LeafError),
    /// More certificates or bytes than are read.
    #[error(
        "its certificate chain has {certificates} certificates and {bytes} bytes, expected at most 4 and 16384"
    )]
    ChainTooLong {
        /// How many.
        certificates: usize,
        /// How big.
        bytes: usize,
    },
    /// No bundle of that trust domain.
    #[error("no trust bundle for the trust domain `{0}`")]
    UnknownTrustDomain(String),
    /// The chain doesn't verify.
    #[error("certificate chain of `{identity}`: {problem}")]
    Chain {
        /// Who it would have been.
        identity: String,
        /// As the verifier says.
        problem: webpki::Error,
    },
    /// Somebody else than expected (semantics I8).
    #[error("the peer is `{found}`, expected `{expected}`")]
    Unexpected {
        /// Who it is.
        found: String,
        /// Who it should be.
        expected: String,
    },
}

/// A bundle that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A root of it.
    #[error("trust bundle of `{trust_domain}`: root {index}: {problem}")]
    Root {
        /// Whose.
        trust_domain: String,
        /// Which, from 0.
        index: usize,
        /// As the parser says.
        problem: webpki::Error,
    },
    /// Our own trust domain has no roots, or appears twice.
    #[error("trust bundles: `{trust_domain}` appears {count} times with roots, expected once")]
    Own {
        /// Ours.
        trust_domain: String,
        /// How often.
        count: usize,
    },
}

/// The roots of every trust domain we know.
#[derive(Debug, Default)]
pub struct Bundles {
    sequence: u64,
    anchors: HashMap<String, Vec<TrustAnchor<'static>>>,
    verified: Verified,
}

impl Bundles {
    /// From identity's message. Our own trust domain must be there: a bundle without it would cut off everything, the
    /// control plane with it.
    pub fn new(message: &TrustBundles, own: &str) -> Result<Self, BundleError> {
        let mut anchors = HashMap::new();
        for bundle in &message.bundles {
            let ders = bundle.roots.iter().map(|der| CertificateDer::from(der.as_slice()));
            let roots = read_roots(&bundle.trust_domain, ders)?;
            if anchors.insert(bundle.trust_domain.clone(), roots).is_some() {
                return Err(BundleError::Own {
                    trust_domain: bundle.trust_domain.clone(),
                    count: 2,
                });
            }
        }
        if anchors.get(own).is_none_or(Vec::is_empty) {
            return Err(BundleError::Own { trust_domain: own.to_owned(), count: 0 });
        }
        Ok(Self { sequence: message.sequence, anchors, verified: Verified::default() })
    }

    /// From the roots file: our own trust domain only.
    pub fn from_roots(own: &str, roots: &[CertificateDer<'_>]) -> Result<Self, BundleError> {
        let roots_read = read_roots(own, roots.iter().cloned())?;
        if roots_read.is_empty() {
            return Err(BundleError::Own { trust_domain: own.to_owned(), count: 0 });
        }
        let anchors = HashMap::from([(own.to_owned(), roots_read)]);
        Ok(Self { sequence: 0, anchors, verified: Verified::default() })
    }

    /// Rises with every change.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Verifies a chain, leaf first, as of `at` (milliseconds since the epoch), and says who it is. The roots are those
    /// of the trust domain that the leaf itself names, no others.
    pub fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        role: Role,
        at_millis: i64,
    ) -> Result<Leaf, TrustError> {
        let bytes = chain.iter().map(|certificate| certificate.len()).sum();
        if chain.len() > limits::CHAIN_CERTIFICATES || bytes > limits::CHAIN_BYTES {
            return Err(TrustError::ChainTooLong { certificates: chain.len(), bytes });
        }
        let mark = mark(chain, role);
        if let Some(leaf) = self.verified.get(&mark, at_millis) {
            return Ok(leaf);
        }
        let (first, intermediates) = chain.split_first().ok_or(LeafError::Malformed)?;
        let leaf = Leaf::read(first)?;
        let domain = leaf.identity.trust_domain();
        let anchors = self.anchors.get(domain);
        let anchors = anchors.ok_or_else(|| TrustError::UnknownTrustDomain(domain.to_owned()))?;
        verify_path(first, intermediates, anchors, role, at_millis).map_err(|problem| {
            TrustError::Chain { identity: leaf.identity.to_string(), problem }
        })?;
        self.verified.put(mark, chain, &leaf);
        Ok(leaf)
    }

    /// As [`Self::verify`], and it must be this one identity, byte for byte (semantics I8).
    pub fn verify_as(
        &self,
        chain: &[CertificateDer<'_>],
        role: Role,
        at_millis: i64,
        expected: &str,
    ) -> Result<Leaf, TrustError> {
        let leaf = self.verify(chain, role, at_millis)?;
        if leaf.identity.as_str() == expected {
            return Ok(leaf);
        }
        Err(TrustError::Unexpected {
            found: leaf.identity.to_string(),
            expected: expected.to_owned(),
        })
    }
}

fn read_roots<'a>(
    trust_domain: &str,
    roots: impl Iterator<Item = CertificateDer<'a>>,
) -> Result<Vec<TrustAnchor<'static>>, BundleError> {
    roots
        .enumerate()
        .map(|(index, der)| {
            let anchor = webpki::anchor_from_trusted_cert(&der).map(|anchor| anchor.to_owned());
            let trust_domain = trust_domain.to_owned();
            anchor.map_err(|problem| BundleError::Root { trust_domain, index, problem })
        })
        .collect()
}

/// Signatures that are believed: nothing with SHA-1, nothing weaker than P-256 or RSA 2048 (TLS-09).
static SIGNATURES: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::ED25519,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
];

fn verify_path(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
    role: Role,
    at_millis: i64,
) -> Result<(), webpki::Error> {
    let parsed = EndEntityCert::try_from(leaf)?;
    let verify = |at: Duration| {
        let usage = match role {
            Role::Client => KeyUsage::client_auth(),
            Role::Server => KeyUsage::server_auth(),
        };
        let at = UnixTime::since_unix_epoch(at);
        parsed
            .verify_for_usage(SIGNATURES, anchors, intermediates, at, usage, None, None)
            .map(|_| ())
    };
    let now = Duration::from_millis(u64::try_from(at_millis).unwrap_or(0));
    match verify(now) {
        // A clock a little behind the issuer's: a minute is forgiven, for the beginning only (what has ended by then fails
        // this second look, too).
        Err(webpki::Error::CertNotValidYet { .. }) => verify(now + limits::NOT_BEFORE_SKEW),
        other => other,
    }
}

#[cfg(test)]
pub(crate) mod tests;
