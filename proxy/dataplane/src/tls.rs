//! Mutual TLS 1.3 with SPIFFE identities: configurations and the verifiers that stand behind them.
//!
//! None of them resumes by itself: tickets come from [`crate::resumption`], which binds them (TLS-12).

use std::io;
use std::sync::{Arc, LazyLock};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    PeerIncompatible, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::hello::Hello;
use crate::keyring::Trust;
use crate::resumption;
use crate::trust::{Role, TrustError};

/// HTTP/1.1 inside, between two proxies.
pub const ALPN_HTTP1: &[u8] = b"policyd/1+http1";
/// HTTP/2 inside, between two proxies.
pub const ALPN_HTTP2: &[u8] = b"policyd/1+h2";
/// Any other bytes inside.
pub const ALPN_TCP: &[u8] = b"policyd/1+tcp";
/// What an ordinary HTTP client says.
pub const ALPN_PLAIN_HTTP1: &[u8] = b"http/1.1";
/// gRPC, towards the control plane, and from ordinary clients.
pub const ALPN_GRPC: &[u8] = b"h2";

/// AES-128 first: it costs least and suffices; `X25519MLKEM768` first among the groups (design §7).
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    use aws_lc_rs::cipher_suite::{
        TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
    };
    let cipher_suites =
        vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256];
    Arc::new(CryptoProvider { cipher_suites, ..aws_lc_rs::default_provider() })
});

/// The algorithms of everything we do.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

fn handshake_algorithms() -> WebPkiSupportedAlgorithms {
    PROVIDER.signature_verification_algorithms
}

/// The configurations of the accepting end, by what the client asked for.
#[derive(Debug, Clone)]
pub struct ServerConfigs {
    /// For our own ALPN names.
    pub mesh: Arc<ServerConfig>,
    /// For an ordinary client that offers `http/1.1`.
    pub http1: Arc<ServerConfig>,
    /// For an ordinary client that offers `h2` alone.
    pub http2: Arc<ServerConfig>,
    /// For an ordinary client that offers nothing we speak: no name is chosen.
    pub unnamed: Arc<ServerConfig>,
}

impl ServerConfigs {
    /// Around one key and chain; peers are verified by the bundles of the moment.
    pub fn new(key: &Arc<CertifiedKey>, trust: &Arc<Trust>) -> Result<Self, Error> {
        let with = |names: &[&[u8]]| server_config(key, trust, names).map(Arc::new);
        Ok(Self {
            mesh: with(&[ALPN_HTTP1, ALPN_TCP, ALPN_HTTP2])?,
            http1: with(&[ALPN_PLAIN_HTTP1])?,
            http2: with(&[ALPN_GRPC])?,
            unnamed: with(&[])?,
        })
    }

    /// The same, with tickets. All of them have one verifier, so that a ticket of one is good for the others.
    #[must_use]
    pub fn with_tickets(&self, tickets: &Arc<dyn ProducesTickets>) -> Self {
        let with = |config: &Arc<ServerConfig>| {
            let mut config = ServerConfig::clone(config);
            config.ticketer = Arc::clone(tickets);
            config.send_tls13_tickets = 1;
            Arc::new(config)
        };
        Self {
            mesh: with(&self.mesh),
            http1: with(&self.http1),
            http2: with(&self.http2),
            unnamed: with(&self.unnamed),
        }
    }

    /// The one for what the client asked for.
    pub fn of(&self, hello: Hello) -> &Arc<ServerConfig> {
        match hello {
            Hello::Mesh => &self.mesh,
            Hello::OwnHttp1 => &self.http1,
            Hello::OwnHttp2 => &self.http2,
            Hello::OwnUnnamed | Hello::Foreign | Hello::Incomplete => &self.unnamed,
        }
    }
}

