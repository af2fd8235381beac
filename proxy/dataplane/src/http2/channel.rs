//! The connections of HTTP/2 to one application or endpoint, each shared by many requests of one worker.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::{Duration, Instant, timeout_at};

use super::limits;
use super::line::{self, Line, Manner, Place};

/// The connections. One, as long as the other end takes all requests on it. `E` is why a dial failed.
#[derive(Debug)]
pub struct Channel<P = (), E = io::ErrorKind> {
    open: RefCell<Vec<Rc<Line<P>>>>,
    /// Somebody dials; the others wait for what comes of it.
    dialling: Cell<bool>,
    /// Told when a dial is over.
    dialled: Notify,
    /// How many dials have failed, and how the last one did.
    failed: RefCell<(u64, Option<E>)>,
    /// Told when there may be room on a connection.
    room: Rc<Notify>,
}

impl<P, E> Default for Channel<P, E> {
    fn default() -> Self {
        Self {
            open: RefCell::default(),
            dialling: Cell::default(),
            dialled: Notify::default(),
            failed: RefCell::new((0, None)),
            room: Rc::default(),
        }
    }
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPlace<E> {
    /// The dial failed that one was waited from, so.
    Failed(E),
    /// The other end takes no more requests, and hasn't for the time that one may wait.
    Full,
}

/// A connection that was dialled.
#[derive(Debug)]
pub struct Opened<P>(Rc<Line<P>>);

/// The turn of whoever dials. When it is over, with or without a connection, the others are told.
struct Turn<'c, P, E>(&'c Channel<P, E>);

impl<P, E> Drop for Turn<'_, P, E> {
    fn drop(&mut self) {
        self.0.dialling.set(false);
        self.0.dialled.notify_waiters();
    }
}

impl<P, E: Clone> Channel<P, E> {
    /// A place on a connection of which `stands` says yes, or on a new one that `dial` opens. Where there may be no more
    /// connections, `patience` is how long the request waits for its turn on one of those that there are.
    ///
    /// # Errors
    /// What its own dial failed with, or the one that it waited for; or there is no room.
    pub async fn place(
        &self,
        stands: impl Fn(&P) -> bool,
        dial: impl AsyncFn() -> Result<Opened<P>, E>,
        patience: Duration,
    ) -> Result<Place<P>, NoPlace<E>> {
        let deadline = Instant::now() + patience;
        loop {
            // Taken before looking, so that nothing that happens meanwhile is missed.
            let (dialled, room) = (self.dialled.notified(), self.room.notified());
            if let Some(place) = self.free(&stands).await {
                return Ok(place);
            }
            if self.dialling.get() {
                let before = self.failed.borrow().0;
                tokio::select! {
                    () = dialled => self.failed_since(before).map_or(Ok(()), Err)?,
                    () = room => {}
                }
            } else if self.may_dial() {
                self.dialling.set(true);
                let turn = Turn(self);
                match dial().await {
                    Ok(Opened(line)) => self.open.borrow_mut().push(line),
                    Err(error) => {
                        let mut failed = self.failed.borrow_mut();
                        *failed = (failed.0 + 1, Some(error.clone()));
                        return Err(NoPlace::Failed(error));
                    }
                }
                drop(turn);
            } else {
                timeout_at(deadline, room).await.map_err(|_| NoPlace::Full)?;
            }
        }
    }

    /// Why a dial failed, if one has since there were so many.
    fn failed_since(&self, before: u64) -> Option<NoPlace<E>> {
        let failed = self.failed.borrow();
        if failed.0 == before { None } else { failed.1.clone().map(NoPlace::Failed) }
    }

    /// Another connection helps where each there is carries something; one that takes nothing would be followed by others.
    fn may_dial(&self) -> bool {
        let open = self.open.borrow();
        open.len() < limits::CHANNELS && open.iter().all(|line| line.carried() > 0)
    }

    /// A place on the first connection that is good and has one.
    async fn free(&self, stands: impl Fn(&P) -> bool) -> Option<Place<P>> {
        loop {
            let place = {
                self.retain(&stands);
                let open = self.open.borrow();
                open.iter().find(|line| line.has_room()).and_then(Place::on)
            }?;
            match place.ready().await {
                Ok(()) => return Some(place),
                // It has said goodbye, or ended: nothing was sent on it, so nothing is lost.
                Err(_) => place.retire(),
            }
        }
    }

    /// Lets no further request go on connections of which `stands` says no.
    pub fn retain(&self, stands: impl Fn(&P) -> bool) {
        self.open.borrow_mut().retain(|line| {
            if !line.is_retired() && !stands(&line.proof) {
                line.retire();
            }
            !line.is_retired()
        });
    }

    /// Whether there are none, and nobody dials.
    pub fn is_empty(&self) -> bool {
        self.open.borrow().is_empty() && !self.dialling.get()
    }

    /// Lets no further request go on any connection. They end with the last that they carry.
    pub fn clear(&self) {
        self.retain(|_| false);
    }

    /// Begins HTTP/2 on a connection that was dialled for this.
    ///
    /// # Errors
    /// It ended, or said nothing in time.
    pub async fn open<S>(&self, io: S, proof: P, manner: Manner) -> io::Result<Opened<P>>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
        P: 'static,
    {
        line::open(io, proof, manner, &self.room).await.map(Opened)
    }
}
