//! One certificate from identity: a new key, a request that carries nothing but it, the token, and a hard look at the
//! answer.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use tokio::time::timeout;

use crate::clock;
use crate::control::{self, ControlTarget, Show};
use crate::credentials::{InvalidCredentials, KeyAndChain, Own};
use crate::generated::identity_client::IdentityClient;
use crate::generated::{CertifyRequest, TrustBundles};
use crate::keyring::{Credentials, Keyring};
use crate::limits;
use crate::trust::{BundleError, Bundles};

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum IssuanceError {
    /// The token file.
    #[error("token file {path}: {problem}")]
    Token {
        /// Its path.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// No key could be made.
    #[error("making a key: {0}")]
    Key(#[from] rcgen::Error),
    /// identity refused, or can't be reached.
    #[error("identity: {}: {}", .0.code(), .0.message())]
    Call(Box<tonic::Status>),
    /// identity took too long.
    #[error("identity: no answer within {} s", limits::CONTROL_CALL.as_secs())]
    Late,
    /// What came back can't be used.
    #[error(transparent)]
    Invalid(#[from] InvalidCredentials),
    /// The bundles that came with it can't be used.
    #[error(transparent)]
    Bundles(#[from] BundleError),
}

impl From<tonic::Status> for IssuanceError {
    fn from(status: tonic::Status) -> Self {
        Self::Call(Box::new(status))
    }
}

/// What identity gave us, checked.
#[derive(Debug)]
pub struct Issued {
    /// Ready to be shown.
    pub credentials: Credentials,
    /// To be kept.
    pub stored: KeyAndChain,
    /// The bundles that came with it, as sent and as read.
    pub bundles: (TrustBundles, Bundles),
}

/// Where a certificate comes from, and for whom.
#[derive(Debug, Clone)]
pub struct Issuance {
    /// identity.
    pub target: ControlTarget,
    /// Us.
    pub own: Own,
    /// Our trust domain.
    pub trust_domain: String,
    /// Read again for each request: the kubelet replaces it.
    pub token_file: std::path::PathBuf,
}

impl Issuance {
    /// Asks for one certificate. With `Show::Certificate` it is a renewal.
    pub async fn request(
        &self,
        keyring: &Arc<Keyring>,
        show: Show,
    ) -> Result<Issued, IssuanceError> {
        let token = read_token(&self.token_file)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut names = CertificateParams::new(Vec::new())?;
        names.distinguished_name = DistinguishedName::new();
        let csr = names.serialize_request(&key)?.der().to_vec();
        let call = async {
            let channel = control::connect(&self.target, keyring, show).await?;
            let mut client = IdentityClient::new(channel)
                .max_decoding_message_size(limits::IDENTITY_MESSAGE_BYTES);
            client.certify(CertifyRequest { csr, token }).await
        };
        let answer = timeout(limits::CONTROL_CALL, call)
            .await
            .map_err(|_| IssuanceError::Late)??
            .into_inner();
        let message = answer.bundles.unwrap_or_default();
        let bundles = Bundles::new(&message, &self.trust_domain)?;
        let stored = KeyAndChain { key: key.serialize_der(), chain: answer.chain };
        let credentials =
            stored.check(&self.own, &bundles, keyring.trust(), clock::now_millis())?;
        same_pod(keyring, &credentials)?;
        Ok(Issued { credentials, stored, bundles: (message, bundles) })
    }
}

/// A pod stays the pod it is.
fn same_pod(keyring: &Keyring, new: &Credentials) -> Result<(), InvalidCredentials> {
    let before = keyring.credentials().and_then(|old| old.leaf.pod_uid.clone());
    if before.is_some() && before != new.leaf.pod_uid {
        let found = &new.leaf.pod_uid;
        return Err(InvalidCredentials(format!(
            "it is for the pod uid {found:?}, expected {before:?}"
        )));
    }
    Ok(())
}

fn read_token(path: &Path) -> Result<String, IssuanceError> {
    let broken =
        |problem: String| IssuanceError::Token { path: path.display().to_string(), problem };
    let text = fs::read_to_string(path).map_err(|error| broken(error.to_string()))?;
    let token = text.trim();
    if token.is_empty()
        || token.len() > limits::TOKEN_BYTES
        || !token.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err(broken(format!("{} bytes: expected one token of printable ASCII", text.len())));
    }
    Ok(token.to_owned())
}
