//! What all threads of one proxy share.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use crate::asks::Asks;
use crate::callees::Exchanges;
use crate::denials::DenialLog;
use crate::departures::Departures;
use crate::enforcement::Enforcement;
use crate::keyring::Keyring;
use crate::limits;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::places::Places;
use crate::resumption::Sessions;
use crate::session::Peers;
use crate::settings::Settings;
use crate::shares::Shares;
use crate::spare::Spare;

/// One proxy.
#[derive(Debug)]
pub struct Shared {
    /// As read at the start.
    pub settings: Settings,
    /// Who we are and whom we trust.
    pub keyring: Arc<Keyring>,
    /// TLS sessions that may be resumed.
    pub sessions: Sessions,
    /// What decides.
    pub enforcement: Arc<Enforcement>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where denials are written.
    pub denials: DenialLog,
    /// The bound on memory.
    pub memory: Arc<Memory>,
    /// Bounds on inbound connections.
    pub inbound_places: Arc<Places>,
    /// Bounds on outbound connections.
    pub outbound_places: Arc<Places>,
    /// What our own connections come from.
    pub departures: Arc<Departures>,
    /// The addresses that the pod dials, of which policyd is asked.
    pub asks: Arc<Asks>,
    /// The bound on idle connections to endpoints.
    pub idle_places: Arc<Places>,
    /// Changes whenever open connections are to be decided again.
    pub revisit: watch::Sender<u64>,
    /// True from SIGTERM on.
    pub stopping: watch::Sender<bool>,
}

impl Shared {
    /// With no identity, no table, and nothing open.
    pub fn new(
        settings: Settings,
        keyring: Arc<Keyring>,
        metrics: Arc<Metrics>,
        denials: DenialLog,
    ) -> Self {
        let places = || Arc::new(Places::new(limits::CONNECTIONS, limits::CONNECTIONS_PER_PEER));
        Self {
            memory: Arc::new(Memory::new(settings.memory_mib * 1024 * 1024)),
            settings,
            keyring,
            sessions: Sessions::default(),
            enforcement: Arc::default(),
            metrics,
            denials,
            inbound_places: places(),
            outbound_places: places(),
            departures: Arc::default(),
            asks: Arc::default(),
            idle_places: Arc::new(Places::new(limits::OUTBOUND_IDLE_CONNECTIONS, 0)),
            revisit: watch::Sender::new(0),
            stopping: watch::Sender::new(false),
        }
    }

    /// Whether SIGTERM has come.
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }
}

/// One thread that carries traffic, and what only it counts.
#[derive(Debug)]
pub struct Worker {
    /// The proxy it belongs to.
    pub shared: Arc<Shared>,
    /// HTTP requests that it works on.
    pub in_flight: Rc<Cell<usize>>,
    /// How many of them there may be.
    pub most_in_flight: usize,
    /// How many of them may be one peer's.
    pub most_of_one_peer: usize,
    /// How many of them each peer has.
    pub shares: Shares,
    /// Handshakes that it runs.
    pub handshakes: Semaphore,
    /// What is in flight to endpoints, and the connections that are shared.
    pub exchanges: Rc<Exchanges>,
    /// How many requests and connections may be in flight to endpoints.
    pub most_calls: usize,
    /// Who is at the other end of its connections.
    pub peers: Peers,
    /// Requests that are over, whose memory the next ones use.
    pub spare: Spare,
}

impl Worker {
    /// One of `count` workers.
    pub fn new(shared: Arc<Shared>, count: usize) -> Self {
        Self {
            shared,
            in_flight: Rc::default(),
            most_in_flight: limits::REQUESTS_IN_FLIGHT.div_ceil(count.max(1)),
            most_of_one_peer: limits::REQUESTS_IN_FLIGHT_PER_PEER.div_ceil(count.max(1)),
            shares: Shares::default(),
            handshakes: Semaphore::new(limits::HANDSHAKES_PER_WORKER),
            exchanges: Rc::default(),
            most_calls: limits::CALLS_IN_FLIGHT.div_ceil(count.max(1)),
            peers: Peers::default(),
            spare: Spare::default(),
        }
    }
}
