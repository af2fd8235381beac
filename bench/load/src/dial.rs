//! Connections to the proxy: plaintext, or TLS 1.3 with our certificate.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::TLS13;
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{Group, TargetArguments};

/// Either kind of connection.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// A connection.
pub(crate) type Stream = Box<dyn Io>;

/// How to reach the proxy.
pub(crate) struct Dialler {
    address: SocketAddr,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Dialler {
    /// Reads the certificates.
    pub(crate) fn new(target: &TargetArguments) -> io::Result<Self> {
        let tls = match (&target.roots, &target.server_name) {
            (Some(roots), Some(name)) => {
                let name = ServerName::try_from(name.clone()).map_err(io::Error::other)?;
                Some((TlsConnector::from(Arc::new(config(target, roots)?)), name))
            }
            _ => None,
        };
        Ok(Self { address: target.address, tls })
    }

    /// Connects; also says whether a session was resumed.
    pub(crate) async fn dial(&self) -> io::Result<(Stream, bool)> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let Some((connector, name)) = &self.tls else { return Ok((Box::new(stream), false)) };
        let stream = connector.connect(name.clone(), stream).await?;
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        Ok((Box::new(stream), resumed))
    }
}

/// AES-128-GCM and one group only, so that every proxy does the same work.
fn config(target: &TargetArguments, roots: &Path) -> io::Result<ClientConfig> {
    let group = match target.group {
        Group::X25519 => aws_lc_rs::kx_group::X25519,
        Group::X25519mlkem768 => aws_lc_rs::kx_group::X25519MLKEM768,
    };
    let provider = CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![group],
        ..aws_lc_rs::default_provider()
    };
    let mut store = RootCertStore::empty();
    for root in certificates(roots)? {
        store.add(root).map_err(io::Error::other)?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(io::Error::other)?
        .with_root_certificates(store);
    let mut config = match (&target.chain, &target.key) {
        (Some(chain), Some(key)) => {
            let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
            builder.with_client_auth_cert(certificates(chain)?, key).map_err(io::Error::other)?
        }
        _ => builder.with_no_client_auth(),
    };
    if !target.resume {
        config.resumption = Resumption::disabled();
    }
    config.alpn_protocols = target.alpn.iter().map(|name| name.clone().into_bytes()).collect();
    Ok(config)
}

fn certificates(file: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| io::Error::other(format!("{}: {error}", file.display())))
}
