//! The endpoints of one service as one worker knows them: who may be called next, what is in flight where, who rests, and
//! which connections are idle. What discovery changes leaves the others as they are.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::rc::Rc;
use std::sync::{Arc, Weak};

use tokio::time::{Duration, Instant};

use crate::balance::{self, Chance, Load, Standing};
use crate::circuit::Circuit;
use crate::clock;
use crate::discovery::{Discovery, Endpoint};
use crate::endpoint::Wire;
use crate::enforcement::Enforced;
use crate::http1::{Connection, Pool};
use crate::limits;
use crate::service_metrics::{ServiceMetrics, Trouble};
use crate::shared::Shared;

mod exchanges;

use exchanges::key;
pub use exchanges::{Exchanges, Held, Lines, Missed};

/// A connection that carries requests to an endpoint, one after the other.
pub type Lane = Connection<Wire, Held>;

/// One endpoint.
#[derive(Debug)]
pub struct Callee {
    /// Where, and who it must be.
    pub endpoint: Endpoint,
    load: RefCell<Load>,
    circuit: RefCell<Circuit>,
    idle: Pool<Wire, Held>,
    /// Its shared connections.
    pub lines: Rc<Lines>,
    /// Discovery no longer has it.
    gone: Cell<bool>,
    exchanges: Rc<Exchanges>,
    metrics: Arc<ServiceMetrics>,
}

impl Callee {
    fn new(endpoint: Endpoint, exchanges: Rc<Exchanges>, metrics: Arc<ServiceMetrics>) -> Self {
        Self {
            lines: exchanges.of(&endpoint),
            endpoint,
            exchanges,
            load: RefCell::default(),
            circuit: RefCell::default(),
            idle: Pool::bounded(limits::OUTBOUND_IDLE_PER_ENDPOINT, limits::OUTBOUND_IDLE),
            gone: Cell::new(false),
            metrics,
        }
    }

    fn standing(&self, now: Instant) -> Standing {
        match self.circuit.borrow().resting(now) {
            Some(since) => Standing::Resting(since),
            None => Standing::Available(self.load.borrow().burden(now)),
        }
    }

    /// Counts one more request or connection there.
    pub fn begin(self: &Rc<Self>) -> Flight {
        self.load.borrow_mut().begin();
        self.metrics.in_flight.add(1);
        self.exchanges.take_off();
        Flight(Rc::clone(self))
    }

    /// An idle connection, if its endpoint may still be talked to. `desync` is told of each that has said more than it was
    /// asked (G20).
    pub fn take_idle(
        &self,
        shared: &Shared,
        enforced: &Arc<Enforced>,
        desync: impl Fn(),
    ) -> Option<Lane> {
        while let Some(mut lane) = self.idle.take(&desync) {
            lane.proof.idle = None;
            if lane.proof.checked.rejected(shared, enforced).is_none() {
                self.metrics.reused.add(1);
                return Some(lane);
            }
        }
        None
    }

    /// Keeps a connection for the next request, where there is room and the endpoint is still one.
    pub fn keep(&self, shared: &Shared, mut lane: Lane) {
        if self.gone.get() || shared.is_stopping() {
            return;
        }
        lane.proof.idle = shared.idle_places.take();
        if lane.proof.idle.is_some() {
            self.idle.put(lane);
        }
    }

    /// Counts a request on a connection that was there before.
    pub fn reused(&self) {
        self.metrics.reused.add(1);
    }

    /// Lets go of all connections that carry nothing; those that do end with what they carry. Shared ones stay where
    /// another service has them.
    fn let_go(&self) {
        self.idle.clear();
        if Rc::strong_count(&self.lines) == 1 {
            self.lines.clear();
        }
    }

    /// A dial begins.
    pub fn dial(self: &Rc<Self>) -> Dial {
        let probe = self.circuit.borrow_mut().begin(Instant::now());
        Dial { callee: Rc::clone(self), probe }
    }

    fn change_circuit(&self, change: impl FnOnce(&mut Circuit)) {
        let mut circuit = self.circuit.borrow_mut();
        let before = circuit.is_broken();
        change(&mut circuit);
        self.metrics.resting.add(i64::from(circuit.is_broken()) - i64::from(before));
    }
}

impl Drop for Callee {
    fn drop(&mut self) {
        self.metrics.resting.add(-i64::from(self.circuit.borrow().is_broken()));
    }
}

/// One request or connection in flight to an endpoint, until dropped.
#[derive(Debug)]
pub struct Flight(Rc<Callee>);

impl Flight {
    /// Where it goes.
    pub fn callee(&self) -> &Rc<Callee> {
        &self.0
    }

