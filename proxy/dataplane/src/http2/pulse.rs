//! Whether the other end of a connection is still there: who is silent for long is asked, and has little time to answer.

use std::task::{Context, Waker};

use h2::{Ping, PingPong};
use tokio::time::{Duration, Instant};

use super::limits;
use super::meter::Heard;

/// It says nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Silent;

/// Asks one connection.
pub(super) struct Pulse {
    pings: PingPong,
    /// How long it may be silent without being asked.
    every: Duration,
    /// When it was asked last, if it hasn't said anything since.
    asked: Option<(Instant, Heard)>,
}

impl Pulse {
    /// Of a connection that may be silent for so long.
    pub(super) fn new(pings: PingPong, every: Duration) -> Self {
        Self { pings, every, asked: None }
    }

    /// Asks where it is time to; when to look again.
    ///
    /// # Errors
    /// It was asked, and has said nothing for too long since.
    pub(super) fn look(&mut self, now: Instant, heard: Heard) -> Result<Instant, Silent> {
        match self.asked {
            Some((asked, before)) if heard == before => {
                let due = asked + limits::KEEP_ALIVE_ANSWER;
                if due <= now { Err(Silent) } else { Ok(due) }
            }
            _ if heard.last + self.every <= now => {
                self.asked = Some((now, heard));
                // The answer to an earlier one makes room for this one; that it came is known from below.
                let _ = self.pings.poll_pong(&mut Context::from_waker(Waker::noop()));
                let _ = self.pings.send_ping(Ping::opaque());
                Ok(now + limits::KEEP_ALIVE_ANSWER)
            }
            _ => {
                self.asked = None;
                Ok(heard.last + self.every)
            }
        }
    }
}
