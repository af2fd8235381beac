//! Bytes that policyd vouches for: its SVID verified, its signature checked (design §8).

use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;
use webpki::aws_lc_rs::ECDSA_P256_SHA256;

use crate::generated::Signed;
use crate::trust::{Bundles, Role, TrustError};

/// What the signature is over, besides the payload: a signature over one kind of message is none over another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// Of an `Assignment`.
    Envelope,
    /// Every minute.
    Confirmation,
}

impl Context {
    fn name(self) -> &'static str {
        match self {
            Self::Envelope => "policyd.v1.Envelope",
            Self::Confirmation => "policyd.v1.Confirmation",
        }
    }
}

/// Why bytes are not vouched for.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// The signer isn't policyd, or wasn't at that time.
    #[error("signer: {0}")]
    Signer(#[from] TrustError),
    /// The signature isn't the signer's.
    #[error("the signature does not verify")]
    Signature,
}

/// Checks that `expected` signed the payload, with a certificate that was valid at `at_millis`.
pub fn verify(
    signed: &Signed,
    context: Context,
    bundles: &Bundles,
    expected: &str,
    at_millis: i64,
) -> Result<(), SignatureError> {
    let chain: Vec<_> =
        signed.chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    bundles.verify_as(&chain, Role::Server, at_millis, expected)?;
    let leaf = chain.first().ok_or(SignatureError::Signature)?;
    let leaf = EndEntityCert::try_from(leaf).map_err(|_| SignatureError::Signature)?;
    let message = [context.name().as_bytes(), &[0], &signed.payload].concat();
    leaf.verify_signature(ECDSA_P256_SHA256, &message, &signed.signature)
        .map_err(|_| SignatureError::Signature)
}
