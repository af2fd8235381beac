//! What peers can make policyd hold or do, each a bound that is in force (`security.md` A.2, A.7).

use std::time::Duration;

/// Streams of all kinds at the same time: two for each of ten thousand proxies.
pub const STREAMS: usize = 20_000;
/// Connections whose peer has shown no certificate yet; a newer one is closed at once (CT-12).
pub const UNPROVEN: usize = 8_192;
/// TLS handshakes that are worked on at the same time; others wait for their turn.
pub const HANDSHAKES: usize = 256;
/// Connections that show the same certificate: one for policy, one for denials, and what a restart leaves behind.
pub const CONNECTIONS_PER_CERTIFICATE: u32 = 8;
/// Streams that one connection may have open.
pub const STREAMS_PER_CONNECTION: u32 = 8;
/// Calls that one connection may begin at once; then one a second: each is a question to policyd, answered or not.
pub const CALLS_AT_ONCE: u32 = 16;
/// The head of a call, all fields (HTTP/2's way to count).
pub const HEAD_BYTES: u32 = 8 * 1024;
/// What a peer may send of one stream, or of one connection, before it is read.
pub const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// See [`STREAM_WINDOW_BYTES`].
pub const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;
/// What waits in one stream to be written; the rest waits as a reference to bytes that all streams share (CT-10).
pub const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// What one connection may send in a second, over the time: frames that move nothing cost us work, too.
pub const RECEIVED_BYTES_PER_SECOND: u64 = 2 * 1024 * 1024;
/// What it may send at once.
pub const RECEIVED_BURST_BYTES: u64 = 4 * 1024 * 1024;
/// The longest message of a policy stream: a Hello with 1,024 services.
pub const POLICY_MESSAGE_BYTES: usize = 64 * 1024;
/// The longest message of an audit stream.
pub const AUDIT_MESSAGE_BYTES: usize = 512 * 1024;
/// Messages of audit streams that are being received or worked on, all together.
pub const AUDIT_BYTES_IN_ALL: usize = 64 * 1024 * 1024;
/// Services and addresses of one Hello.
pub const SERVICES: usize = 1_024;
/// Characters of a proxy's words that are kept.
pub const DETAIL_CHARACTERS: usize = 300;
/// How long accepting rests after the machine refused a connection (L4-07).
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections that the kernel keeps until they are accepted.
pub const LISTEN_BACKLOG: u32 = 4_096;
/// After how much silence the kernel asks whether a peer is still there; it asks three times in as much time again.
pub const KEEPALIVE: Duration = Duration::from_secs(30);
/// Threads: streams wait most of the time, and policyd compiles beside them.
pub const THREADS: usize = 4;
/// How often it is looked whether calls and connections have ended, while policyd stops.
pub const LOOK_FOR_END: Duration = Duration::from_millis(5);
/// The longest pause between two looks at a stream's certificate and confirmation.
pub const LOOK: Duration = Duration::from_secs(5);

/// How long peers may take. Tests have shorter ones.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// The first byte; then the TLS handshake; then HTTP/2's preface (TLS-13).
    pub handshake: Duration,
    /// The Hello of a policy stream.
    pub hello: Duration,
    /// An answer to an assignment, the rest of a message, or reading what was said (CT-10).
    pub slow: Duration,
    /// Between two confirmations (design §8).
    pub confirm: Duration,
    /// A connection without an open stream.
    pub idle: Duration,
}

impl Default for Times {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            handshake: seconds(5),
            hello: seconds(10),
            slow: seconds(30),
            confirm: seconds(60),
            idle: seconds(30),
        }
    }
}
