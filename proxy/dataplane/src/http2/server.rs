//! One client's connection: streams are taken up, decided and let go, until either side has enough.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use engine::gate::GateRule;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::gather::Gathered;
use super::limits;
use super::meter::Meter;
use super::metered::Metered;
use super::pulse::Pulse;
use crate::limits::GOODBYE;

/// What becomes of the streams of one client's connection.
pub(super) trait Service {
    /// Takes one up. What it gives is the work on it, which is dropped with the connection; none where all is said.
    fn take_up(
        &self,
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
    ) -> Option<impl Future<Output = ()> + 'static>;
    /// What was refused before it became a stream, with the rule that comes closest: counted and written down.
    fn refused_below(&self, rule: GateRule, what: &str);
    /// Ends when the connection should take up no more streams.
    fn ended(&self) -> impl Future<Output = ()>;
}

/// Serves HTTP/2 on `client`, which begins with the preface, until the connection ends. Dropping the future cuts all of it.
pub(super) async fn serve<S, V>(client: S, service: &V)
where
    S: AsyncRead + AsyncWrite + Unpin,
    V: Service,
{
    let meter = Meter::of_client();
    let gathered = Gathered::new(client);
    let handshake = builder().handshake(Metered::new(gathered.clone(), meter.clone()));
    let Ok(Ok(mut connection)) = timeout(limits::PREFACE, handshake).await else {
        return;
    };
    let Some(pings) = connection.ping_pong() else { return };
    let serving = Serving {
        connection,
        gathered,
        meter,
        service,
        streams: JoinSet::new(),
        pulse: Pulse::new(pings, limits::KEEP_ALIVE),
        idle_since: Instant::now(),
        goodbye: None,
        timer: Box::pin(sleep_until(Instant::now() + limits::PREFACE)),
    };
    let mut serving = pin!(serving);
    tokio::select! {
        biased;
        ended = poll_fn(|task| serving.as_mut().get_mut().poll(task)) => {
            return serving.end(ended).await;
        }
        () = service.ended() => serving.leave(),
    }
    let ended = poll_fn(|task| serving.as_mut().get_mut().poll(task)).await;
    serving.end(ended).await;
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(limits::STREAMS)
        .max_header_list_size(limits::FIELD_LIST_BYTES)
        .max_send_buffer_size(limits::SEND_BUFFER_BYTES)
        .max_concurrent_reset_streams(limits::RESETS_PENDING)
        .max_pending_accept_reset_streams(limits::RESETS_PENDING)
        .max_local_error_reset_streams(Some(limits::RESETS_LIFETIME));
    builder
}

/// A connection that is served.
struct Serving<'v, S, V> {
    connection: Connection<Metered<Gathered<S>>, Bytes>,
    gathered: Gathered<S>,
    meter: Meter,
    service: &'v V,
    /// The streams that are worked on; they end with the connection.
    streams: JoinSet<()>,
    pulse: Pulse,
    /// Since when there have been no streams.
    idle_since: Instant,
    /// When the end was announced.
    goodbye: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug)]
enum Ended {
    /// It is closed.
    Closed,
    /// The client spends too much, of this.
    Over(&'static str),
    /// The client left something unfinished for too long.
    Slow,
    /// The client says nothing any more.
    Gone,
}

impl<S, V> Serving<'_, S, V>
where
    S: AsyncRead + AsyncWrite + Unpin,
    V: Service,
{
    fn poll(&mut self, task: &mut Context<'_>) -> Poll<Ended> {
        while let Poll::Ready(Some(_)) = self.streams.poll_join_next(task) {
            self.idle_since = Instant::now();
        }
        self.gathered.hold();
        let closed = self.poll_streams(task).is_ready();
        let broken = matches!(self.gathered.poll_release(task), Poll::Ready(Err(_)));
        if let Some(kind) = self.meter.over() {
            return Poll::Ready(Ended::Over(kind.name()));
        }
        for below in self.meter.refused() {
            self.service.refused_below(below.rule, below.what);
        }
        if closed || broken {
            return Poll::Ready(Ended::Closed);
        }
        self.poll_time(task)
    }

    /// Takes up new streams. Ready when the connection is closed.
    fn poll_streams(&mut self, task: &mut Context<'_>) -> Poll<()> {
        loop {
            match std::task::ready!(self.connection.poll_accept(task)) {
                Some(Ok((request, respond))) => self.take_up(request, respond),
                Some(Err(_)) | None => return Poll::Ready(()),
            }
        }
    }

    fn take_up(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        self.meter.takes(respond.stream_id().as_u32());
        self.idle_since = Instant::now();
        if let Some(work) = self.service.take_up(request, respond) {
            self.streams.spawn_local(work);
        }
    }

    /// Looks whether something is due, and when to look again.
    fn poll_time(&mut self, task: &mut Context<'_>) -> Poll<Ended> {
        loop {
            let now = Instant::now();
            let due = match self.due(now) {
                Ok(due) => due,
                Err(ended) => return Poll::Ready(ended),
            };
            // A timer that goes off too early is set again then; only one that would be too late is set now.
            if due < self.timer.deadline() || self.timer.is_elapsed() {
                self.timer.as_mut().reset(due);
            }
            std::task::ready!(self.timer.as_mut().poll(task));
        }
    }

    /// When to look again; what is over.
    fn due(&mut self, now: Instant) -> Result<Instant, Ended> {
        let unfinished = self.meter.due();
        if unfinished.is_some_and(|due| due <= now) {
            return Err(Ended::Slow);
        }
        let next = if self.streams.is_empty() {
            self.idle(now)?
        } else {
            self.pulse.look(now, self.meter.heard()).map_err(|_| Ended::Gone)?
        };
        Ok(unfinished.map_or(next, |due| due.min(next)))
    }

    /// A connection without streams is given up after a while; soon, where that was announced.
    fn idle(&mut self, now: Instant) -> Result<Instant, Ended> {
        if let Some(announced) = self.goodbye {
            let due = announced.max(self.idle_since) + limits::KEEP_ALIVE_ANSWER;
            return if due <= now { Err(Ended::Gone) } else { Ok(due) };
        }
        let due = self.idle_since + limits::IDLE;
        if due > now {
            return Ok(due);
        }
        self.leave();
        Ok(now + limits::KEEP_ALIVE_ANSWER)
    }

    /// Announces the end: open streams go on, new ones are for another connection.
    fn leave(&mut self) {
        self.goodbye.get_or_insert_with(Instant::now);
        self.connection.graceful_shutdown();
    }

    /// Sees the connection out.
    async fn end(mut self: Pin<&mut Self>, ended: Ended) {
        match ended {
            Ended::Closed => return,
            Ended::Over(what) => self.service.refused_below(GateRule::Limits, what),
            Ended::Slow => {
                self.service.refused_below(GateRule::Limits, "a field list that takes too long");
            }
            Ended::Gone => {}
        }
        self.streams.abort_all();
        let code = match ended {
            Ended::Over(_) => Reason::ENHANCE_YOUR_CALM,
            _ => Reason::NO_ERROR,
        };
        self.connection.abrupt_shutdown(code);
        let goodbye = poll_fn(|task| self.connection.poll_closed(task));
        let _ = timeout(GOODBYE, goodbye).await;
    }
}
