//! A certificate with its key, checked before it is believed to be ours, and kept so that a restart keeps the identity.

use std::sync::Arc;

use prost::Message;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::keyring::{Credentials, Trust};
use crate::settings::Settings;
use crate::state_dir::StateDir;
use crate::tls::ServerConfigs;
use crate::trust::{Bundles, Role, TrustError};

const FILE: &str = "svid";

/// Who we are, whatever a certificate says.
#[derive(Debug, Clone)]
pub struct Own {
    /// Our SPIFFE ID.
    pub identity: String,
    /// The one DNS SAN that a certificate of ours may have.
    pub server_name: String,
}

impl Own {
    /// From the settings.
    pub fn new(settings: &Settings) -> Self {
        Self { identity: settings.own_identity(), server_name: settings.own_server_name() }
    }
}

/// A certificate that isn't ours, or can't be used (TLS-18).
#[derive(Debug, thiserror::Error)]
#[error("ISSUED_CERT_INVALID: {0}")]
pub struct InvalidCredentials(pub String);

impl From<TrustError> for InvalidCredentials {
    fn from(error: TrustError) -> Self {
        Self(error.to_string())
    }
}

/// Key and chain as they are kept.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct KeyAndChain {
    /// PKCS#8, DER.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// Certificates in DER, leaf first.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub chain: Vec<Vec<u8>>,
}

impl KeyAndChain {
    /// Checks that this is our certificate and our key, valid now and under these bundles, and makes it usable.
    /// Handshakes with it are verified by `trust`, as that is then.
    pub fn check(
        &self,
        own: &Own,
        bundles: &Bundles,
        trust: &Arc<Trust>,
        now_millis: i64,
    ) -> Result<Credentials, InvalidCredentials> {
        let chain: Vec<_> =
            self.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let leaf = bundles.verify_as(&chain, Role::Client, now_millis, &own.identity)?;
        bundles.verify_as(&chain, Role::Server, now_millis, &own.identity)?;
        if leaf.other_names > 0 || leaf.dns_names.iter().any(|name| *name != own.server_name) {
            return Err(InvalidCredentials(format!(
                "it has names besides `{}` and `{}`",
                own.identity, own.server_name
            )));
        }
        let key = self.certified_key(&chain)?;
        let server = ServerConfigs::new(&key, trust)
            .map_err(|error| InvalidCredentials(error.to_string()))?;
        Ok(Credentials { leaf, chain, key, server })
    }

    /// The key with its chain, if the leaf was made for this very key.
    fn certified_key(
        &self,
        chain: &[CertificateDer<'static>],
    ) -> Result<Arc<CertifiedKey>, InvalidCredentials> {
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let key =
            any_supported_type(&der).map_err(|error| InvalidCredentials(error.to_string()))?;
        let certified = CertifiedKey::new(chain.to_vec(), key);
        certified
            .keys_match()
            .map_err(|_| InvalidCredentials("it was made for another key than ours".to_owned()))?;
        Ok(Arc::new(certified))
    }

    /// Keeps them for the next start.
    pub fn keep(&self, state: &StateDir) -> std::io::Result<()> {
        state.write(FILE, &self.encode_to_vec())
    }
}

/// What the state folder holds, checked; none if there is nothing usable. What can't be used is moved aside, and why is
/// said.
pub fn kept(
    state: &StateDir,
    own: &Own,
    trust: &Arc<Trust>,
    now_millis: i64,
) -> Result<Option<Credentials>, String> {
    let bytes = match state.read(FILE) {
        Ok(None) => return Ok(None),
        Ok(Some(bytes)) => bytes,
        Err(error) => return Err(set_aside(state, &error.to_string())),
    };
    let stored = KeyAndChain::decode(bytes.as_slice())
        .map_err(|error| set_aside(state, &error.to_string()))?;
    match stored.check(own, &trust.bundles(), trust, now_millis) {
        Ok(credentials) => Ok(Some(credentials)),
        Err(InvalidCredentials(problem)) => Err(set_aside(state, &problem)),
    }
}

fn set_aside(state: &StateDir, problem: &str) -> String {
    state.set_aside(FILE);
    format!("the kept certificate is not used: {problem}")
}

#[cfg(test)]
pub(crate) mod tests;
