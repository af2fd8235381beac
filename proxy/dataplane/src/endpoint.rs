//! One endpoint of a service, dialled: who it is must be who it should be, and stay so.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use engine::{Arrival, Connection, Reason, decide};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificate::Leaf;
use crate::clock;
use crate::departures::Departure;
use crate::discovery::Endpoint;
use crate::enforcement::Enforced;
use crate::limits;
use crate::resumption::Call;
use crate::service_metrics::Trouble;
use crate::shared::Shared;
use crate::sockets;
use crate::tls;
use crate::trust::{Bundles, Role};

/// Proof that an endpoint was checked. Only [`reach`] makes one.
#[derive(Debug)]
pub struct Passage {
    #[allow(dead_code, reason = "private, so that only this module can make a passage")]
    checked: (),
}

/// A stream of either kind.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + fmt::Debug {}

impl<S: AsyncRead + AsyncWrite + Unpin + fmt::Debug> Duplex for S {}

/// A connection to an endpoint: mutual TLS, or plaintext where that is allowed.
pub type Wire = Box<dyn Duplex>;

/// An endpoint that was reached and checked.
#[derive(Debug)]
pub struct Checked {
    /// Which, as discovery had it then.
    pub endpoint: Endpoint,
    /// Who it proved to be; none for an endpoint without identity.
    proven: Option<Proven>,
    /// The port that it was dialled from.
    departure: Option<Departure>,
    passage: Passage,
}

impl AsRef<Passage> for Checked {
    fn as_ref(&self) -> &Passage {
        &self.passage
    }
}

impl Checked {
    /// Whether there is mutual TLS.
    pub fn is_meshed(&self) -> bool {
        self.proven.is_some()
    }

    /// Why it may no longer be talked to.
    pub fn rejected(&self, shared: &Shared, enforced: &Arc<Enforced>) -> Option<Reason> {
        match &self.proven {
            Some(proven) => proven.rejected(shared, enforced, &self.endpoint),
            // What the pod asks of itself doesn't leave it.
            None if self.endpoint.own => None,
            None => (!enforced.discovery.plaintext()).then_some(Reason::NoIdentity),
        }
    }
}

/// Why an endpoint isn't used. Another one may be.
#[derive(Debug)]
pub enum Unreached {
    /// It must not be: a denial.
    Refused(Reason, String),
    /// It can't be.
    Failed(Trouble, io::Error),
}

/// Dials an endpoint and checks it. `alpn` says what will be inside.
pub async fn reach(
    shared: &Shared,
    enforced: &Arc<Enforced>,
    endpoint: &Endpoint,
    alpn: &'static [u8],
) -> Result<(Wire, Checked), Unreached> {
    let passage = Passage { checked: () };
    let mut checked =
        Checked { endpoint: endpoint.clone(), proven: None, departure: None, passage };
    let Some(identity) = &endpoint.identity else {
        if let Some(reason) = checked.rejected(shared, enforced) {
            return Err(Unreached::Refused(reason, "the endpoint is not meshed".to_owned()));
        }
        let stream = dial(shared, &mut checked).await?;
        return Ok((Box::new(stream), checked));
    };
    let stream = dial(shared, &mut checked).await?;
    let call = call(shared, enforced, (endpoint.address, identity), alpn)?;
    let reached = handshake(&call, stream, identity).await.and_then(|stream| {
        let tls = stream.get_ref().1;
        shared.metrics.outbound_handshakes.count(tls.handshake_kind());
        checked.proven = Some(Proven::of(tls.peer_certificates())?);
        match checked.rejected(shared, enforced) {
            Some(reason) => {
                Err(Unreached::Refused(reason, format!("`{identity}` is revoked or has expired")))
            }
            None => Ok(stream),
        }
    });
    match (reached, &checked.proven) {
        (Ok(stream), Some(proven)) => {
            call.proven(proven.leaf.not_after_millis);
            Ok((Box::new(stream), checked))
        }
        (Err(unreached), _) => {
            call.forget();
            Err(unreached)
        }
        (Ok(_), None) => Err(refused("it showed no certificate")),
    }
}

fn refused(why: impl Into<String>) -> Unreached {
    Unreached::Refused(Reason::PeerRejected, why.into())
}

async fn dial(shared: &Shared, checked: &mut Checked) -> Result<TcpStream, Unreached> {
    let to = checked.endpoint.address;
    let note = |from| checked.departure = Some(shared.departures.note(from));
    let dialled = sockets::dial(shared.settings.source_address, to, note).await;
    dialled.map_err(|error| Unreached::Failed(Trouble::of_dial(&error), error))
}

/// What to dial with: under our certificate, bundles and table of this moment.
fn call(
    shared: &Shared,
    enforced: &Enforced,
    (address, identity): (SocketAddr, &str),
    alpn: &'static [u8],
) -> Result<Arc<Call>, Unreached> {
    let ours = |error| Unreached::Failed(Trouble::Ours, error);
    let own = shared.keyring.valid_credentials(clock::now_millis());
    let own = own.ok_or_else(|| ours(io::Error::other("we have no valid certificate")))?;
    let trust = shared.keyring.trust();
    let sessions = shared.sessions.under(&own, &trust.bundles(), enforced);
    let call = sessions.and_then(|sessions| {
        let new = || tls::client_config(Some(&own.key), trust, identity, alpn);
        sessions.calls.to(address, identity, alpn, new)
    });
    call.map_err(|error| ours(io::Error::other(error)))
}

