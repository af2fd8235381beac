//! Finding an endpoint: chosen, dialled, checked; the next one where that fails. What has been said to one is never said
//! to another here: only dials and handshakes are tried again.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use engine::{Form, Reason};
use tracing::warn;

use super::OutboundPort;
use crate::callees::{Callee, Dial, Flight, Missed};
use crate::endpoint::{self, Checked, Unreached, Wire};
use crate::enforcement::Enforced;
use crate::exchange::{Answer, Failure};
use crate::limits;
use crate::requests::failure_answer;
use crate::service_metrics::Trouble;

/// One search for an endpoint.
pub(super) struct Search<'p> {
    pub(super) port: &'p OutboundPort,
    form: Form,
    tried: Vec<Rc<Callee>>,
    /// Chosen only where there is no other: it has just broken.
    last: Option<Rc<Callee>>,
    /// What the newest of those that were not who they should be was answered with.
    rejected: Option<Answer>,
    /// One of them takes no more requests.
    full: bool,
}

impl OutboundPort {
    /// A new connection to an endpoint, with `alpn` where it is meshed; or what the application is told.
    pub(super) async fn reach(
        &self,
        form: Form,
        alpn: &'static [u8],
    ) -> Result<(Wire, Checked, Flight), Answer> {
        let mut search = Search::new(self, None, form);
        loop {
            let (enforced, callee) = search.next()?;
            if let Some((wire, checked, flight)) = search.dial(&enforced, callee, alpn).await {
                return Ok((wire, checked, flight));
            }
        }
    }

    /// The table of this moment, by which endpoints may be called.
    fn enforced(&self, form: Form) -> Result<Arc<Enforced>, Answer> {
        let Some(enforced) = self.worker.shared.enforcement.current() else {
            return Err(self.record(None, Reason::NoPolicyLoaded, form, ""));
        };
        if let Some(limit) = enforced.table.max_table_age_millis()
            && enforced.moment().table_age_millis > limit
        {
            return Err(self.record(None, Reason::PolicyStale, form, ""));
        }
        Ok(enforced)
    }
}

impl OutboundPort {
    /// Counts that an endpoint was no use.
    pub(super) fn missed(&self, callee: &Callee, dial: Dial, unreached: Unreached) -> Missed {
        match unreached {
            Unreached::Refused(reason, why) => {
                dial.failed(Trouble::PeerRejected);
                let (service, endpoint) = (&self.name, callee.endpoint.address.to_string());
                warn!(service, endpoint, problem = why, "not who it should be");
                Missed::Refused(reason, why.into())
            }
            Unreached::Failed(trouble, error) => {
                dial.failed(trouble);
                self.worker.shared.metrics.failed(Failure::Unreachable);
                self.log_failure(Some(callee.endpoint.address), &error);
                Missed::Failed
            }
        }
    }
}

impl<'p> Search<'p> {
    pub(super) fn new(port: &'p OutboundPort, broken: Option<&Rc<Callee>>, form: Form) -> Self {
        if broken.is_none() {
            port.metrics.calls.add(1);
        }
        let (tried, last) = (Vec::new(), broken.cloned());
        Self { port, form, tried, last, rejected: None, full: false }
    }

    /// The next endpoint to try, under the table of this moment; in the end, what the application is told.
    pub(super) fn next(&mut self) -> Result<(Arc<Enforced>, Rc<Callee>), Answer> {
        let enforced = self.port.enforced(self.form)?;
        self.port.callees.refresh(&enforced.discovery);
        if self.tried.len() >= limits::DIALS {
            return Err(self.give_up(&enforced));
        }
        // FAIL-CLOSED: an endpoint without identity is no choice where plaintext is forbidden (semantics T7).
        let plaintext = enforced.discovery.plaintext();
        let may = |callee: &Rc<Callee>, except: Option<&Rc<Callee>>| {
            let is = |other: &Rc<Callee>| Rc::ptr_eq(other, callee);
            (plaintext || callee.endpoint.identity.is_some() || callee.endpoint.own)
                && !self.tried.iter().any(is)
                && !except.is_some_and(is)
        };
        let callees = &self.port.callees;
        let another = callees.choose(|callee| may(callee, self.last.as_ref()));
        match another.or_else(|| callees.choose(|callee| may(callee, None))) {
            Some(callee) => Ok((enforced, callee)),
            None => Err(self.give_up(&enforced)),
        }
    }

    /// Dials an endpoint and checks it. None: it was no use, which has been counted and written down.
    pub(super) async fn dial(
        &mut self,
        enforced: &Arc<Enforced>,
        callee: Rc<Callee>,
        alpn: &'static [u8],
    ) -> Option<(Wire, Checked, Flight)> {
        let (dial, flight) = (callee.dial(), callee.begin());
        let shared = &self.port.worker.shared;
        match endpoint::reach(shared, enforced, &callee.endpoint, alpn).await {
            Ok((wire, checked)) => {
                dial.reached();
                return Some((wire, checked, flight));
            }
            Err(unreached) => {
                let missed = self.port.missed(&callee, dial, unreached);
                self.pass_over(callee, missed);
            }
        }
        None
    }

    /// Another endpoint is next.
    pub(super) fn pass_over(&mut self, callee: Rc<Callee>, missed: Missed) {
        if let Missed::Refused(reason, why) = missed {
            let answer = self.port.record(Some(&callee.endpoint), reason, self.form, &why);
            self.rejected = Some(answer);
        }
        self.tried.push(callee);
    }

    /// The same: this one takes no more requests.
    pub(super) fn pass_over_full(&mut self, callee: Rc<Callee>) {
        self.full = true;
        self.tried.push(callee);
    }

    /// Nobody could be reached. A refusal that was written down is what the application can ask about.
    fn give_up(&mut self, enforced: &Enforced) -> Answer {
        if let Some(answer) = self.rejected.take() {
            return answer;
        }
        if self.full {
            return self.port.record(None, Reason::Overloaded, self.form, "streams");
        }
        if !self.tried.is_empty() {
            return failure_answer(Failure::Unreachable);
        }
        match self.port.callees.first() {
            Some(callee) if !enforced.discovery.plaintext() => {
                let why = "the endpoint is not meshed";
                self.port.record(Some(&callee.endpoint), Reason::NoIdentity, self.form, why)
            }
            _ => {
                self.port.log_failure(None, &io::Error::other("no endpoint is known"));
                self.port.failure(Failure::Unreachable, Trouble::NoEndpoint)
            }
        }
    }
}
