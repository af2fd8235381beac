//! What is known of a connection from the bytes below `h2`: what the client spends, what it leaves unfinished, and what
//! `h2` refused without asking anybody.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use engine::gate::GateRule;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::budget::{Budget, Kind};
use super::frames::{Frame, Frames, Stage, kind};
use super::limits;

/// Something that `h2` refused by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Below {
    /// The rule that comes closest.
    pub(super) rule: GateRule,
    /// What happened, for the record.
    pub(super) what: &'static str,
}

/// One connection's meter, shared by the stream below `h2` and the loop above it.
#[derive(Debug, Clone)]
pub(super) struct Meter(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    incoming: Frames,
    outgoing: Frames,
    budget: Budget,
    /// The first kind of which there was too much.
    over: Option<Kind>,
    /// Since when a preface, the first SETTINGS, or a field list isn't whole.
    unfinished: Option<(Instant, Unfinished)>,
    heard: Heard,
    /// Streams that we took up and whose answers have not ended.
    taken: BTreeSet<u32>,
    refused: Vec<Below>,
}

/// What has come from the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) last: Instant,
    pub(super) times: u64,
}

/// What isn't whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unfinished {
    Start,
    Fields,
}

impl Meter {
    /// Of a client's connection that begins now.
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self(Rc::new(RefCell::new(State {
            incoming: Frames::of_client(),
            outgoing: Frames::of_server(),
            budget: Budget::new(now),
            over: None,
            unfinished: Some((now, Unfinished::Start)),
            heard: Heard { last: now, times: 0 },
            taken: BTreeSet::new(),
            refused: Vec::new(),
        })))
    }

    /// What the client has spent too much of.
    pub(super) fn over(&self) -> Option<Kind> {
        self.0.borrow().over
    }

    /// When the last byte came, and how often any did.
    pub(super) fn heard(&self) -> Heard {
        self.0.borrow().heard
    }

    /// When what isn't whole must be.
    pub(super) fn due(&self) -> Option<Instant> {
        self.0.borrow().unfinished.map(|(since, what)| match what {
            Unfinished::Start => since + limits::PREFACE,
            Unfinished::Fields => since + limits::HEAD,
        })
    }

    /// A stream was taken up: its answer is ours.
    pub(super) fn takes(&self, stream: u32) {
        let mut state = self.0.borrow_mut();
        state.taken.insert(stream);
        if state.taken.len() > limits::STREAMS_REMEMBERED {
            state.taken.pop_first();
        }
    }

    /// What `h2` has refused since the last time.
    pub(super) fn refused(&self) -> Vec<Below> {
        std::mem::take(&mut self.0.borrow_mut().refused)
    }

    fn received(&self, bytes: &[u8]) -> bool {
        let mut state = self.0.borrow_mut();
        let State { incoming, budget, over, unfinished, heard, .. } = &mut *state;
        *heard = Heard { last: Instant::now(), times: heard.times + 1 };
        budget.pass_time(heard.last);
        incoming.feed(bytes, |stage, frame| {
            match stage {
                Stage::Begun if frame.kind == kind::HEADERS => budget.stream_opened(),
                Stage::Begun => return,
                Stage::Whole => {
                    if let Some(kind) = Kind::of(frame)
                        && !frame.is_answer()
                        && !budget.spend(kind)
                    {
                        over.get_or_insert(kind);
                    }
                }
            }
            follow(unfinished, stage, frame, heard.last);
        });
        state.over.is_none()
    }

    fn sent(&self, bytes: &[u8]) {
        let mut state = self.0.borrow_mut();
        let State { outgoing, budget, over, taken, refused, .. } = &mut *state;
        outgoing.feed(bytes, |stage, frame| {
            if stage == Stage::Begun {
                return;
            }
            let below = below(frame, taken);
            if frame.kind == kind::DATA {
                budget.data_sent();
            }
            if frame.ends_stream() || frame.kind == kind::RST_STREAM {
                taken.remove(&frame.stream);
            }
            if let Some(below) = below {
                if !budget.spend(Kind::Reset) {
                    over.get_or_insert(Kind::Reset);
                }
                if refused.len() < limits::REFUSALS_HELD {
                    refused.push(below);
                }
            }
        });
    }
}

/// Keeps what isn't whole: a field list from its first frame's head on.
fn follow(
    unfinished: &mut Option<(Instant, Unfinished)>,
    stage: Stage,
    frame: &Frame,
    now: Instant,
) {
    match (stage, frame.kind) {
        (Stage::Begun, kind::HEADERS) if unfinished.is_none() => {
            *unfinished = Some((now, Unfinished::Fields));
        }
        (Stage::Whole, kind::HEADERS | kind::CONTINUATION)
            if !frame.leaves_fields_open()
                && matches!(unfinished, Some((_, Unfinished::Fields))) =>
        {
            *unfinished = None;
        }
        (Stage::Whole, kind::SETTINGS) if matches!(unfinished, Some((_, Unfinished::Start))) => {
            *unfinished = None;
        }
        _ => {}
    }
}

/// What a frame that we send says of a client, where only `h2` can have sent it: we reset with other codes, and answer
/// streams that we took up.
fn below(frame: &Frame, taken: &BTreeSet<u32>) -> Option<Below> {
    const NO_ERROR: u32 = 0;
    const PROTOCOL_ERROR: u32 = 1;
    const ENHANCE_YOUR_CALM: u32 = 11;
    let known = taken.contains(&frame.stream);
    let (rule, what) = match (frame.kind, frame.code()) {
        (kind::HEADERS, _) if !known => (GateRule::Limits, "a field list that is too long"),
        (kind::RST_STREAM, PROTOCOL_ERROR) if known => (GateRule::G8, "a malformed body"),
        (kind::RST_STREAM, PROTOCOL_ERROR) => (GateRule::G11, "a malformed field list"),
        (kind::RST_STREAM, 3 | 5 | 6) => (GateRule::G18, "frames against HTTP/2"),
        (kind::GOAWAY, _) => match frame.goaway_code() {
            NO_ERROR => return None,
            ENHANCE_YOUR_CALM => (GateRule::Limits, "too much of a kind"),
            _ => (GateRule::G18, "a connection against HTTP/2"),
        },
        _ => return None,
    };
    Some(Below { rule, what })
}

/// The stream below `h2`.
#[derive(Debug)]
pub(super) struct Metered<S> {
    stream: S,
    meter: Meter,
}

impl<S> Metered<S> {
    pub(super) fn new(stream: S, meter: Meter) -> Self {
        Self { stream, meter }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.meter.over().is_some() {
            // Nothing of it is read any more; the loop above ends the connection.
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if self.meter.received(buffer.filled().get(before..).unwrap_or_default()) {
            return Poll::Ready(Ok(()));
        }
        buffer.set_filled(before);
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = std::task::ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.meter.sent(bytes.get(..count).unwrap_or_default());
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
