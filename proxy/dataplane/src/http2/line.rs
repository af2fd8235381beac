//! One connection of HTTP/2 that we opened, and the places on it. It drives itself (`driven`).

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{self, ResponseFuture, SendRequest};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, oneshot};
use tokio::task::spawn_local;
use tokio::time::{Duration, Instant, timeout};

use super::driven::Driven;
use super::limits;
use super::meter::Meter;
use super::metered::Metered;
use super::pulse::Pulse;

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

    /// Somebody may find room on it now.
    pub(super) fn has_changed(&self) {
        self.room.notify_waiters();
    }

    /// The other end must not go on, because of this.
    pub(super) fn is_flawed(&self, what: &'static str) {
        self.flaw.set(Some(what));
    }

    /// Since when it has carried nothing, or was retired.
    pub(super) fn idle_since(&self) -> Instant {
        self.idle_since.get()
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
        .max_concurrent_reset_streams(limits::RESETS_REMEMBERED)
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
    let driven = Driven::new((connection, meter), Rc::clone(&line), (manner.idle, pulse), begun);
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
