//! policyd's own SVID at work: it is what streams are accepted with, and what signs; and the roots that peers are verified by.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

/// What streams are accepted with, and nothing else: gRPC.
const ALPN: &[u8] = b"h2";

/// Key, chain or roots that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CredentialError(String);

fn unusable(what: &str, problem: impl std::fmt::Display) -> CredentialError {
    CredentialError(format!("{what}: {problem}"))
}

/// One SVID and the roots that came with it. Frozen: a renewal makes another.
pub(crate) struct Credentials {
    pub(crate) tls: Arc<ServerConfig>,
    signing: EcdsaKeyPair,
    /// DER, leaf first.
    pub(crate) chain: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Credentials")
    }
}

impl Credentials {
    /// `key`: PKCS #8, of P-256; `chain`: leaf first; `roots`: of our own trust domain; all in DER.
    pub(crate) fn new(
        key: &[u8],
        chain: Vec<Vec<u8>>,
        roots: Vec<Vec<u8>>,
    ) -> Result<Self, CredentialError> {
        let signing = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key)
            .map_err(|error| unusable("key", error))?;
        let key = PrivatePkcs8KeyDer::from(key.to_vec());
        let provider = Arc::new(provider::default_provider());
        let certificates = chain.iter().cloned().map(CertificateDer::from).collect();
        let certified = CertifiedKey::from_der(certificates, key.into(), &provider)
            .map_err(|error| unusable("chain", error))?;
        let tls = server_config(certified, roots, provider)?;
        Ok(Self { tls: Arc::new(tls), signing, chain })
    }

    /// ECDSA P-256 with SHA-256, ASN.1 DER.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CredentialError> {
        self.signing
            .sign(&SystemRandom::new(), message)
            .map(|signature| signature.as_ref().to_vec())
            .map_err(|error| unusable("signing", error))
    }
}

/// TLS 1.3, a client certificate required, nothing resumed: who a peer is, is proven in each handshake (TLS-12).
fn server_config(
    certified: CertifiedKey,
    roots: Vec<Vec<u8>>,
    provider: Arc<CryptoProvider>,
) -> Result<ServerConfig, CredentialError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(CertificateDer::from(root)).map_err(|error| unusable("roots", error))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider.clone())
        .clear_root_hint_subjects()
        .build()
        .map_err(|error| unusable("roots", error))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| unusable("TLS", error))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}