/// FAIL-CLOSED: a meshed endpoint is never tried without TLS (semantics T7).
async fn handshake(
    call: &Call,
    stream: TcpStream,
    identity: &str,
) -> Result<TlsStream<TcpStream>, Unreached> {
    let name = tls::server_name(identity).unwrap_or_else(|| address_name(&stream));
    let work = TlsConnector::from(Arc::clone(&call.config)).connect(name, stream);
    match timeout(limits::HANDSHAKE, work).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => match tls::rejected_peer(&error) {
            Some(problem) => Err(Unreached::Refused(Reason::PeerRejected, problem)),
            None => Err(Unreached::Failed(Trouble::Handshake, error)),
        },
        Err(elapsed) => Err(Unreached::Failed(Trouble::Handshake, elapsed.into())),
    }
}

/// For identities of another form than ours there is no DNS name to ask for.
fn address_name(stream: &TcpStream) -> ServerName<'static> {
    let unspecified = std::net::IpAddr::from([0, 0, 0, 0]);
    ServerName::from(stream.peer_addr().map_or(unspecified, |address| address.ip()))
}

/// An endpoint that proved its identity.
#[derive(Debug)]
struct Proven {
    leaf: Leaf,
    chain: Vec<CertificateDer<'static>>,
    stood: RefCell<Option<Stood>>,
}

/// Under what, and when (milliseconds since the epoch), a proof was last looked at and stood.
#[derive(Debug)]
struct Stood {
    bundles: Weak<Bundles>,
    enforced: Weak<Enforced>,
    at_millis: i64,
}

impl Stood {
    /// Whether that still says enough: nothing has changed, and it is no longer ago than open connections are looked at
    /// again. The chain's signatures are not verified for each request.
    fn holds(&self, bundles: &Arc<Bundles>, enforced: &Arc<Enforced>, now_millis: i64) -> bool {
        let age = u64::try_from(now_millis - self.at_millis);
        age.is_ok_and(|age| u128::from(age) < limits::REVISIT.as_millis())
            && std::ptr::eq(self.bundles.as_ptr(), Arc::as_ptr(bundles))
            && std::ptr::eq(self.enforced.as_ptr(), Arc::as_ptr(enforced))
    }
}

impl Proven {
    /// From the chain of a handshake, or of the one that was resumed.
    fn of(chain: Option<&[CertificateDer<'static>]>) -> Result<Self, Unreached> {
        let chain = chain.unwrap_or_default().to_vec();
        let first = chain.first().ok_or_else(|| refused("it showed no certificate"))?;
        let leaf = Leaf::read(first).map_err(|problem| refused(problem.to_string()))?;
        Ok(Self { leaf, chain, stood: RefCell::default() })
    }

    /// Why this peer may no longer be talked to: revoked, expired (semantics I9), under a root that is gone, or judged by a
    /// table that is too old to say.
    fn rejected(
        &self,
        shared: &Shared,
        enforced: &Arc<Enforced>,
        endpoint: &Endpoint,
    ) -> Option<Reason> {
        let bundles = shared.keyring.trust().bundles();
        let now = clock::now_millis();
        let holds = |stood: &Stood| stood.holds(&bundles, enforced, now);
        if now <= self.leaf.not_after_millis && self.stood.borrow().as_ref().is_some_and(holds) {
            return None;
        }
        let identity = endpoint.identity.as_deref().unwrap_or_default();
        if bundles.verify_as(&self.chain, Role::Server, now, identity).is_err() {
            return Some(Reason::PeerRejected);
        }
        let reason = self.refused_by(shared, enforced, endpoint);
        if reason.is_none() {
            *self.stood.borrow_mut() = Some(Stood {
                bundles: Arc::downgrade(&bundles),
                enforced: Arc::downgrade(enforced),
                at_millis: now,
            });
        }
        reason
    }

    fn refused_by(
        &self,
        shared: &Shared,
        enforced: &Enforced,
        endpoint: &Endpoint,
    ) -> Option<Reason> {
        let peer = self.leaf.peer(&shared.settings.trust_domain);
        let (table, facts) = (Arc::clone(&enforced.table), Arc::clone(&enforced.facts));
        let (port, ip) = (endpoint.address.port(), endpoint.address.ip());
        let connection = Connection::open(table, facts, port, ip, Some(peer));
        // Steps 1 and 4 of D1 are about the table's age and the peer alone; what follows is about somebody calling us.
        let decision = decide(&connection, &Arrival::Bytes, enforced.moment());
        let reason = decision.reason();
        matches!(reason, Reason::PolicyStale | Reason::PeerRejected).then_some(reason)
    }
}
