//! Driving a connection of HTTP/2 that we opened: it is asked now and then whether the other end is there, and ends when it
//! has been idle for long, when nobody may use it any more, or when the other end breaks the rules.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::Connection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant, Sleep, sleep_until, timeout};

use super::line::Line;
use super::meter::Meter;
use super::metered::Metered;
use super::pulse::Pulse;
use crate::limits::GOODBYE;

/// A connection that is driven.
pub(super) struct Driven<S, P> {
    connection: Connection<Metered<S>, Bytes>,
    meter: Meter,
    line: Rc<Line<P>>,
    idle: Option<Duration>,
    pulse: Option<Pulse>,
    /// Told when the other end has said what it takes.
    begun: Option<oneshot::Sender<()>>,
    /// How often it has.
    settings: u64,
    timer: Pin<Box<Sleep>>,
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy)]
enum Ended {
    /// It is closed.
    Closed,
    /// It has carried nothing for long.
    Idle,
    /// The other end says nothing any more.
    Gone,
    /// The other end must not go on: what it did.
    Flaw(&'static str),
}

impl<S: AsyncRead + AsyncWrite + Unpin, P> Driven<S, P> {
    /// `begun` is told when the other end has said what it takes; dropped without a word if it never does.
    pub(super) fn new(
        (connection, meter): (Connection<Metered<S>, Bytes>, Meter),
        line: Rc<Line<P>>,
        (idle, pulse): (Option<Duration>, Option<Pulse>),
        begun: oneshot::Sender<()>,
    ) -> Self {
        let timer = Box::pin(sleep_until(Instant::now()));
        Self { connection, meter, line, idle, pulse, begun: Some(begun), settings: 0, timer }
    }

    /// Drives it to its end. From then on it takes no more requests.
    pub(super) async fn drive(mut self) {
        let ended = poll_fn(|task| self.poll(task)).await;
        if let Ended::Flaw(what) = ended {
            self.line.is_flawed(what);
        }
        self.line.retire();
        if matches!(ended, Ended::Idle) {
            // Now that nobody holds it, it says goodbye by itself.
            let _ = timeout(GOODBYE, &mut self.connection).await;
        }
    }

    fn poll(&mut self, task: &mut Context<'_>) -> Poll<Ended> {
        let closed = Pin::new(&mut self.connection).poll(task).is_ready();
        if let Some(kind) = self.meter.over() {
            return Poll::Ready(Ended::Flaw(kind.name()));
        }
        if closed {
            return Poll::Ready(Ended::Closed);
        }
        self.notice();
        self.poll_time(task)
    }

    /// What the other end says of the connection as a whole.
    fn notice(&mut self) {
        let settings = self.meter.settings();
        if std::mem::replace(&mut self.settings, settings) != settings {
            if let Some(begun) = self.begun.take() {
                let _ = begun.send(());
            }
            self.line.has_changed();
        }
        if self.meter.has_goodbye() {
            self.line.retire();
        }
    }

    /// Looks whether something is due, and when to look again.
    fn poll_time(&mut self, task: &mut Context<'_>) -> Poll<Ended> {
        loop {
            let due = match self.due(Instant::now()) {
                Ok(Some(due)) => due,
                Ok(None) => return Poll::Pending,
                Err(ended) => return Poll::Ready(ended),
            };
            // A timer that goes off too early is set again then; only one that would be too late is set now.
            if due < self.timer.deadline() || self.timer.is_elapsed() {
                self.timer.as_mut().reset(due);
            }
            std::task::ready!(self.timer.as_mut().poll(task));
        }
    }

    /// When to look again, if ever; what is over.
    fn due(&mut self, now: Instant) -> Result<Option<Instant>, Ended> {
        let over = |due: &Instant| *due <= now;
        let unfinished = self.meter.due();
        if unfinished.as_ref().is_some_and(over) {
            return Err(Ended::Flaw("a field list that takes too long"));
        }
        let idle = self.idle_until(now);
        if idle.as_ref().is_some_and(over) {
            return Err(Ended::Idle);
        }
        let heard = self.meter.heard();
        let pulse = self.pulse.as_mut().map(|pulse| pulse.look(now, heard)).transpose();
        let pulse = pulse.map_err(|_| Ended::Gone)?;
        Ok([unfinished, idle, pulse].into_iter().flatten().min())
    }

    /// When it will have carried nothing for too long; when to look, while it carries something.
    fn idle_until(&self, now: Instant) -> Option<Instant> {
        let longest = if self.line.is_retired() { Some(GOODBYE) } else { self.idle };
        let since = if self.line.carried() > 0 { now } else { self.line.idle_since() };
        longest.map(|longest| since + longest)
    }
}
