//! One endpoint of a service, dialled: who it is must be who it should be, and stay so.

use std::io;
use std::sync::Arc;

use engine::{Arrival, Connection, Decision, Form, Reason, decide};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificate::Leaf;
use crate::clock;
use crate::discovery::Endpoint;
use crate::enforcement::Enforced;
use crate::limits;
use crate::shared::Shared;
use crate::sockets;
use crate::tls;
use crate::trust::Role;

/// Proof that an endpoint was checked. Only [`reach`] makes one.
#[derive(Debug)]
pub struct Passage {
    #[allow(dead_code, reason = "private, so that only this module can make a passage")]
    checked: (),
}

/// A connection to an endpoint.
#[derive(Debug)]
pub enum Reached {
    /// Mutual TLS; the endpoint is who it should be.
    Meshed(Box<TlsStream<TcpStream>>, Proven),
    /// An endpoint without identity, where that is allowed.
    Plain(TcpStream),
}

/// An endpoint that proved its identity.
#[derive(Debug)]
pub struct Proven {
    leaf: Leaf,
    chain: Vec<CertificateDer<'static>>,
}

/// Why an endpoint isn't used.
#[derive(Debug)]
pub enum Unreached {
    /// It must not be: a denial, and no other endpoint is tried.
    Refused(Reason, String),
    /// It can't be: another one may.
    Failed(io::Error),
}

impl From<io::Error> for Unreached {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Dials an endpoint and checks it. `alpn` says what will be inside.
pub async fn reach(
    shared: &Shared,
    enforced: &Enforced,
    endpoint: &Endpoint,
    alpn: &[u8],
) -> Result<(Reached, Passage), Unreached> {
    let passage = Passage { checked: () };
    let Some(identity) = &endpoint.identity else {
        if !enforced.discovery.plaintext() {
            return Err(Unreached::Refused(
                Reason::NoIdentity,
                "the endpoint is not meshed".to_owned(),
            ));
        }
        let stream = sockets::dial(shared.settings.source_address, endpoint.address).await?;
        return Ok((Reached::Plain(stream), passage));
    };
    let stream = sockets::dial(shared.settings.source_address, endpoint.address).await?;
    let stream = handshake(shared, stream, identity, alpn).await?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
    let first =
        chain.first().ok_or_else(|| io::Error::other("the endpoint showed no certificate"))?;
    let leaf = Leaf::read(first).map_err(io::Error::other)?;
    let proven = Proven { leaf, chain };
    if let Some(reason) = proven.rejected(shared, enforced, endpoint) {
        return Err(Unreached::Refused(reason, format!("`{identity}` is revoked or has expired")));
    }
    Ok((Reached::Meshed(Box::new(stream), proven), passage))
}

/// FAIL-CLOSED: a meshed endpoint is never tried without TLS (semantics T7).
async fn handshake(
    shared: &Shared,
    stream: TcpStream,
    identity: &str,
    alpn: &[u8],
) -> Result<TlsStream<TcpStream>, Unreached> {
    let own = shared.keyring.valid_credentials(clock::now_millis());
    let own = own.ok_or_else(|| io::Error::other("we have no valid certificate"))?;
    let config = tls::client_config(Some(&own.key), shared.keyring.trust(), identity, alpn)
        .map_err(io::Error::other)?;
    let name = tls::server_name(identity).unwrap_or_else(|| address_name(&stream));
    let work = TlsConnector::from(Arc::new(config)).connect(name, stream);
    match timeout(limits::HANDSHAKE, work).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => match tls::rejected_peer(&error) {
            Some(problem) => Err(Unreached::Refused(Reason::PeerRejected, problem)),
            None => Err(Unreached::Failed(error)),
        },
        Err(elapsed) => Err(Unreached::Failed(elapsed.into())),
    }
}

/// For identities of another form than ours there is no DNS name to ask for.
fn address_name(stream: &TcpStream) -> ServerName<'static> {
    let unspecified = std::net::IpAddr::from([0, 0, 0, 0]);
    ServerName::from(stream.peer_addr().map_or(unspecified, |address| address.ip()))
}

impl Proven {
    /// Why this peer may no longer be talked to: revoked, expired (semantics I9), under a root that is gone, or judged by a
    /// table that is too old to say.
    pub fn rejected(
        &self,
        shared: &Shared,
        enforced: &Enforced,
        endpoint: &Endpoint,
    ) -> Option<Reason> {
        let bundles = shared.keyring.trust().bundles();
        let identity = endpoint.identity.as_deref().unwrap_or_default();
        if bundles.verify_as(&self.chain, Role::Server, clock::now_millis(), identity).is_err() {
            return Some(Reason::PeerRejected);
        }
        let peer = self.leaf.peer(&shared.settings.trust_domain);
        let (table, facts) = (Arc::clone(&enforced.table), Arc::clone(&enforced.facts));
        let connection = Connection::open(
            table,
            facts,
            endpoint.address.port(),
            endpoint.address.ip(),
            Some(peer),
        );
        // Steps 1 and 4 of D1 are about the table's age and the peer alone; what follows is about somebody calling us.
        let decision = decide(&connection, &Arrival::Bytes, enforced.moment());
        let reason = decision.reason();
        matches!(reason, Reason::PolicyStale | Reason::PeerRejected).then_some(reason)
    }

    /// The SPIFFE ID that was proven.
    pub fn identity(&self) -> &str {
        self.leaf.identity.as_str()
    }
}

/// Whether an unmeshed endpoint may no longer be talked to.
pub fn plain_rejected(enforced: &Enforced) -> Option<Reason> {
    (!enforced.discovery.plaintext()).then_some(Reason::NoIdentity)
}

/// A refusal of the outbound side.
pub fn refusal(reason: Reason, http: bool) -> Decision {
    Decision::refusal(reason, if http { Form::Http } else { Form::Closed })
}
