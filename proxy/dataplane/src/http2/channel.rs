//! Connections of HTTP/2 to one application, each shared by many requests of one worker.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tokio::task::spawn_local;

use super::limits;
use crate::exchange::Upstream;

/// The connections. One, as long as the other end takes all streams on it.
#[derive(Debug, Default)]
pub struct Channel {
    open: RefCell<Vec<Live>>,
    /// Whoever holds it dials; the others wait for what comes of it.
    dialling: Mutex<()>,
}

#[derive(Debug, Clone)]
struct Live {
    sender: SendRequest<Bytes>,
    state: Rc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// It takes no more requests: it has ended, or the other end is about to end it.
    retired: Cell<bool>,
    carried: Cell<usize>,
}

/// A place for one request on a connection, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) sender: SendRequest<Bytes>,
    state: Rc<State>,
}

impl Place {
    fn of(live: &Live) -> Self {
        live.state.carried.set(live.state.carried.get() + 1);
        Self { sender: live.sender.clone(), state: Rc::clone(&live.state) }
    }

    /// No further request goes on this connection.
    pub(super) fn retire(&self) {
        self.state.retired.set(true);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.state.carried.set(self.state.carried.get().saturating_sub(1));
    }
}

impl Live {
    fn has_room(&self) -> bool {
        self.state.carried.get() < self.sender.current_max_send_streams()
    }
}

impl Channel {
    /// A place on a connection that is open, or on a new one. Where there may be no more connections, the request waits
    /// for its turn on one of those that there are.
    ///
    /// # Errors
    /// Whatever dialling fails with.
    pub(super) async fn place<U: Upstream>(&self, upstream: &U) -> io::Result<Place>
    where
        U::Io: 'static,
    {
        if let Some(place) = self.free().await {
            return Ok(place);
        }
        let _turn = self.dialling.lock().await;
        if let Some(place) = self.free().await {
            return Ok(place);
        }
        let fullest =
            self.open.borrow().iter().min_by_key(|live| live.state.carried.get()).cloned();
        if let Some(live) = fullest.filter(|_| self.open.borrow().len() >= limits::CHANNELS) {
            return Ok(Place::of(&live));
        }
        let live = open(upstream.connect().await?).await?;
        self.open.borrow_mut().push(live.clone());
        Ok(Place::of(&live))
    }

    /// A place on the first connection that is good and has one.
    async fn free(&self) -> Option<Place> {
        loop {
            let live = {
                let mut open = self.open.borrow_mut();
                open.retain(|live| !live.state.retired.get());
                open.iter().find(|live| live.has_room()).cloned()
            }?;
            let place = Place::of(&live);
            match live.sender.ready().await {
                Ok(_) => return Some(place),
                // It has said goodbye, or ended: nothing was sent on it, so nothing is lost.
                Err(_) => place.retire(),
            }
        }
    }
}

/// Begins HTTP/2 with prior knowledge. The connection drives itself, until nobody needs it any more.
async fn open<S: AsyncRead + AsyncWrite + Unpin + 'static>(io: S) -> io::Result<Live> {
    let (sender, connection) = client::Builder::new()
        .enable_push(false)
        // Until it says how many it takes; the library would send any number.
        .initial_max_send_streams(limits::STREAMS_UNTIL_TOLD)
        .initial_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .max_header_list_size(limits::FIELD_LIST_BYTES)
        .max_send_buffer_size(limits::SEND_BUFFER_BYTES)
        .handshake::<_, Bytes>(io)
        .await
        .map_err(io::Error::other)?;
    let state = Rc::<State>::default();
    let ending = Rc::clone(&state);
    spawn_local(async move {
        // How it ended is told to each of its streams.
        let _ = connection.await;
        ending.retired.set(true);
    });
    Ok(Live { sender, state })
}
