//! The bounds of the HTTP/1.1 codec, each in force.
//!
//! Source: the limits table of the threat analysis (§4.4); those without an entry there are marked as ours. The bounds of
//! a request's head are the gate's.

use std::time::Duration;

/// A request's head, from its first byte on.
pub const HEAD: Duration = Duration::from_secs(5);
/// The first head of a connection, from its acceptance on.
pub const FIRST_HEAD: Duration = Duration::from_secs(10);
/// A connection without a request.
pub const IDLE: Duration = Duration::from_secs(60);
/// A request body with a `content-length`, without a byte.
pub const BODY_IDLE: Duration = Duration::from_secs(30);
/// Over how much waiting the rate of such a body is averaged.
pub const BODY_RATE_WINDOW: Duration = Duration::from_secs(10);
/// The least bytes of such a body in that time: 240 a second.
pub const BODY_RATE_BYTES: u64 = 2_400;
/// How long an application may take to begin its answer (ours; beyond any sensible long poll).
pub const ANSWER: Duration = Duration::from_secs(300);
/// How long the other end may accept no byte of what is written to it (ours).
pub const WRITE_STALL: Duration = Duration::from_secs(60);
/// The head of an answer (ours, as the hard limit of requests).
pub const ANSWER_HEAD_BYTES: usize = 64 * 1024;
/// The fields of an answer's head (ours).
pub const ANSWER_FIELDS: usize = 200;
/// Interim answers (1xx) to one request (G20).
pub const INTERIM_ANSWERS: usize = 8;
/// A chunk line without its CRLF (G10).
pub const CHUNK_LINE_BYTES: usize = 256;
/// The digits of a chunk size (G10).
pub const CHUNK_SIZE_DIGITS: usize = 16;
/// All trailer lines of one message; they count like a head (G16).
pub const TRAILER_BYTES: usize = engine::gate::limits::HEAD_BYTES;
/// The trailer fields of one message.
pub const TRAILERS: usize = engine::gate::limits::FIELDS;
/// What a client may send behind a request for an upgrade before the answer (§4.5).
pub const EARLY_UPGRADE_BYTES: usize = 4 * 1024;
/// Idle connections to one application that a worker keeps (ours: a few clients of HTTP/2 with all their streams; where
/// fewer were kept than are in use by turns, one request in ten would pay for a new one).
pub const POOLED_CONNECTIONS: usize = 256;
/// How long it keeps one (ours; shorter than what applications usually allow).
pub const POOLED: Duration = Duration::from_secs(30);
/// One read from a connection.
pub const READ_BYTES: usize = 16 * 1024;
/// The first read of a connection, and what an idle one keeps.
pub const IDLE_BYTES: usize = 4 * 1024;
/// How long a connection without a request keeps its buffers (ours: longer than busy clients pause).
pub const RELEASE: Duration = Duration::from_millis(500);
/// What it waits with then.
pub const RELEASED_BYTES: usize = 64;
/// With less room than this no read is tried (ours).
pub const LEAST_READ_BYTES: usize = 1024;
/// The body of a denied request that is read so that another request may follow (ours; one read).
pub const DENIED_BODY_BYTES: usize = READ_BYTES;
/// How long that may take (ours; a body that comes with its head is there already).
pub const DENIED_BODY: Duration = Duration::from_secs(1);
/// What a client that was refused may still send before the connection is cut, so that it can read the answer (ours).
pub const LINGER_BYTES: usize = 256 * 1024;
/// How long that may take (ours).
pub const LINGER: Duration = Duration::from_secs(1);
