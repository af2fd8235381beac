//! What the other end may spend of frames that cost us work and move nothing (§4.4). `h2` answers most of them by itself, so
//! they are counted below it.

use tokio::time::Instant;

use super::frames::{Frame, kind};
use super::limits;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Settings,
    Ping,
    Priority,
    WindowUpdate,
    Reset,
    EmptyData,
    Continuation,
    Other,
}

const KINDS: usize = 8;

impl Kind {
    /// What a frame counts as; none where it moves something.
    pub(super) fn of(frame: &Frame) -> Option<Self> {
        match frame.kind {
            kind::DATA if frame.is_empty_data() => Some(Self::EmptyData),
            kind::DATA | kind::HEADERS => None,
            kind::PRIORITY => Some(Self::Priority),
            kind::RST_STREAM => Some(Self::Reset),
            kind::SETTINGS => Some(Self::Settings),
            kind::PING => Some(Self::Ping),
            kind::WINDOW_UPDATE => Some(Self::WindowUpdate),
            kind::CONTINUATION => Some(Self::Continuation),
            _ => Some(Self::Other),
        }
    }

    /// What there is too much of, for the record.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Settings => "too many SETTINGS frames",
            Self::Ping => "too many PING frames",
            Self::Priority => "too many PRIORITY frames",
            Self::WindowUpdate => "too many WINDOW_UPDATE frames",
            Self::Reset => "too many resets",
            Self::EmptyData => "too many empty DATA frames",
            Self::Continuation => "too many CONTINUATION frames",
            Self::Other => "too many unknown frames",
        }
    }
}

/// What moved in one window of time: it excuses frames that come with it.
#[derive(Debug, Clone, Copy, Default)]
struct Moved {
    data_sent: u32,
    streams: u32,
}

/// Counts the frames of one other end.
#[derive(Debug)]
pub(super) struct Budget {
    /// Resets that each stream excuses: a server may end each one that we open so.
    resets_per_stream: u32,
    since: Instant,
    spent: [u32; KINDS],
    now: Moved,
    before: Moved,
}

impl Budget {
    /// Of a client, which opens the streams.
    pub(super) fn of_client(now: Instant) -> Self {
        Self::new(now, 0)
    }

    /// Of a server, where we open them.
    pub(super) fn of_server(now: Instant) -> Self {
        Self::new(now, 1)
    }

    fn new(now: Instant, resets_per_stream: u32) -> Self {
        let (before, moved) = (Moved::default(), Moved::default());
        Self { resets_per_stream, since: now, spent: [0; KINDS], now: moved, before }
    }

    /// To be called before the others, now and then.
    pub(super) fn pass_time(&mut self, now: Instant) {
        if now.duration_since(self.since) >= limits::BUDGET_WINDOW {
            self.since = now;
            self.spent = [0; KINDS];
            self.before = std::mem::take(&mut self.now);
        }
    }

    /// We sent a DATA frame.
    pub(super) fn data_sent(&mut self) {
        self.now.data_sent = self.now.data_sent.saturating_add(1);
    }

    /// A stream was opened.
    pub(super) fn stream_opened(&mut self) {
        self.now.streams = self.now.streams.saturating_add(1);
    }

    /// Counts one; false where that is one too many.
    pub(super) fn spend(&mut self, what: Kind) -> bool {
        let most = self.most(what);
        let Some(spent) = self.spent.get_mut(what as usize) else { return false };
        *spent += 1;
        *spent <= most
    }

    fn most(&self, what: Kind) -> u32 {
        let data = self.now.data_sent.saturating_add(self.before.data_sent);
        let streams = self.now.streams.saturating_add(self.before.streams);
        let for_data = data.saturating_mul(limits::PER_DATA_SENT);
        let for_streams = streams.saturating_mul(limits::PER_STREAM);
        match what {
            Kind::Reset => {
                limits::RESETS.saturating_add(streams.saturating_mul(self.resets_per_stream))
            }
            Kind::WindowUpdate => {
                limits::FRAMES.saturating_add(for_data).saturating_add(for_streams)
            }
            Kind::Ping => limits::FRAMES.saturating_add(for_data),
            Kind::Priority | Kind::Continuation => limits::FRAMES.saturating_add(for_streams),
            Kind::Settings | Kind::EmptyData | Kind::Other => limits::FRAMES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spendable(budget: &mut Budget, what: Kind) -> u32 {
        let mut count = 0;
        while budget.spend(what) {
            count += 1;
        }
        count
    }

    #[test]
    fn h2_04_each_kind_has_its_own_bound_and_time_gives_it_back() {
        let start = Instant::now();
        let mut budget = Budget::of_client(start);
        assert_eq!(spendable(&mut budget, Kind::Settings), limits::FRAMES);
        assert_eq!(spendable(&mut budget, Kind::Ping), limits::FRAMES);
        assert_eq!(spendable(&mut budget, Kind::Reset), limits::RESETS);
        budget.pass_time(start + limits::BUDGET_WINDOW / 2);
        assert_eq!(spendable(&mut budget, Kind::Settings), 0);
        budget.pass_time(start + limits::BUDGET_WINDOW);
        assert_eq!(spendable(&mut budget, Kind::Settings), limits::FRAMES);
    }

    #[test]
    fn h2_17_a_server_may_reset_what_we_open_and_little_more() {
        let mut budget = Budget::of_server(Instant::now());
        (0..1_000).for_each(|_| budget.stream_opened());
        assert_eq!(spendable(&mut budget, Kind::Reset), limits::RESETS + 1_000);
        let mut budget = Budget::of_client(Instant::now());
        (0..1_000).for_each(|_| budget.stream_opened());
        assert_eq!(spendable(&mut budget, Kind::Reset), limits::RESETS);
    }

    #[test]
    fn whoever_receives_much_may_say_so_often() {
        let mut budget = Budget::of_client(Instant::now());
        (0..50).for_each(|_| budget.data_sent());
        let more = 50 * limits::PER_DATA_SENT;
        assert_eq!(spendable(&mut budget, Kind::WindowUpdate), limits::FRAMES + more);
        assert_eq!(spendable(&mut budget, Kind::Settings), limits::FRAMES);
    }
}
