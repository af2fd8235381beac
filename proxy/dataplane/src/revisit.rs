//! Open connections are decided again: when the table changes, when certificates or bundles do, and every few seconds
//! because grants end and tables age. What would no longer be let in is cut (P-3, semantics A7, I9).

use std::cell::Cell;
use std::sync::Arc;

use engine::request::CanonicalRequest;
use engine::{Arrival, Decision, Form, Reason};
use tokio::time::{MissedTickBehavior, interval};

use crate::limits;
use crate::metrics::Subject;
use crate::session::{About, Denial, Session};
use crate::shared::Shared;

/// Never returns: tells all open connections when to look again.
pub async fn announce(shared: Arc<Shared>) {
    let mut tables = shared.enforcement.watch();
    let mut keys = shared.keyring.watch();
    let mut ticks = interval(limits::REVISIT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let again = tokio::select! {
            changed = tables.changed() => changed.is_ok(),
            changed = keys.changed() => changed.is_ok(),
            _ = ticks.tick() => true,
        };
        if !again {
            return;
        }
        shared.revisit.send_modify(|generation| *generation = generation.wrapping_add(1));
    }
}

/// What an open connection is carrying.
#[derive(Debug, Clone, Copy)]
pub enum Carrying<'a> {
    /// HTTP: the request in flight, if any. Those of HTTP/2 are looked after one by one.
    Http,
    /// A connection that was let in as this, as it is at the moment.
    Connection(&'a Cell<Arrival<'static>>),
}

impl Session {
    /// Ends when this connection would no longer be let in.
    pub async fn until_denied(&self, carrying: Carrying<'_>) -> Denial {
        let mut changes = self.worker().shared.revisit.subscribe();
        loop {
            if let Some(denial) = self.denied_now(carrying) {
                self.worker().shared.metrics.cut.add(1);
                return denial;
            }
            if changes.changed().await.is_err() {
                // The proxy is gone; so is this task, soon.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Ends when this request, which was allowed just now and is in flight, would be refused. It isn't decided twice: what
    /// changed in between is seen with the next look, which comes within [`limits::REVISIT`].
    pub(crate) async fn until_request_denied(&self, request: &CanonicalRequest) -> Denial {
        let mut changes = self.worker().shared.revisit.subscribe();
        loop {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            let decision = self.decide(&Arrival::Http(request));
            if decision.permit().is_none()
                && let Some(denial) =
                    self.cut(decision, About { request: Some(request), ..About::default() })
            {
                self.worker().shared.metrics.cut.add(1);
                return denial;
            }
        }
    }

    fn denied_now(&self, carrying: Carrying<'_>) -> Option<Denial> {
        if !self.peer_stands() {
            return self
                .cut(Decision::refusal(Reason::PeerRejected, Form::Closed), About::default());
        }
        let request = match carrying {
            Carrying::Http => self.in_flight.borrow().upgrade(),
            Carrying::Connection(_) => None,
        };
        let decision = match (&request, carrying) {
            (Some(request), _) => self.decide(&Arrival::Http(request)),
            (None, Carrying::Connection(arrival)) => self.decide(&arrival.get()),
            // Between requests only who the peer is can end a connection: each request is decided on its own.
            (None, Carrying::Http) => {
                let decision = self.decide(&Arrival::Bytes);
                if decision.reason() != Reason::PeerRejected {
                    return None;
                }
                decision
            }
        };
        decision.permit().is_none().then_some(())?;
        self.cut(decision, About { request: request.as_deref(), ..About::default() })
    }

    fn cut(&self, decision: Decision, about: About<'_>) -> Option<Denial> {
        let subject = if about.request.is_some() { Subject::Request } else { Subject::Connection };
        self.settle(subject, decision, About { detail: Some("cut"), ..about }).err()
    }
}