    /// Its answer began after so long.
    pub fn answered(&self, took: Duration) {
        self.0.load.borrow_mut().answered(Instant::now(), took);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.exchanges.land();
        self.0.load.borrow_mut().end();
        self.0.metrics.in_flight.add(-1);
    }
}

/// A dial under way; dropped without a word it says nothing of the endpoint.
#[derive(Debug)]
pub struct Dial {
    callee: Rc<Callee>,
    probe: bool,
}

impl Dial {
    /// The endpoint was reached, and is who it should be.
    pub fn reached(self) {
        self.callee.change_circuit(Circuit::reached);
    }

    /// It wasn't.
    pub fn failed(self, trouble: Trouble) {
        self.callee.metrics.failed(trouble);
        if trouble.is_the_endpoints() {
            let spread = |wait| clock::jittered(wait, 500, 1500);
            self.callee.change_circuit(|circuit| circuit.failed(Instant::now(), spread));
        }
    }
}

impl Drop for Dial {
    fn drop(&mut self) {
        if self.probe {
            self.callee.circuit.borrow_mut().ended();
        }
    }
}

/// All endpoints of one service.
#[derive(Debug)]
pub struct Callees {
    service: String,
    all: RefCell<Vec<Rc<Callee>>>,
    /// The discovery that they are of.
    of: RefCell<Weak<Discovery>>,
    chance: RefCell<Chance>,
    exchanges: Rc<Exchanges>,
    metrics: Arc<ServiceMetrics>,
}

impl Callees {
    /// Of a service, by `namespace/name:port`. Nothing is known of it yet.
    pub fn new(service: &str, exchanges: Rc<Exchanges>, metrics: Arc<ServiceMetrics>) -> Self {
        Self {
            service: service.to_owned(),
            all: RefCell::default(),
            of: RefCell::default(),
            chance: RefCell::new(Chance::new(RandomState::new().hash_one(service))),
            exchanges,
            metrics,
        }
    }

    /// Takes over what discovery says now. Endpoints that stay keep all that is known of them; the idle connections of
    /// those that go are closed.
    pub fn refresh(&self, discovery: &Arc<Discovery>) {
        if std::ptr::eq(self.of.borrow().as_ptr(), Arc::as_ptr(discovery)) {
            return;
        }
        *self.of.borrow_mut() = Arc::downgrade(discovery);
        let found = discovery.service(&self.service).map_or(&[][..], |service| service.endpoints());
        let mut all = self.all.borrow_mut();
        let mut before: HashMap<_, _> =
            all.drain(..).map(|callee| (key(&callee.endpoint), callee)).collect();
        for endpoint in found {
            // An endpoint that is named twice is one.
            if all.iter().any(|known| key(&known.endpoint) == key(endpoint)) {
                continue;
            }
            let known = before.remove(&key(endpoint));
            all.push(known.unwrap_or_else(|| Rc::new(self.callee(endpoint))));
        }
        for callee in before.into_values() {
            callee.gone.set(true);
            callee.let_go();
        }
    }

    fn callee(&self, endpoint: &Endpoint) -> Callee {
        let exchanges = Rc::clone(&self.exchanges);
        Callee::new(endpoint.clone(), exchanges, Arc::clone(&self.metrics))
    }

    /// The next one to call among those of which `may` says yes.
    pub fn choose(&self, may: impl Fn(&Rc<Callee>) -> bool) -> Option<Rc<Callee>> {
        let now = Instant::now();
        let all = self.all.borrow();
        let mut chance = self.chance.borrow_mut();
        let standing = |callee: &Rc<Callee>| may(callee).then(|| callee.standing(now));
        let at = balance::choose(&all, standing, || chance.draw())?;
        all.get(at).cloned()
    }

    /// The first of those that discovery names.
    pub fn first(&self) -> Option<Rc<Callee>> {
        self.all.borrow().first().cloned()
    }

    /// Closes idle connections that have been idle for long, and those whose endpoint may no longer be talked to.
    pub fn prune(&self, shared: &Shared, enforced: &Arc<Enforced>) {
        for callee in &*self.all.borrow() {
            let stands = |held: &Held| held.checked.rejected(shared, enforced).is_none();
            callee.idle.retain(stands);
            callee.lines.retain(stands);
        }
    }

    /// Whether nothing is in flight to any of them, and no connection is kept.
    pub fn rest(&self) -> bool {
        let rests = |callee: &Rc<Callee>| {
            Rc::strong_count(callee) == 1 && callee.idle.is_empty() && callee.lines.is_empty()
        };
        self.all.borrow().iter().all(rests)
    }

    /// Closes all connections that carry nothing, and those that do when they no longer do.
    pub fn clear(&self) {
        for callee in &*self.all.borrow() {
            callee.idle.clear();
            callee.lines.clear();
        }
    }
}

#[cfg(test)]
mod tests;
