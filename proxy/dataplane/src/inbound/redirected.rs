//! What was sent to the pod, whichever port it was sent to (semantics W3): one listener, and behind it a port for each
//! address that somebody dialled.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::net::TcpStream;
use tokio::time::interval;
use tracing::debug;

use super::{Application, InboundPort};
use crate::http1;
use crate::limits;
use crate::metrics::Side;
use crate::redirect::destination;
use crate::settings::Inbound;
use crate::shared::Worker;

/// The listener for redirected connections to the pod, on one worker.
#[derive(Debug)]
pub struct RedirectedInbound {
    worker: Rc<Worker>,
    listens: u16,
    ports: RefCell<HashMap<SocketAddr, Rc<InboundPort>>>,
}

impl RedirectedInbound {
    /// For the one at this port.
    pub fn new(worker: Rc<Worker>, listens: u16) -> Self {
        Self { worker, listens, ports: RefCell::default() }
    }

    /// Serves one connection to its end.
    pub async fn serve(self: Rc<Self>, stream: TcpStream, source: SocketAddr) {
        match destination::inbound(&stream, self.listens) {
            Ok(destination) => self.port(destination).serve(stream, source).await,
            Err(stray) => {
                self.worker.shared.metrics.strayed(Side::Inbound, stray);
                debug!(source = source.to_string(), stray = ?stray, "not redirected to us");
            }
        }
    }

    /// The port that was dialled: its connections to the application are shared by all who dial it.
    fn port(&self, dialled: SocketAddr) -> Rc<InboundPort> {
        if let Some(known) = self.ports.borrow().get(&dialled) {
            return Rc::clone(known);
        }
        let admin = self.worker.shared.settings.admin;
        // The admin port is one like any other (design §11); it listens where only we reach it.
        let application = if dialled.port() == admin.port() {
            Application { to: admin, from: None }
        } else {
            // From the very address: the kernel refuses that for one that isn't the pod's, so that nobody is relayed on.
            Application { to: dialled, from: Some(dialled.ip()) }
        };
        let port = Inbound { listen: dialled, application: application.to };
        let port = Rc::new(InboundPort::before(&self.worker, port, application));
        let mut ports = self.ports.borrow_mut();
        // Somebody who tries all ports makes us forget nothing, and remember no more.
        if ports.len() < limits::REDIRECTED_PORTS {
            ports.insert(dialled, Rc::clone(&port));
        }
        port
    }

    /// Closes connections to the application that have been idle for too long, and forgets ports that nobody dials, until
    /// SIGTERM.
    pub async fn tend(self: Rc<Self>) {
        let mut stopping = self.worker.shared.stopping.subscribe();
        let mut ticks = interval(http1::limits::POOLED / 2);
        loop {
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => {
                    self.ports.borrow_mut().clear();
                    return;
                }
                _ = ticks.tick() => self.ports.borrow_mut().retain(|_, port| {
                    port.onward.pool.sweep();
                    Rc::strong_count(port) > 1 || !port.onward.pool.is_empty()
                }),
            }
        }
    }
}
