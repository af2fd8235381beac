//! One connection of HTTP/2 that we opened: it drives itself, is asked now and then whether the other end is there, and ends
//! when it has been idle for long, when nobody may use it any more, or when the other end breaks the rules.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::SendStream;
use h2::client::{self, Connection, ResponseFuture, SendRequest};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, oneshot};
use tokio::task::spawn_local;
use tokio::time::{Duration, Instant, Sleep, sleep_until, timeout};

use super::limits;
use super::meter::Meter;
use super::metered::Metered;
use super::pulse::Pulse;
use crate::limits::GOODBYE;

/// How one is kept.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// How long the other end may be silent without being asked whether it is there. None: it is never asked.
    pub keep_alive: Option<Duration>,
    /// How long it may be without a request. None: for ever.
    pub idle: Option<Duration>,
    /// Whether it stays when it carries nothing.
    pub stays: bool,
    /// What may be on its way to us on all of its streams; each has a window of its own.
    pub window_bytes: u32,
}

impl Default for Manner {
    /// As towards the pod's own application: whoever opened it keeps it.
    fn default() -> Self {
        let window_bytes = limits::CONNECTION_WINDOW_BYTES;
        Self { keep_alive: None, idle: None, stays: true, window_bytes }
    }
}

/// A connection, and what is known of its other end.
pub(super) struct Line<P> {
    /// None: it takes no more requests.
    sender: RefCell<Option<SendRequest<Bytes>>>,
    carried: Cell<usize>,
    /// When that last came to nothing.
    idle_since: Cell<Instant>,
    /// What the other end did too much of, or left unfinished.
    flaw: Cell<Option<&'static str>>,
    stays: bool,
    /// Told when there may be room for a request.
    room: Rc<Notify>,
    pub(super) proof: P,
}

impl<P> fmt::Debug for Line<P> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Line").field("carried", &self.carried).finish_non_exhaustive()
    }
}

impl<P> Line<P> {
    /// No further request goes on it. It ends with its last.
    pub(super) fn retire(&self) {
        if self.sender.take().is_some() {
            self.idle_since.set(Instant::now());
            self.room.notify_waiters();
        }
    }

    pub(super) fn is_retired(&self) -> bool {
        self.sender.borrow().is_none()
    }

    /// How many requests it carries.
    pub(super) fn carried(&self) -> usize {
        self.carried.get()
    }

    /// Whether the other end takes one more, as far as it has said.
    pub(super) fn has_room(&self) -> bool {
        let most = self.sender.borrow().as_ref().map_or(0, SendRequest::current_max_send_streams);
        self.carried.get() < most.min(limits::STREAMS as usize)
    }
}

/// A place for one request on a connection, given back when dropped.
#[derive(Debug)]
pub struct Place<P> {
    sender: RefCell<SendRequest<Bytes>>,
    line: Rc<Line<P>>,
}

impl<P> Place<P> {
    /// None where it takes no more.
    pub(super) fn on(line: &Rc<Line<P>>) -> Option<Self> {
        let sender = line.sender.borrow().clone()?;
        line.carried.set(line.carried.get() + 1);
        Some(Self { sender: RefCell::new(sender), line: Rc::clone(line) })
    }

    /// Waits until the connection takes a request; at once, nearly always.
    ///
    /// # Errors
    /// It has said goodbye, or ended. Nothing was sent on it.
    pub(super) async fn ready(&self) -> Result<(), h2::Error> {
        poll_fn(|task| self.sender.borrow_mut().poll_ready(task)).await
    }

    /// Sends a request's head. `whole`: nothing follows.
    ///
    /// # Errors
    /// As of [`Self::ready`].
    pub(super) fn send(
        &self,
        head: Request<()>,
        whole: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        self.sender.borrow_mut().send_request(head, whole)
    }

    /// No further request goes on this connection.
    pub(crate) fn retire(&self) {
        self.line.retire();
    }

    /// What is known of the other end.
    pub fn proof(&self) -> &P {
        &self.line.proof
    }

    /// What the other end did too much of, so that the connection was ended.
    pub(crate) fn flaw(&self) -> Option<&'static str> {
        self.line.flaw.get()
    }
}

impl<P> Drop for Place<P> {
    fn drop(&mut self) {
        self.line.carried.set(self.line.carried.get().saturating_sub(1));
        if self.line.carried.get() == 0 {
            self.line.idle_since.set(Instant::now());
            if !self.line.stays {
                self.line.retire();
            }
        }
        self.line.room.notify_one();
    }
}

/// Begins HTTP/2 with prior knowledge, and waits until the other end has said what it takes. From then on the connection
/// drives itself. `room` is told when there may be room on it.
///
/// # Errors
/// It ended, or said nothing in time.
pub(super) async fn open<S, P>(
    io: S,
    proof: P,
    manner: Manner,
    room: &Rc<Notify>,
) -> io::Result<Rc<Line<P>>>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    P: 'static,
{
    let meter = Meter::of_server();
    let (sender, mut connection) = client::Builder::new()
        .enable_push(false)
        .initial_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(manner.window_bytes)
        .max_header_list_size(limits::FIELD_LIST_BYTES)
        .max_send_buffer_size(limits::SEND_BUFFER_BYTES)
        .max_concurrent_reset_streams(limits::RESETS_PENDING)
        .handshake::<_, Bytes>(Metered::new(io, meter.clone()))
        .await
        .map_err(io::Error::other)?;
    let line = Rc::new(Line {
        sender: RefCell::new(Some(sender)),
        carried: Cell::new(0),
        idle_since: Cell::new(Instant::now()),
        flaw: Cell::new(None),
        stays: manner.stays,
        room: Rc::clone(room),
        proof,
    });
    let pulse = manner.keep_alive.zip(connection.ping_pong());
    let pulse = pulse.map(|(every, pings)| Pulse::new(pings, every));
    let (begun, settings) = oneshot::channel();
    let timer = Box::pin(sleep_until(Instant::now()));
    let driven = Driven {
        connection,
        meter,
        line: Rc::clone(&line),
        idle: manner.idle,
        pulse,
        begun: Some(begun),
        settings: 0,
        timer,
    };
    spawn_local(driven.drive());
    match timeout(limits::SETTINGS, settings).await {
        Ok(Ok(())) => Ok(line),
        Ok(Err(_)) => {
            let why = line.flaw.get().unwrap_or("it ended before HTTP/2 began");
            Err(io::Error::new(io::ErrorKind::InvalidData, why))
        }
        Err(_) => {
            line.retire();
            Err(io::Error::new(io::ErrorKind::TimedOut, "it doesn't say what it takes"))
        }
    }
}

/// A connection that is driven.
struct Driven<S, P> {
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
    async fn drive(mut self) {
        let ended = poll_fn(|task| self.poll(task)).await;
        if let Ended::Flaw(what) = ended {
            self.line.flaw.set(Some(what));
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
            self.line.room.notify_waiters();
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
        let since = if self.line.carried() > 0 { now } else { self.line.idle_since.get() };
        longest.map(|longest| since + longest)
    }
}
