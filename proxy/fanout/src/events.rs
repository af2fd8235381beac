//! What the other side of the fan-out is to hear of: a queue, and a descriptor that is readable while it isn't empty.
//!
//! Each stream has at most a handful of events waiting: what it was, one Hello, one Nack, one message, its end. So the
//! queue is bounded by the number of streams.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

use bytes::Bytes;

use crate::hub::locked;
use crate::status::Status;

/// A stream, by a number that is never used again.
pub type StreamId = u64;

/// Which call a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// `PolicyStream.Follow`.
    Policy,
    /// `AuditStream.Deliver`.
    Audit,
}

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// A peer with a verified certificate opened a stream; nothing of it is read before it is admitted.
    Opened {
        /// Which.
        stream: StreamId,
        /// What it asks for.
        service: Service,
        /// Its certificate (DER).
        leaf: Bytes,
    },
    /// A proxy said its Hello, or another. Nothing more of the stream is read until it is told, withheld or ended.
    Hello {
        /// Which.
        stream: StreamId,
        /// The message `Hello`.
        message: Bytes,
    },
    /// A proxy refused what it was assigned.
    Nack {
        /// Which.
        stream: StreamId,
        /// SHA-256 of the snapshot.
        snapshot: Bytes,
        /// Code and detail.
        reason: String,
    },
    /// A message of an audit stream, as asked for; none at the end of the peer's side.
    Message {
        /// Which.
        stream: StreamId,
        /// Its bytes.
        message: Option<Bytes>,
    },
    /// A stream is over.
    Ended {
        /// Which.
        stream: StreamId,
        /// Why the fan-out ended it; none where the peer left, or where the other side ended it.
        status: Option<Status>,
    },
}

#[derive(Debug)]
pub(crate) struct Events {
    waiting: Mutex<VecDeque<Event>>,
    ring: UnixStream,
    heard: UnixStream,
}

impl Events {
    pub(crate) fn new() -> io::Result<Self> {
        let (ring, heard) = UnixStream::pair()?;
        ring.set_nonblocking(true)?;
        heard.set_nonblocking(true)?;
        Ok(Self { waiting: Mutex::default(), ring, heard })
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.heard.as_raw_fd()
    }

    pub(crate) fn push(&self, event: Event) {
        let mut waiting = locked(&self.waiting);
        if waiting.is_empty() {
            // One byte at most lies in the socket, so there is room for it.
            let _ = (&self.ring).write(&[0]);
        }
        waiting.push_back(event);
    }

    /// Takes the oldest; the descriptor stays readable where there are more.
    pub(crate) fn take(&self, most: usize) -> Vec<Event> {
        let mut waiting = locked(&self.waiting);
        let count = waiting.len().min(most);
        let taken = waiting.drain(..count).collect();
        if waiting.is_empty() {
            let _ = (&self.heard).read(&mut [0; 8]);
            waiting.shrink_to(1024);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readable(events: &Events) -> bool {
        let mut peeked = [std::mem::MaybeUninit::uninit(); 8];
        socket2::SockRef::from(&events.heard).peek(&mut peeked).is_ok_and(|got| got > 0)
    }

    #[test]
    fn the_descriptor_is_readable_while_something_waits() {
        let events = Events::new().unwrap();
        assert!(!readable(&events));
        for stream in 0..3 {
            events.push(Event::Ended { stream, status: None });
        }
        assert_eq!(events.take(2).len(), 2);
        assert!(readable(&events));
        assert_eq!(events.take(2).len(), 1);
        assert!(!readable(&events));
        events.push(Event::Ended { stream: 3, status: None });
        assert!(readable(&events));
    }
}
