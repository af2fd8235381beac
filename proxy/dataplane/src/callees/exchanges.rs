//! What a worker has in flight to endpoints, what is known of its connections there, and those that requests share.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use engine::Reason;

use crate::discovery::Endpoint;
use crate::endpoint::{Checked, Passage};
use crate::http2::Channel;
use crate::metrics::Metrics;
use crate::places::Place;

/// What is known of the other end of an outbound connection; its place while it is idle.
#[derive(Debug)]
pub struct Held {
    /// That it was checked, and how.
    pub checked: Checked,
    pub(super) idle: Option<Place>,
    _counted: Option<Counted>,
}

/// A shared connection that is open.
#[derive(Debug)]
struct Counted(Arc<Metrics>);

impl Counted {
    fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.shared_connections.add(1);
        metrics.shared_open.add(1);
        Self(Arc::clone(metrics))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.shared_open.add(-1);
    }
}

impl Held {
    /// Of a new connection.
    pub fn new(checked: Checked) -> Self {
        Self { checked, idle: None, _counted: None }
    }

    /// Of a shared connection, with its place for as long as it is open. None: it doesn't stay when it is idle.
    pub fn shared(checked: Checked, idle: Option<Place>, metrics: &Arc<Metrics>) -> Self {
        Self { checked, idle, _counted: Some(Counted::new(metrics)) }
    }
}

impl AsRef<Passage> for Held {
    fn as_ref(&self) -> &Passage {
        self.checked.as_ref()
    }
}

/// The connections that carry requests to an endpoint side by side.
pub type Lines = Channel<Held, Missed>;

/// How an endpoint was missed, for all who waited for one dial.
#[derive(Debug, Clone)]
pub enum Missed {
    /// It isn't who it must be: a denial.
    Refused(Reason, Rc<str>),
    /// It can't be reached.
    Failed,
}

/// What one worker has in flight to endpoints of all services.
#[derive(Debug, Default)]
pub struct Exchanges {
    /// The shared connections, by address and identity: two services that have an endpoint in common share them too.
    lines: RefCell<HashMap<Key, Weak<Lines>>>,
    flights: Cell<usize>,
}

pub(super) type Key = (SocketAddr, Option<Box<str>>, bool);

impl Exchanges {
    /// Requests and connections in flight.
    pub fn flights(&self) -> usize {
        self.flights.get()
    }

    pub(super) fn take_off(&self) {
        self.flights.set(self.flights.get() + 1);
    }

    pub(super) fn land(&self) {
        self.flights.set(self.flights.get().saturating_sub(1));
    }

    /// Those of an endpoint.
    pub(super) fn of(&self, endpoint: &Endpoint) -> Rc<Lines> {
        let mut known = self.lines.borrow_mut();
        known.retain(|_, lines| lines.strong_count() > 0);
        let of = known.entry(key(endpoint)).or_default();
        if let Some(lines) = of.upgrade() {
            return lines;
        }
        let lines = Rc::default();
        *of = Rc::downgrade(&lines);
        lines
    }
}

/// What tells endpoints from each other.
pub(super) fn key(endpoint: &Endpoint) -> Key {
    (endpoint.address, endpoint.identity.clone(), endpoint.own)
}
