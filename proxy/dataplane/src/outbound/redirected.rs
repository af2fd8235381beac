//! What the pod sends, wherever it sends it: one listener, and behind it a port for each address that was dialled. What is
//! at an address says policyd, which is asked when it is first dialled (decision record 13).

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use engine::{Form, Reason};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::OutboundPort;
use crate::limits;
use crate::metrics::Side;
use crate::redirect::destination::{self, Stray};
use crate::service_metrics::OTHERS;
use crate::settings::Outbound;
use crate::shared::Worker;

/// The listener for the pod's redirected connections, on one worker.
#[derive(Debug)]
pub struct RedirectedOutbound {
    worker: Rc<Worker>,
    ports: RefCell<HashMap<SocketAddr, Rc<OutboundPort>>>,
}

impl RedirectedOutbound {
    /// With nothing dialled yet.
    pub fn new(worker: Rc<Worker>) -> Self {
        Self { worker, ports: RefCell::default() }
    }

    /// Serves one connection to its end.
    pub async fn serve(self: Rc<Self>, stream: TcpStream, source: SocketAddr) {
        let shared = &self.worker.shared;
        let destination = match destination::outbound(&stream) {
            // FAIL-CLOSED: carried on, it would come back until nothing is left.
            Ok(_) if shared.departures.has(source) => Err(Stray::Own),
            told => told,
        };
        match destination {
            Ok(destination) => match self.known(destination).await {
                Some(port) => port.serve(stream, source).await,
                None => self.refuse(destination),
            },
            Err(stray) => {
                shared.metrics.strayed(Side::Outbound, stray);
                debug!(source = source.to_string(), stray = ?stray, "not carried");
            }
        }
    }

    /// What is at an address, as soon as policyd has said so, or that time is over: then nobody is known there, and the
    /// connection ends as one to a Service without endpoints. None: there is no room to ask, or to wait.
    pub(super) async fn known(&self, dialled: SocketAddr) -> Option<Rc<OutboundPort>> {
        let shared = &self.worker.shared;
        if !shared.asks.ask(dialled) {
            return None;
        }
        let mut changes = shared.enforcement.watch();
        if let Some(found) = self.found(dialled) {
            return Some(found);
        }
        let _waiting = shared.outbound_places.take()?;
        let deadline = Instant::now() + limits::ASKED_WAIT;
        while matches!(timeout_at(deadline, changes.changed()).await, Ok(Ok(()))) {
            if let Some(found) = self.found(dialled) {
                return Some(found);
            }
        }
        // Not kept: the next one waits again.
        Some(Rc::new(self.unkept(dialled, None)))
    }

    /// What discovery says of an address now. Without a table there is nothing to wait for.
    fn found(&self, dialled: SocketAddr) -> Option<Rc<OutboundPort>> {
        let Some(enforced) = self.worker.shared.enforcement.current() else {
            return Some(Rc::new(self.unkept(dialled, None)));
        };
        let found = enforced.discovery.service(&dialled.to_string())?;
        Some(self.port(dialled, found.name()))
    }

    fn port(&self, dialled: SocketAddr, name: Option<&str>) -> Rc<OutboundPort> {
        let mut ports = self.ports.borrow_mut();
        if let Some(known) = ports.get(&dialled) {
            return Rc::clone(known);
        }
        let port = Rc::new(self.unkept(dialled, name));
        if ports.len() < limits::REDIRECTED_PORTS {
            ports.insert(dialled, Rc::clone(&port));
        }
        port
    }

    fn unkept(&self, dialled: SocketAddr, name: Option<&str>) -> OutboundPort {
        let metrics = self.worker.shared.metrics.services.of(name.unwrap_or(OTHERS));
        let port = Outbound { listen: dialled, service: dialled.to_string() };
        let name = name.map_or_else(|| dialled.to_string(), ToOwned::to_owned);
        OutboundPort::named(Rc::clone(&self.worker), port, name, metrics)
    }

    fn refuse(&self, dialled: SocketAddr) {
        let port = self.unkept(dialled, None);
        drop(port.record(None, Reason::Overloaded, Form::Closed, "destinations"));
    }

    /// Follows discovery, closes idle connections that may no longer be used, and forgets addresses that nobody dials, until
    /// SIGTERM.
    pub async fn tend(self: Rc<Self>) {
        let shared = Arc::clone(&self.worker.shared);
        let mut stopping = shared.stopping.subscribe();
        let mut changes = shared.revisit.subscribe();
        loop {
            self.ports.borrow_mut().retain(|dialled, port| {
                port.look_again();
                // What is known of endpoints, who answers fast and who rests, is worth keeping.
                Rc::strong_count(port) > 1 || !port.callees.rest() || shared.asks.has(*dialled)
            });
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => break,
                changed = changes.changed() => if changed.is_err() { break },
            }
        }
        for port in self.ports.borrow().values() {
            port.callees.clear();
        }
    }
}
