//! The shared connections of HTTP/2 to endpoints: one carries what all applications of the pod ask of one endpoint.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use super::OutboundPort;
use super::reaching::Search;
use crate::callees::{Callee, Flight, Held, Missed};
use crate::endpoint::{self, Unreached};
use crate::enforcement::Enforced;
use crate::http2::limits::{KEEP_ALIVE, KEEP_ALIVE_UNMESHED, ROOM, SHARED_WINDOW_BYTES};
use crate::http2::{Manner, NoPlace, Opened, Place};
use crate::limits;
use crate::service_metrics::Trouble;
use crate::tls::ALPN_HTTP2;

impl Search<'_> {
    /// A place on a shared connection to an endpoint, which is dialled and checked where there is none. None: it was no
    /// use, which has been counted and written down.
    pub(super) async fn line(
        &mut self,
        enforced: &Arc<Enforced>,
        callee: Rc<Callee>,
    ) -> Option<(Place<Held>, Flight)> {
        let (port, flight) = (self.port, callee.begin());
        let dialled = Cell::new(false);
        let dial = async || {
            dialled.set(true);
            port.open_line(enforced, &callee).await
        };
        let shared = &port.worker.shared;
        let stands = |held: &Held| held.checked.rejected(shared, enforced).is_none();
        match callee.lines.place(stands, dial, ROOM).await {
            Ok(place) => {
                if !dialled.get() {
                    callee.reused();
                }
                return Some((place, flight));
            }
            Err(NoPlace::Failed(missed)) => self.pass_over(callee, missed),
            Err(NoPlace::Full) => self.pass_over_full(callee),
        }
        None
    }
}

impl OutboundPort {
    /// Opens a shared connection to an endpoint, for all who wait for it.
    async fn open_line(
        &self,
        enforced: &Arc<Enforced>,
        callee: &Rc<Callee>,
    ) -> Result<Opened<Held>, Missed> {
        let (shared, dial) = (&self.worker.shared, callee.dial());
        let reached = endpoint::reach(shared, enforced, &callee.endpoint, ALPN_HTTP2).await;
        let (wire, checked) = match reached {
            Ok(reached) => reached,
            Err(unreached) => return Err(self.missed(callee, dial, unreached)),
        };
        let keep_alive = if checked.is_meshed() { KEEP_ALIVE } else { KEEP_ALIVE_UNMESHED };
        let idle = if shared.is_stopping() { None } else { shared.idle_places.take() };
        let manner = Manner {
            keep_alive: Some(keep_alive),
            idle: Some(limits::OUTBOUND_IDLE),
            stays: idle.is_some(),
            window_bytes: SHARED_WINDOW_BYTES,
        };
        match callee.lines.open(wire, Held::shared(checked, idle, &shared.metrics), manner).await {
            Ok(opened) => {
                dial.reached();
                Ok(opened)
            }
            Err(error) => {
                let trouble = Trouble::of_beginning(&error);
                Err(self.missed(callee, dial, Unreached::Failed(trouble, error)))
            }
        }
    }
}