fn server_config(
    key: &Arc<CertifiedKey>,
    trust: &Arc<Trust>,
    alpn: &[&[u8]],
) -> Result<ServerConfig, Error> {
    let verifier = Arc::new(PeerIsClient { trust: Arc::clone(trust) });
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::clone(key))));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

/// The configuration of the dialling end: the other must prove to be `expected`. Without `key` it shows no certificate.
pub fn client_config(
    key: Option<&Arc<CertifiedKey>>,
    trust: &Arc<Trust>,
    expected: &str,
    alpn: &[u8],
) -> Result<ClientConfig, Error> {
    let verifier =
        Arc::new(PeerIsServer { trust: Arc::clone(trust), expected: expected.to_owned() });
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match key {
        None => builder.with_no_client_auth(),
        Some(key) => builder
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::clone(key)))),
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(config)
}

/// The name to ask for when dialling an identity `spiffe://<td>/ns/<ns>/sa/<sa>`: its DNS SAN.
pub fn server_name(identity: &str) -> Option<ServerName<'static>> {
    let (trust_domain, path) = identity.strip_prefix("spiffe://")?.split_once('/')?;
    let mut parts = path.split('/');
    let (Some("ns"), Some(namespace), Some("sa"), Some(account), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    ServerName::try_from(format!("{account}.{namespace}.sa.{trust_domain}")).ok()
}

/// Whether a failed handshake failed because of who the other end is (semantics I8), and what was wrong.
pub fn rejected_peer(error: &io::Error) -> Option<String> {
    match error.get_ref()?.downcast_ref::<Error>()? {
        Error::InvalidCertificate(CertificateError::Other(OtherError(problem))) => {
            Some(problem.to_string())
        }
        Error::InvalidCertificate(problem) => Some(format!("certificate: {problem}")),
        Error::NoCertificatesPresented => Some("it presented no certificate".to_owned()),
        _ => None,
    }
}

/// A chain that was not believed after the handshake, as if it had not been believed in it.
pub fn not_believed(error: TrustError) -> io::Error {
    io::Error::other(refused(error))
}

#[derive(Debug)]
struct PeerIsClient {
    trust: Arc<Trust>,
}

impl ClientCertVerifier for PeerIsClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain = whole_chain(end_entity, intermediates);
        let leaf =
            self.trust.bundles().verify(&chain, Role::Client, millis(now)).map_err(refused)?;
        resumption::proven(millis(now), leaf.not_after_millis);
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &handshake_algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        handshake_algorithms().supported_schemes()
    }
}

#[derive(Debug)]
struct PeerIsServer {
    trust: Arc<Trust>,
    expected: String,
}

impl ServerCertVerifier for PeerIsServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = whole_chain(end_entity, intermediates);
        let bundles = self.trust.bundles();
        bundles.verify_as(&chain, Role::Server, millis(now), &self.expected).map_err(refused)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &handshake_algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        handshake_algorithms().supported_schemes()
    }
}

fn whole_chain<'a>(
    end_entity: &CertificateDer<'a>,
    intermediates: &[CertificateDer<'a>],
) -> Vec<CertificateDer<'a>> {
    [std::slice::from_ref(end_entity), intermediates].concat()
}

fn millis(now: UnixTime) -> i64 {
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX).saturating_mul(1000)
}

/// The error as rustls knows it, so that the peer gets the alert that fits.
fn refused(error: TrustError) -> Error {
    let known = match &error {
        TrustError::Chain { problem: webpki::Error::UnknownIssuer, .. }
        | TrustError::UnknownTrustDomain(_) => CertificateError::UnknownIssuer,
        TrustError::Chain { problem: webpki::Error::CertExpired { .. }, .. } => {
            CertificateError::Expired
        }
        TrustError::Chain { problem: webpki::Error::CertNotValidYet { .. }, .. } => {
            CertificateError::NotValidYet
        }
        _ => CertificateError::Other(OtherError(Arc::new(error))),
    };
    Error::InvalidCertificate(known)
}
