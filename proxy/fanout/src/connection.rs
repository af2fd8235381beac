//! One connection: its handshake within its time, then its calls. Nobody is listened to who hasn't proven who he is.

use std::sync::Arc;

use aws_lc_rs::digest;
use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, Connection, SendResponse};
use http::{Request, StatusCode};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::events::{Event, Service};
use crate::grpc::{Answer, Fault, Incoming, is_call, stopping};
use crate::guarded;
use crate::hub::{Hub, PeerPlace};
use crate::limits;
use crate::paced::Paced;
use crate::relay::Relay;
use crate::session::Session;
use crate::status::{RESOURCE_EXHAUSTED, Status, UNIMPLEMENTED};
use crate::stream::Stream;

const POLICY_PATH: &str = "/policyd.v1.PolicyStream/Follow";
const AUDIT_PATH: &str = "/policyd.v1.AuditStream/Deliver";
const ALPN: &[u8] = b"h2";

type Secured = Paced<TlsStream<TcpStream>>;

/// A connection whose peer has proven who he is, and speaks HTTP/2.
struct Proven {
    http2: Box<Connection<Secured, Bytes>>,
    leaf: Bytes,
    place: PeerPlace,
}

/// Serves a connection. `place` is kept to its end; `unproven`, until it has shown who its peer is.
pub(crate) async fn serve(
    hub: Arc<Hub>,
    tcp: TcpStream,
    place: OwnedSemaphorePermit,
    unproven: OwnedSemaphorePermit,
) {
    let Some(proven) = handshake(&hub, tcp).await else { return };
    drop(unproven);
    // A task of its own: what the handshake took is given back.
    guarded::spawn(async move {
        calls(hub, proven).await;
        drop(place);
    });
}

async fn handshake(hub: &Arc<Hub>, tcp: TcpStream) -> Option<Proven> {
    let within = hub.times.handshake;
    // A turn is for those who have begun: silence takes none.
    timeout(within, tcp.peek(&mut [0])).await.ok()?.ok()?;
    let turn = hub.handshakes.acquire().await.ok()?;
    let config = hub.credentials()?.tls.clone();
    let accepted = timeout(within, TlsAcceptor::from(config).accept(tcp)).await;
    drop(turn);
    let Ok(Ok(io)) = accepted else {
        hub.counts.handshakes_failed.add();
        return None;
    };
    let session = io.get_ref().1;
    let leaf = session.peer_certificates().and_then(|chain| chain.first())?;
    let leaf = Bytes::copy_from_slice(leaf);
    if session.alpn_protocol() != Some(ALPN) {
        hub.counts.handshakes_failed.add();
        return None;
    }
    let Some(place) = hub.place(sha256(&leaf)) else {
        hub.counts.connections_refused.add();
        return None;
    };
    let preface = http2().handshake(Paced::new(io));
    let Ok(Ok(http2)) = timeout(within, preface).await else {
        hub.counts.connections_failed.add();
        return None;
    };
    Some(Proven { http2: Box::new(http2), leaf, place })
}

async fn calls(hub: Arc<Hub>, proven: Proven) {
    let Proven { http2: mut connection, leaf, place } = proven;
    let open = Arc::new(());
    let mut calls = CallAllowance { left: limits::CALLS_AT_ONCE, at: Instant::now() };
    let mut ending = hub.ending();
    let idle = sleep(hub.times.idle);
    tokio::pin!(idle);
    loop {
        tokio::select! {
            call = connection.accept() => match call {
                Some(Ok((request, respond))) => {
                    if !calls.spend(Instant::now()) {
                        return hub.counts.connections_failed.add();
                    }
                    let call = Call { request, respond, leaf: leaf.clone() };
                    answer(&hub, call, Arc::clone(&open));
                    idle.as_mut().reset(Instant::now() + hub.times.idle);
                }
                Some(Err(_)) => return hub.counts.connections_failed.add(),
                None => return,
            },
            () = &mut idle => {
                // Whatever it hasn't read of calls that are over is dropped here.
                if Arc::strong_count(&open) == 1 {
                    return;
                }
                idle.as_mut().reset(Instant::now() + hub.times.idle);
            }
            _ = ending.wait_for(|ending| *ending) => break,
        }
    }
    finish(*connection, &open).await;
    drop(place);
}

