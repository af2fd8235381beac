//! The bounds of HTTP/2 connections, each in force.
//!
//! Source: the limits table of the threat analysis (§4.4); those without an entry there are marked as ours. The bounds of
//! a request's head are the gate's.

use std::time::Duration;

/// Streams that a client may have open on one connection, and that we open on one.
pub const STREAMS: u32 = 100;
/// What may be on its way in one stream.
pub const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// What may be on its way in one connection.
pub const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// The same of a connection to an endpoint, which all applications of the pod share: the windows of all its streams, so
/// that one that nobody reads holds up no other (ours).
pub const SHARED_WINDOW_BYTES: u32 = STREAMS * STREAM_WINDOW_BYTES;
/// What is buffered towards the other end of one stream (ours: as its window).
pub const SEND_BUFFER_BYTES: usize = STREAM_WINDOW_BYTES as usize;
/// What is gathered of frames before it is written (one TLS record).
pub const GATHERED_BYTES: usize = 16 * 1024;
/// What of that memory stays with a connection (ours: a few answers).
pub const GATHERED_IDLE_BYTES: usize = 4 * 1024;
/// A decoded field list beyond this isn't kept, and answered 431 by the library; up to it, the gate says what is too much.
/// HTTP/2 counts 32 bytes more for each field than the gate does.
pub const FIELD_LIST_BYTES: u32 = 64 * 1024 + 32 * 100;
/// Streams that were reset and aren't forgotten yet, and those reset before we took them up.
pub const RESETS_PENDING: usize = 20;
/// Streams that we have given up on a connection we opened and that aren't forgotten yet: what the other end still sends
/// on one isn't held against it (ours: all that may be open, twice).
pub const RESETS_REMEMBERED: usize = 2 * STREAMS as usize;
/// Streams of one connection that the library has to reset for an error of the client.
pub const RESETS_LIFETIME: usize = 1024;
/// Over how much time frames are counted.
pub const BUDGET_WINDOW: Duration = Duration::from_secs(10);
/// Frames in that time of each kind that costs us work and moves nothing.
pub const FRAMES: u32 = 100;
/// Resets in that time: the client's, and those that it makes us send.
pub const RESETS: u32 = 200;
/// What each DATA frame that we send adds to the `WINDOW_UPDATE` and `PING` frames we take: whoever receives much says so
/// often (ours; Envoy's is 10).
pub const PER_DATA_SENT: u32 = 10;
/// What each stream that a client opens adds to the `WINDOW_UPDATE`, `PRIORITY` and `CONTINUATION` frames we take (ours).
pub const PER_STREAM: u32 = 4;
/// How long it may take until the preface and the first SETTINGS are there.
pub const PREFACE: Duration = Duration::from_secs(10);
/// How long it may take a server that we dialled to say what it takes: no request goes out before (ours: as long as the
/// dial; gRPC's clients wait for it too).
pub const SETTINGS: Duration = crate::limits::CONNECT;
/// A field list, from its first frame on.
pub const HEAD: Duration = Duration::from_secs(5);
/// A connection without streams.
pub const IDLE: Duration = Duration::from_secs(60);
/// After this long without a byte of a client that has streams open, it is asked whether it is there.
pub const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// The same of an endpoint that isn't meshed: servers of gRPC hang up on clients that ask more often than each 5 minutes
/// (gRPC proposal A8).
pub const KEEP_ALIVE_UNMESHED: Duration = Duration::from_secs(310);
/// How long it may take to say that it is.
pub const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(3);
/// How long an application may take to begin its answer, but for gRPC, which brings its own deadline (ours).
pub const ANSWER: Duration = Duration::from_secs(300);
/// How long either end may take no byte of a body that waits for it (ours).
pub const STALL: Duration = Duration::from_secs(300);
/// Interim answers (1xx) to one request (G20).
pub const INTERIM_ANSWERS: usize = 8;
/// The body of a refusal by a proxy of ours (its form has less than a hundred bytes).
pub const REFUSAL_BYTES: usize = 1024;
/// Fields of an answer (ours).
pub const ANSWER_FIELDS: usize = 200;
/// Connections to one application or endpoint that a worker has: one, and more only while the other end takes no more
/// streams on those there are (ours).
pub const CHANNELS: usize = 16;
/// How long a request waits for its turn at an endpoint that takes no more; then another one is tried (ours).
pub const ROOM: Duration = Duration::from_secs(1);
/// Refusals of the library that are held until they are written down (ours; it resets no more than the budget at once).
pub const REFUSALS_HELD: usize = 64;
/// Streams of a client that are remembered as taken up (ours).
pub const STREAMS_REMEMBERED: usize = 1024;

const _: () = {
    use engine::gate::limits::{FIELDS, LENIENT_HEAD_BYTES};
    assert!(FIELD_LIST_BYTES as usize == LENIENT_HEAD_BYTES + 32 * FIELDS);
};
