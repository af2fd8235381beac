//! One client's connection: streams are taken up, decided and let go, until either side has enough.

use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context as Task, Poll, Waker};

use bytes::Bytes;
use engine::gate::GateRule;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream};
use http::{Method, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::gather::Gathered;
use super::meter::{Heard, Meter, Metered};
use super::reply::Reply;
use super::stream::Context;
use super::{fields, limits};
use crate::exchange::{Decider, Upstream, Verdict};
use crate::limits::GOODBYE;
use crate::onward::Onward;

/// Serves HTTP/2 on `client`, which begins with the preface, until the connection ends. Requests are decided by `decider`;
/// those with a permit go `onward`. Dropping the future cuts all of it.
pub async fn serve<S, D, U>(client: S, decider: Rc<D>, onward: Rc<Onward<U>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    D: Decider + 'static,
    U: Upstream + 'static,
{
    let meter = Meter::new();
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
        decider: Rc::clone(&decider),
        onward,
        streams: JoinSet::new(),
        pulse: Pulse { pings, asked: None, idle_since: Instant::now(), goodbye: None },
        timer: Box::pin(sleep_until(Instant::now() + limits::PREFACE)),
    };
    let mut serving = pin!(serving);
    tokio::select! {
        biased;
        ended = poll_fn(|task| serving.as_mut().get_mut().poll(task)) => {
            return serving.end(ended).await;
        }
        () = decider.ended() => serving.leave(),
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
struct Serving<S, D, U: Upstream> {
    connection: Connection<Metered<Gathered<S>>, Bytes>,
    gathered: Gathered<S>,
    meter: Meter,
    decider: Rc<D>,
    onward: Rc<Onward<U>>,
    /// The streams that were allowed; they end with the connection.
    streams: JoinSet<()>,
    pulse: Pulse,
    timer: Pin<Box<Sleep>>,
}

/// Whether the client is still there.
struct Pulse {
    pings: PingPong,
    /// When it was asked last, if it hasn't said anything since.
    asked: Option<(Instant, Heard)>,
    /// Since when there have been no streams.
    idle_since: Instant,
    /// When the end was announced.
    goodbye: Option<Instant>,
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

impl<S, D, U> Serving<S, D, U>
where
    S: AsyncRead + AsyncWrite + Unpin,
    D: Decider + 'static,
    U: Upstream + 'static,
{
    fn poll(&mut self, task: &mut Task<'_>) -> Poll<Ended> {
        while let Poll::Ready(Some(_)) = self.streams.poll_join_next(task) {
            self.pulse.idle_since = Instant::now();
        }
        self.gathered.hold();
        let closed = self.poll_streams(task).is_ready();
        let broken = matches!(self.gathered.poll_release(task), Poll::Ready(Err(_)));
        if let Some(kind) = self.meter.over() {
            return Poll::Ready(Ended::Over(kind.name()));
        }
        for below in self.meter.refused() {
            self.decider.refused_below(below.rule, below.what);
        }
        if closed || broken {
            return Poll::Ready(Ended::Closed);
        }
        self.poll_time(task)
    }

    /// Takes up new streams. Ready when the connection is closed.
    fn poll_streams(&mut self, task: &mut Task<'_>) -> Poll<()> {
        loop {
            match std::task::ready!(self.connection.poll_accept(task)) {
                Some(Ok((request, respond))) => self.take_up(request, respond),
                Some(Err(_)) | None => return Poll::Ready(()),
            }
        }
    }

    fn take_up(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        self.meter.takes(respond.stream_id().as_u32());
        self.pulse.idle_since = Instant::now();
        let (parts, body) = request.into_parts();
        let verdict = self.decider.decide_fields(&fields::of_request(&parts));
        let mut reply = Reply::new(respond, parts.method == Method::HEAD);
        match verdict {
            Verdict::Answer(answer) => reply.refuse(&answer),
            // The stream ends with its answer, and with it all that belongs to the request.
            Verdict::Deny(denied) => {
                reply.refuse(&denied.answer);
                self.decider.give_back(denied.request);
            }
            // Semantics D5: without a word.
            Verdict::Close => reply.reset(Reason::HTTP_1_1_REQUIRED),
            Verdict::Forward(granted) => {
                let (decider, onward) = (Rc::clone(&self.decider), Rc::clone(&self.onward));
                let context = Context { decider, onward };
                self.streams.spawn_local(context.carry(granted, body, reply));
            }
        }
    }

    /// Looks whether something is due, and when to look again.
    fn poll_time(&mut self, task: &mut Task<'_>) -> Poll<Ended> {
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
        let next = if self.streams.is_empty() { self.idle(now)? } else { self.pulse(now)? };
        Ok(unfinished.map_or(next, |due| due.min(next)))
    }

    /// A connection without streams is given up after a while; soon, where that was announced.
    fn idle(&mut self, now: Instant) -> Result<Instant, Ended> {
        if let Some(announced) = self.pulse.goodbye {
            let due = announced.max(self.pulse.idle_since) + limits::KEEP_ALIVE_ANSWER;
            return if due <= now { Err(Ended::Gone) } else { Ok(due) };
        }
        let due = self.pulse.idle_since + limits::IDLE;
        if due > now {
            return Ok(due);
        }
        self.leave();
        Ok(now + limits::KEEP_ALIVE_ANSWER)
    }

    /// Announces the end: open streams go on, new ones are for another connection.
    fn leave(&mut self) {
        self.pulse.goodbye.get_or_insert_with(Instant::now);
        self.connection.graceful_shutdown();
    }

    /// A client with open streams that says nothing is asked whether it is there.
    fn pulse(&mut self, now: Instant) -> Result<Instant, Ended> {
        let heard = self.meter.heard();
        match self.pulse.asked {
            Some((asked, before)) if heard == before => {
                let due = asked + limits::KEEP_ALIVE_ANSWER;
                if due <= now { Err(Ended::Gone) } else { Ok(due) }
            }
            _ if heard.last + limits::KEEP_ALIVE <= now => {
                self.pulse.asked = Some((now, heard));
                // The answer to an earlier one makes room for this one; that it came is known from below.
                let _ = self.pulse.pings.poll_pong(&mut Task::from_waker(Waker::noop()));
                let _ = self.pulse.pings.send_ping(Ping::opaque());
                Ok(now + limits::KEEP_ALIVE_ANSWER)
            }
            _ => {
                self.pulse.asked = None;
                Ok(heard.last + limits::KEEP_ALIVE)
            }
        }
    }

    /// Sees the connection out.
    async fn end(mut self: Pin<&mut Self>, ended: Ended) {
        match ended {
            Ended::Closed => return,
            Ended::Over(what) => self.decider.refused_below(GateRule::Limits, what),
            Ended::Slow => {
                self.decider.refused_below(GateRule::Limits, "a field list that takes too long");
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
