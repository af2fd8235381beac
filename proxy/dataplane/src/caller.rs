//! What the codecs ask of whoever chooses endpoints for what the pod itself calls.

use engine::gate::{GateProfile, PathMode, Refusal};
use engine::request::CanonicalRequest;
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Duration;

use crate::endpoint::Passage;
use crate::exchange::{Answer, Failure};
use crate::http1::Connection;
use crate::http2::Place;

/// Nothing is normalised but what belongs to the hop: requests are read to know where they end and how to carry them.
/// Refusing is the other side's.
pub(crate) static READING: GateProfile = GateProfile {
    path_mode: PathMode::Opaque,
    websocket: true,
    lenient: true,
    policy_headers: Vec::new(),
};

/// How a request of HTTP/1 goes to its endpoint.
#[derive(Debug)]
pub enum Road<Io, P> {
    /// On a connection that is its own for the time.
    Own(Box<Connection<Io, P>>),
    /// On a shared connection of HTTP/2, with this head.
    Shared(Place<P>, Box<Request<()>>),
}

impl<Io, P> Road<Io, P> {
    /// What is known of the endpoint.
    pub fn proof(&self) -> &P {
        match self {
            Self::Own(connection) => &connection.proof,
            Self::Shared(place, _) => place.proof(),
        }
    }
}

/// The way of one request, and its place among what is in flight at its endpoint.
pub type Way<K> = (Road<<K as Caller>::Io, <K as Caller>::Proof>, <K as Caller>::Flight);

/// Chooses endpoints for the requests of a service. What a refusal looks like to the application is its to say, and it has
/// counted and recorded it then.
pub trait Caller {
    /// A connection to an endpoint.
    type Io: AsyncRead + AsyncWrite + Unpin;
    /// That the endpoint was checked, and how.
    type Proof: AsRef<Passage>;
    /// One request in flight to one endpoint, until dropped.
    type Flight;

    /// A way for a request of HTTP/1: over HTTP/2 where a proxy of ours is at the other end, else on an idle connection or a
    /// new one. A request of HTTP/1.0 gets a new one (G18), and so does one whose connection has just `broken`; that goes,
    /// if possible, to another endpoint.
    fn connect(
        &self,
        request: &CanonicalRequest,
        broken: Option<&Self::Flight>,
    ) -> impl Future<Output = Result<Way<Self>, Answer>>;
    /// A place for a request of HTTP/2 on a connection to an endpoint; if possible to another one than where it has just
    /// `broken`.
    fn place(
        &self,
        request: &CanonicalRequest,
        broken: Option<&Self::Flight>,
    ) -> impl Future<Output = Result<(Place<Self::Proof>, Self::Flight), Answer>>;
    /// Whether answers on it come from a proxy of ours.
    fn is_meshed(&self, proof: &Self::Proof) -> bool;
    /// Ends when the endpoint may no longer be talked to.
    fn until_rejected(
        &self,
        request: &CanonicalRequest,
        proof: &Self::Proof,
        flight: &Self::Flight,
    ) -> impl Future<Output = Answer>;
    /// An answer with this status began so long after its request.
    fn answered(&self, flight: &Self::Flight, took: Duration, status: u16);
    /// Takes a connection whose exchange is complete.
    fn keep(&self, connection: Connection<Self::Io, Self::Proof>, flight: &Self::Flight);
    /// A request goes out once more.
    fn repeated(&self);
    /// An endpoint failed after it was reached.
    fn failed(&self, failure: Failure) -> Answer;
    /// The application's request can't be carried: its body breaks a rule after its head has gone out, or its head can't be
    /// read at all.
    fn refuse(&self, refusal: &Refusal) -> Answer;
    /// The library refused something of the application's before it became a request.
    fn refused_below(&self, rule: engine::gate::GateRule, what: &str);
    /// Whether the application's connection should end after the present exchange.
    fn ending(&self) -> bool;
    /// Ends as soon as [`Caller::ending`] is true. Awaited between requests only.
    fn ended(&self) -> impl Future<Output = ()>;
}