/// Lets the calls that are open be told that they are over, then the connection.
async fn finish(mut connection: Connection<Secured, Bytes>, open: &Arc<()>) {
    let (mut told, mut written) = (false, false);
    loop {
        let over = Arc::strong_count(open) == 1;
        // GOAWAY overtakes what waits to be written, and some peers read nothing after it.
        if !told && over && written {
            connection.graceful_shutdown();
            told = true;
        }
        written = over;
        tokio::select! {
            call = connection.accept() => match call {
                Some(Ok((_, mut respond))) => respond.send_reset(h2::Reason::REFUSED_STREAM),
                _ => return,
            },
            () = sleep(limits::LOOK_FOR_END), if !told => {}
        }
    }
}

fn http2() -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION)
        .max_header_list_size(limits::HEAD_BYTES)
        .max_send_buffer_size(limits::SEND_BUFFER_BYTES);
    builder
}

/// A bucket of calls that fills with time.
struct CallAllowance {
    left: u32,
    at: Instant,
}

impl CallAllowance {
    /// Takes one; false where there is none.
    fn spend(&mut self, now: Instant) -> bool {
        let seconds = now.duration_since(self.at).as_secs();
        if seconds > 0 {
            let more = u32::try_from(seconds).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(more).min(limits::CALLS_AT_ONCE);
            self.at = now;
        }
        let some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        some
    }
}

struct Call {
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    leaf: Bytes,
}

/// Begins to answer a call; `open` is held as long as it is.
fn answer(hub: &Arc<Hub>, call: Call, open: Arc<()>) {
    let answer = Answer::new(call.respond, hub.times.slow);
    if !is_call(&call.request) {
        return answer.refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let service = match call.request.uri().path() {
        POLICY_PATH => Service::Policy,
        AUDIT_PATH => Service::Audit,
        _ => return answer.finish(&Status::new(UNIMPLEMENTED, "UNKNOWN_METHOD: no such")),
    };
    let Some(stream) = hub.enrol() else {
        let detail = format!("TOO_MANY_STREAMS: {} in all", limits::STREAMS);
        return answer.finish(&Status::new(RESOURCE_EXHAUSTED, detail));
    };
    let (hub, body) = (Arc::clone(hub), call.request.into_body());
    hub.events.push(Event::Opened { stream: stream.id, service, leaf: call.leaf });
    guarded::spawn(async move {
        follow(&hub, &stream, service, body, answer).await;
        drop(open);
    });
}

async fn follow(
    hub: &Arc<Hub>,
    stream: &Stream,
    service: Service,
    body: RecvStream,
    answer: Answer,
) {
    let slow = hub.times.slow;
    let run = async {
        match service {
            Service::Policy => {
                let incoming = Incoming::new(body, limits::POLICY_MESSAGE_BYTES, slow, None);
                Session::new(hub, stream, incoming, answer).run().await
            }
            Service::Audit => {
                let room = Some(Arc::clone(&hub.room));
                let incoming = Incoming::new(body, limits::AUDIT_MESSAGE_BYTES, slow, room);
                Relay::new(hub, stream, incoming, answer).run().await
            }
        }
    };
    let (answer, ended) = run.await;
    let status = match ended {
        Ok(status) => {
            answer.finish(&status);
            None
        }
        Err(Fault::Refused(status)) => {
            answer.finish(&status);
            Some(status)
        }
        Err(Fault::Gone) => {
            answer.reset();
            None
        }
    };
    hub.leave(stream.id);
    hub.events.push(Event::Ended { stream: stream.id, status });
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    // The digest of this algorithm is 32 bytes long.
    sum.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    sum
}

/// Tells a stream that policyd ends.
pub(crate) fn stop(stream: &Stream) {
    stream.order(|orders| orders.end = Some(stopping()));
}
