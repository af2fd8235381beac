//! What one proxy spends at most, each a bound that is in force and has a named refusal.
//!
//! Source: `security.md` §4.4. Those of the request head and body are the gate's and the codec's.

use std::time::Duration;

/// Open inbound connections of one proxy.
pub const CONNECTIONS: usize = 10_000;
/// Ports of the pod, or addresses that it dials, of which a worker keeps what it knows while nobody uses it (ours).
pub const REDIRECTED_PORTS: usize = 512;
/// Addresses that the pod has dialled of which policyd is asked; half of what it takes of one proxy.
pub const ASKED_ADDRESSES: usize = 512;
/// How long policyd is asked of an address that the pod no longer dials (ours).
pub const ASKED_LIFE: Duration = Duration::from_secs(600);
/// An address that was dialled within this time gives its place to no other (ours).
pub const ASKED_REST: Duration = Duration::from_secs(10);
/// How closely questions to policyd follow each other (ours): what is dialled meanwhile goes into the next one.
pub const ASK_GAP: Duration = Duration::from_millis(10);
/// How long a connection waits for policyd to say what the address is that it was made to.
pub const ASKED_WAIT: Duration = Duration::from_secs(2);
/// Services that are counted one by one; the rest together (ours).
pub const COUNTED_SERVICES: usize = 1_024;
/// Open inbound connections of one peer identity (or of one address, for peers without identity).
pub const CONNECTIONS_PER_PEER: usize = 1_000;
/// Requests that one proxy works on at the same time.
pub const REQUESTS_IN_FLIGHT: usize = 1_000;
/// Requests and connections of its own applications that one proxy has in flight (ours: as many as connections).
pub const CALLS_IN_FLIGHT: usize = 10_000;
/// Those of one peer identity (or of one address, for peers without identity): whoever takes all it can get leaves some
/// to others (ours).
pub const REQUESTS_IN_FLIGHT_PER_PEER: usize = 750;
/// Requests that are over and whose memory a worker keeps for the next ones (ours: more than are usually in flight).
pub const SPARE_REQUESTS: usize = 128;
/// The memory of one of them; what took more is given back (ours: most heads are shorter).
pub const SPARE_REQUEST_BYTES: usize = 4 * 1024;
/// What traffic may take of memory, tables aside; a setting.
pub const MEMORY_MIB: usize = 64;
/// How many bytes a table takes at most for each byte it was read from, and while it is read.
pub const TABLE_BYTES_PER_SNAPSHOT_BYTE: usize = 16;
/// TLS handshakes that one worker runs at the same time; the rest wait, within their own time.
pub const HANDSHAKES_PER_WORKER: usize = 64;
/// How long a TLS handshake takes, from its first byte on.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long a TLS session may be resumed after the other end proved that it has its key (`performance.md` §C.2).
pub const TICKET_LIFE: Duration = Duration::from_secs(60 * 60);
/// How long one key seals tickets; it opens them for as long again.
pub const TICKET_KEY_LIFE: Duration = Duration::from_secs(30 * 60);
/// Endpoints whose sessions are kept to be resumed (ours).
pub const RESUMED_ENDPOINTS: usize = 256;
/// Sessions kept of one endpoint (ours).
pub const TICKETS_PER_ENDPOINT: usize = 4;
/// The longest `ClientHello`, with its record headers.
pub const CLIENT_HELLO_BYTES: usize = 64 * 1024;
/// The longest certificate chain of a peer.
pub const CHAIN_CERTIFICATES: usize = 4;
/// The biggest certificate chain of a peer.
pub const CHAIN_BYTES: usize = 16 * 1024;
/// The peers' chains that are remembered as verified (ours; about 400 bytes each).
pub const VERIFIED_CHAINS: usize = 1024;
/// How much later than now a certificate may begin, because clocks differ (TLS-07). Expiry has no such allowance.
pub const NOT_BEFORE_SKEW: Duration = Duration::from_secs(60);
/// How long it may take to see what a connection speaks (semantics T1).
pub const DETECTION: Duration = Duration::from_secs(2);
/// The longest first line: the gate's hard limit of a head.
pub const FIRST_LINE_BYTES: usize = 64 * 1024;
/// How long dialling an application or an endpoint may take.
pub const CONNECT: Duration = Duration::from_secs(3);
/// Endpoints that are tried for one request or connection (ours).
pub const DIALS: usize = 3;
/// Over how long an endpoint's slow answers are forgotten (Linkerd's figure).
pub const LOAD_DECAY: Duration = Duration::from_secs(10);
/// Dials or handshakes that fail in a row until an endpoint rests (ours; Linkerd's default is 7).
pub const DIAL_FAILURES: u32 = 5;
/// The first rest of such an endpoint; it doubles, and is spread by half (Linkerd's figure).
pub const REST_FIRST: Duration = Duration::from_secs(1);
/// Its longest rest (Linkerd's figure).
pub const REST_MOST: Duration = Duration::from_secs(60);
/// Idle connections to all endpoints of one proxy.
pub const OUTBOUND_IDLE_CONNECTIONS: usize = 1_000;
/// Idle connections to one endpoint that a worker keeps (ours).
pub const OUTBOUND_IDLE_PER_ENDPOINT: usize = 64;
/// How long it keeps one (ours: half of what the other side allows, so that it is rarely closed under a request).
pub const OUTBOUND_IDLE: Duration = Duration::from_secs(30);
/// How long a TCP connection may be half closed without a byte.
pub const HALF_CLOSED: Duration = Duration::from_secs(60);
/// How long a refused connection may take to be closed.
pub const GOODBYE: Duration = Duration::from_secs(1);
/// One direction of a forwarded TCP connection.
pub const FORWARD_BUFFER_BYTES: usize = 16 * 1024;
/// How long SIGTERM leaves work that is in flight.
pub const DRAIN: Duration = Duration::from_secs(30);
/// How often open connections are decided again even if nothing was announced (validity ends, tables age); with the time
/// a cut takes this stays under the 5 s of design §8.
pub const REVISIT: Duration = Duration::from_secs(2);
/// Denials waiting for the spool, and lines waiting for stdout; more are dropped and counted.
pub const DENIAL_LINES: usize = 8_192;
/// Bytes of lines that go to stdout in one write.
pub const DENIAL_WRITE_BYTES: usize = 64 * 1024;
/// Bytes of denials waiting for the spool.
pub const DENIAL_QUEUE_BYTES: usize = 4 * 1024 * 1024;
/// A recorded path, host, method or value; the rest is cut off.
pub const RECORDED_BYTES: usize = 512;
/// All that is recorded of one request, before it is escaped.
pub const RECORDED_REQUEST_BYTES: usize = 8 * 1024;
/// Recorded headers of one request, and query keys likewise.
pub const RECORDED_ENTRIES: usize = 128;
/// The longest record: one that is all escapes.
pub const RECORD_BYTES: usize = 64 * 1024;
/// Records of the spool in memory.
pub const AUDIT_MEMORY_RECORDS: usize = 8_192;
/// Bytes of the spool's records in memory.
pub const AUDIT_MEMORY_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of the spool's files.
pub const AUDIT_DISK_BYTES: u64 = 64 * 1024 * 1024;
/// After this many bytes the spool begins a new file.
pub const AUDIT_SEGMENT_BYTES: u64 = 1024 * 1024;
/// How long the spool's thread gathers records after it has written some (ours).
pub const AUDIT_GATHER: Duration = Duration::from_millis(2);
/// How long written records may be lost with the machine's power, and a failed disk isn't tried again.
pub const AUDIT_SETTLE: Duration = Duration::from_millis(500);
/// Records of one message of the audit stream.
pub const AUDIT_BATCH_RECORDS: usize = 256;
/// Bytes of records after which a message of the audit stream ends.
pub const AUDIT_BATCH_BYTES: usize = 256 * 1024;
/// Records on the audit stream that are not acknowledged.
pub const AUDIT_IN_FLIGHT_RECORDS: usize = 2_048;
/// Bytes of them.
pub const AUDIT_IN_FLIGHT_BYTES: usize = 1024 * 1024;
/// How long policyd may owe an acknowledgement, or read nothing, before the audit stream counts as lost.
pub const AUDIT_SILENCE: Duration = Duration::from_secs(30);
/// How long the end of the process waits for acknowledgements.
pub const AUDIT_FLUSH: Duration = Duration::from_secs(2);
/// The biggest policy message of the stream.
pub const POLICY_MESSAGE_BYTES: usize = 64 * 1024 * 1024;
/// The biggest answer of identity.
pub const IDENTITY_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// The biggest file of the state folder that is read back.
pub const STATE_FILE_BYTES: u64 = 80 * 1024 * 1024;
/// The biggest ServiceAccount token.
pub const TOKEN_BYTES: usize = 64 * 1024;
/// How long a call to the control plane may take to be answered.
pub const CONTROL_CALL: Duration = Duration::from_secs(10);
/// The first wait after a failed call to the control plane; it doubles.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(500);
/// The longest wait before identity is asked again.
pub const BACKOFF_IDENTITY: Duration = Duration::from_secs(150);
/// The longest wait before a stream is opened again.
pub const BACKOFF_STREAM: Duration = Duration::from_secs(15);
/// After this long without a word of policyd a stream counts as lost (it confirms every 60 s).
pub const STREAM_SILENCE: Duration = Duration::from_secs(150);
/// How far in the future a signed time may lie.
pub const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// Connections to the admin port at the same time.
pub const ADMIN_CONNECTIONS: usize = 32;
/// The head of a request to the admin port, and how long it may take.
pub const ADMIN_HEAD_BYTES: usize = 8 * 1024;
/// How long an admin connection lives.
pub const ADMIN_CONNECTION: Duration = Duration::from_secs(10);
/// How long a probe by TLS may take at most, whatever the kubelet would wait.
pub const TLS_PROBE: Duration = Duration::from_secs(60);
/// What of the answer to a probe by TLS is passed on; the kubelet puts the beginning of it into an Event.
pub const TLS_PROBE_BODY_BYTES: usize = 10 * 1024;
/// Probes by TLS in the settings: three for each container.
pub const TLS_PROBES: usize = 256;
/// How long accepting rests after the machine refused a connection (L4-07).
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections accepted in one go before others get their turn.
pub const LISTEN_BACKLOG: i32 = 1_024;
