//! What a client sends on a connection that was let in before all was known about it.

use std::cell::Cell;

use engine::detect::{FirstLine, Line};
use engine::{Arrival, Decision, Form, Reason};

use crate::first::Seen;
use crate::metrics::Subject;
use crate::session::{About, Session};

/// Looks at each run of bytes before it goes on: the first byte after silence, and the first line to its end (T1, T6).
#[derive(Debug)]
pub struct Watch<'a> {
    session: &'a Session,
    arrival: &'a Cell<Arrival<'static>>,
    line: FirstLine,
    /// Bytes that the line has seen already, and that are yet to pass.
    begun: usize,
}

impl<'a> Watch<'a> {
    /// Of a connection of which `seen` was read, and which was let in as `arrival`.
    pub fn new(session: &'a Session, arrival: &'a Cell<Arrival<'static>>, seen: &Seen) -> Self {
        Self { session, arrival, line: seen.line.clone(), begun: seen.bytes.len() }
    }

    /// Whether these bytes may go on. What may not is counted and written down.
    pub fn passes(&mut self, bytes: &[u8]) -> bool {
        if matches!(self.arrival.get(), Arrival::Silence) {
            // The first byte puts a silent connection under policy (semantics T6).
            if self.session.admit(&Arrival::Bytes).is_err() {
                return false;
            }
            self.arrival.set(Arrival::Bytes);
        }
        let unseen = bytes.get(self.begun.min(bytes.len())..).unwrap_or_default();
        self.begun = self.begun.saturating_sub(bytes.len());
        if matches!(self.arrival.get(), Arrival::ForeignTls) || !self.session.reads_http() {
            return true;
        }
        if self.line.feed(unseen) != Line::Http || self.session.takes_http_as_bytes() {
            return true;
        }
        let decision = Decision::refusal(Reason::ProtocolRefused, Form::Closed);
        let about = About { detail: Some("HTTP after the detection ended"), ..About::default() };
        drop(self.session.settle(Subject::Connection, decision, about));
        false
    }
}
