//! The bounds of a request's head, from the limits table of the threat analysis. Crossing one is refused as `limits`.

/// Bytes of a head, from the request line to the empty line inclusive (HTTP/1), or of all names and values (HTTP/2).
pub const HEAD_BYTES: usize = 16 * 1024;

/// The same under a lenient profile: the one size limit that binds there.
pub const LENIENT_HEAD_BYTES: usize = 64 * 1024;

/// Field lines of a head, pseudo-header fields included.
pub const FIELDS: usize = 100;

/// Bytes of the name and value of one field.
pub const FIELD_BYTES: usize = 8 * 1024;

/// Bytes of a request target.
pub const TARGET_BYTES: usize = 8 * 1024;

/// Bytes of a method (G17).
pub const METHOD_BYTES: usize = 32;

/// Bytes of an authority, port included: the longest DNS name, a dot, a colon and five digits.
pub const AUTHORITY_BYTES: usize = 260;
