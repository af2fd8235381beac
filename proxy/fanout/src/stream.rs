//! One stream as both sides of the fan-out see it: what it is to do, and how it is.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::contents::Wanted;
use crate::events::StreamId;
use crate::hub::locked;
use crate::status::Status;

/// How far a proxy is with what it is to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// It was told nothing yet.
    #[default]
    Connected,
    /// It knows more than policyd does.
    Waiting,
    /// It was told, and hasn't answered.
    Assigned,
    /// It enforces what it was told.
    Enforcing,
    /// It refused what it was told; the former table stays.
    Refused,
}

impl State {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Waiting => "waiting",
            Self::Assigned => "assigned",
            Self::Enforcing => "enforcing",
            Self::Refused => "refused",
        }
    }
}

/// How a policy stream is.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// How far it is.
    pub state: State,
    /// Why, where there is more to say.
    pub detail: String,
    /// SHA-256 of the snapshot that the proxy says it enforces; empty: none.
    pub enforced: Bytes,
    /// The three hashes that it was last told; empty: none.
    pub told: [Bytes; 3],
}

/// What the other side wants of a stream. The latest wins: nothing queues up but replies, of which each message has one.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    pub(crate) admitted: bool,
    /// When the peer's certificate ends.
    pub(crate) until_millis: Option<i64>,
    pub(crate) end: Option<Status>,
    pub(crate) wanted: Option<Arc<Wanted>>,
    /// Why nothing is told or confirmed.
    pub(crate) withheld: Option<String>,
    /// A Hello waits for an answer of the other side.
    pub(crate) asks: bool,
    pub(crate) replies: VecDeque<Bytes>,
    pub(crate) takes: bool,
}

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    orders: Mutex<Orders>,
    view: Mutex<View>,
    pub(crate) changed: Notify,
}

impl Stream {
    pub(crate) fn new(id: StreamId) -> Self {
        Self { id, orders: Mutex::default(), view: Mutex::default(), changed: Notify::new() }
    }

    /// Changes what is wanted, and lets the stream know.
    pub(crate) fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.orders());
        self.changed.notify_one();
    }

    pub(crate) fn orders(&self) -> MutexGuard<'_, Orders> {
        locked(&self.orders)
    }

    pub(crate) fn view(&self) -> MutexGuard<'_, View> {
        locked(&self.view)
    }
}
