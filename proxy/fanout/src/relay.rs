//! An audit stream: its messages are handed on one by one, each when the other side asks for it, and its answers back.
//!
//! A slow store slows the sender: what isn't asked for stays behind the window of the stream (AU-04).

use tokio::sync::OwnedSemaphorePermit;

use crate::events::Event;
use crate::grpc::{Answer, Fault, Incoming};
use crate::hub::Hub;
use crate::status::Status;
use crate::stream::Stream;

/// The state of one stream.
#[derive(Debug)]
pub(crate) struct Relay<'a> {
    hub: &'a Hub,
    stream: &'a Stream,
    incoming: Incoming,
    answer: Answer,
    /// For the message that the other side works on.
    room: Option<OwnedSemaphorePermit>,
    taking: bool,
}

impl<'a> Relay<'a> {
    pub(crate) fn new(
        hub: &'a Hub,
        stream: &'a Stream,
        incoming: Incoming,
        answer: Answer,
    ) -> Self {
        Self { hub, stream, incoming, answer, room: None, taking: false }
    }

    /// Relays until the other side ends it, or the peer gives up.
    pub(crate) async fn run(mut self) -> (Answer, Result<Status, Fault>) {
        let ended = self.serve().await;
        (self.answer, ended)
    }

    async fn serve(&mut self) -> Result<Status, Fault> {
        loop {
            if let Some(ended) = self.follow_orders().await? {
                return Ok(ended);
            }
            tokio::select! {
                message = self.incoming.next(), if self.taking => {
                    let (bytes, room) = message?.map(|got| (got.bytes, got.room)).unzip();
                    self.taking = false;
                    self.room = room.flatten();
                    self.hub.events.push(Event::Message { stream: self.stream.id, message: bytes });
                }
                () = self.answer.given_up(), if !self.taking => return Err(Fault::Gone),
                () = self.stream.changed.notified() => {}
            }
        }
    }

    async fn follow_orders(&mut self) -> Result<Option<Status>, Fault> {
        loop {
            let reply = {
                let mut orders = self.stream.orders();
                let reply = orders.replies.pop_front();
                if reply.is_none() {
                    if let Some(ended) = orders.end.take() {
                        return Ok(Some(ended));
                    }
                    if std::mem::take(&mut orders.takes) {
                        self.taking = true;
                        self.room = None;
                    }
                    if orders.admitted {
                        self.answer.begin()?;
                    }
                }
                reply
            };
            match reply {
                Some(bytes) => self.answer.send(vec![bytes]).await?,
                None => return Ok(None),
            }
        }
    }
}
