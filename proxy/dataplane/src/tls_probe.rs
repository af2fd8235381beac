//! A probe by HTTPS, made for the kubelet: it asks the admin port in plaintext, which is exempt (semantics T6), and
//! we ask the application by TLS.
//!
//! Whom the application's certificate names is not looked at, as the kubelet wouldn't: it asks whether somebody
//! answers, and tells no secret. What may be asked is in the settings; a caller chooses among these by path, and adds
//! nothing but `User-Agent` and `Accept`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Collected, Empty, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::version::{TLS12, TLS13};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::limits;

/// A probe that a container declares by HTTPS, as the injector wrote it into the settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TlsProbe {
    /// What the kubelet asks of the admin port: `/probes/<container>/<field>`.
    pub path: String,
    /// The application's port.
    pub port: u16,
    /// How long the kubelet waits.
    pub timeout_seconds: u64,
    /// `httpGet` as declared.
    pub http_get: HttpGet,
}

/// What of `httpGet` matters to us (Kubernetes: `HTTPGetAction`); its port may be a name, ours is the number.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpGet {
    /// The target, with its query.
    #[serde(default = "root")]
    pub path: String,
    /// Sent along.
    #[serde(default)]
    pub http_headers: Vec<Header>,
}

/// A header of a probe.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// In any case.
    pub name: String,
    /// As it is sent.
    #[serde(default)]
    pub value: String,
}

fn root() -> String {
    "/".to_owned()
}

impl TlsProbe {
    /// How long its answer is waited for.
    pub fn limit(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds).min(limits::TLS_PROBE)
    }

    /// What of it can't be, and what was expected. What its author wrote is looked at when it is asked for: a probe
    /// that fails says why, a proxy that doesn't start stops all others, too.
    pub fn problem(&self) -> Option<(String, &'static str)> {
        if !self.path.starts_with("/probes/") {
            return Some((self.path.clone(), "a path that begins with /probes/"));
        }
        (self.port == 0).then(|| (self.port.to_string(), "a port that is not 0"))
    }

    fn target(&self) -> io::Result<Uri> {
        let path = &self.http_get.path;
        let parsed = if path.starts_with('/') { path.parse() } else { format!("/{path}").parse() };
        parsed.map_err(|error| io::Error::other(format!("path {path:?}: {error}")))
    }

    fn request(&self, address: SocketAddr, asked: &HeaderMap) -> io::Result<Request<Empty<Bytes>>> {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = self.target()?;
        let headers = request.headers_mut();
        let host = HeaderValue::try_from(address.to_string()).map_err(io::Error::other)?;
        headers.insert(HOST, host);
        for name in [USER_AGENT, ACCEPT] {
            if let Some(value) = asked.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        // First out, then in: several may have one name.
        for header in &self.http_get.http_headers {
            headers.remove(header.name.as_str());
        }
        for header in &self.http_get.http_headers {
            let (name, value) = header.read()?;
            headers.append(name, value);
        }
        Ok(request)
    }
}

impl Header {
    fn read(&self) -> io::Result<(HeaderName, HeaderValue)> {
        let broken = |_| io::Error::other(format!("header {:?} can't be sent", self.name));
        let name = HeaderName::try_from(&self.name).map_err(broken)?;
        let value = HeaderValue::try_from(&self.value);
        Ok((name, value.map_err(|_| io::Error::other(format!("header {:?}", self.name)))?))
    }
}

/// What the application at `address` answers, its status above all; 502 and 504 where it doesn't.
pub async fn ask(probe: &TlsProbe, address: IpAddr, asked: &HeaderMap) -> Response<Full<Bytes>> {
    let port = probe.port;
    let (status, said) = match timeout(probe.limit(), answered(probe, address, asked)).await {
        Ok(Ok(answer)) => return answer,
        Ok(Err(error)) => (StatusCode::BAD_GATEWAY, error.to_string()),
        Err(_) => {
            (StatusCode::GATEWAY_TIMEOUT, format!("no answer within {} s", probe.timeout_seconds))
        }
    };
    let text = format!("probe by TLS of port {port}: {said}\n");
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}

async fn answered(
    probe: &TlsProbe,
    address: IpAddr,
    asked: &HeaderMap,
) -> io::Result<Response<Full<Bytes>>> {
    let address = SocketAddr::new(address, probe.port);
    let request = probe.request(address, asked)?;
    let stream = TcpStream::connect(address).await?;
    let connector = TlsConnector::from(Arc::new(config().map_err(io::Error::other)?));
    let stream = connector.connect(ServerName::IpAddress(address.ip().into()), stream).await?;
    let (mut sender, connection) =
        http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // Ends with this call, also where the kubelet gave up.
    let mut driving = JoinSet::new();
    driving.spawn(connection);
    let answer = sender.send_request(request).await.map_err(io::Error::other)?;
    let status = answer.status();
    if status.is_informational() {
        return Err(io::Error::other(format!("it answered {status}")));
    }
    let kind = answer.headers().get(CONTENT_TYPE).cloned();
    let body = Limited::new(answer.into_body(), limits::TLS_PROBE_BODY_BYTES).collect().await;
    // A longer body is nobody's loss: the kubelet looks at the status.
    let body = body.map(Collected::to_bytes).unwrap_or_default();
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().extend(kind.map(|kind| (CONTENT_TYPE, kind)));
    Ok(response)
}

/// Like the kubelet's, and for this alone: any certificate, TLS 1.2 too, nothing resumed.
fn config() -> Result<ClientConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(Anybody { provider: Arc::clone(&provider) });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Whoever holds the key of the certificate it shows.
#[derive(Debug)]
struct Anybody {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
