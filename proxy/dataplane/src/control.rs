//! Connections to the control plane: gRPC over our own TLS, to a service that must prove its identity.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;

use crate::clock;
use crate::keyring::Keyring;
use crate::limits;
use crate::tls;

/// A service of the control plane.
#[derive(Debug, Clone)]
pub struct ControlTarget {
    /// `host:port`, resolved at each connect.
    pub address: String,
    /// The SPIFFE ID it must prove.
    pub identity: String,
}

/// Whether we show our own certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// If we have a valid one.
    Certificate,
    /// The token speaks for us.
    Nothing,
}

/// Dials one service. The connection lives as long as the channel.
pub async fn connect(
    target: &ControlTarget,
    keyring: &Arc<Keyring>,
    show: Show,
) -> Result<Channel, tonic::Status> {
    let key = match show {
        Show::Certificate => {
            keyring.valid_credentials(clock::now_millis()).map(|own| Arc::clone(&own.key))
        }
        Show::Nothing => None,
    };
    let config =
        tls::client_config(key.as_ref(), keyring.trust(), &target.identity, tls::ALPN_GRPC)
            .map_err(|error| tonic::Status::internal(format!("TLS: {error}")))?;
    let dial = Dial { target: target.clone(), config: Arc::new(config) };
    // The scheme is that of the bytes inside; TLS is the connector's.
    Endpoint::from_static("http://control-plane.policyd")
        .connect_timeout(limits::CONTROL_CALL)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .connect_with_connector(dial)
        .await
        .map_err(|error| tonic::Status::unavailable(causes(&error)))
}

/// An error with what caused it, in one line.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[derive(Debug, Clone)]
struct Dial {
    target: ControlTarget,
    config: Arc<ClientConfig>,
}

type Dialling = Pin<Box<dyn Future<Output = io::Result<TokioIo<TlsStream<TcpStream>>>> + Send>>;

impl Service<Uri> for Dial {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Dialling;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Dialling {
        let dial = self.clone();
        Box::pin(async move {
            let tcp = timeout(limits::CONNECT, TcpStream::connect(&dial.target.address)).await??;
            tcp.set_nodelay(true)?;
            let name = tls::server_name(&dial.target.identity).ok_or_else(|| {
                io::Error::other(format!("`{}` has no server name", dial.target.identity))
            })?;
            let handshake = TlsConnector::from(dial.config).connect(name, tcp);
            Ok(TokioIo::new(timeout(limits::HANDSHAKE, handshake).await??))
        })
    }
}
