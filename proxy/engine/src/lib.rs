//! The engine: a rule table, the facts of a connection and a canonical request in, a decision out.
//!
//! Pure: no I/O, no clock, no async runtime, no wire format. The way through it is the way of a request:
//! [`gate`] (bytes → [`CanonicalRequest`] or [`Refusal`]) → [`Connection`] (who is at the other end) →
//! [`decide`] (→ [`Decision`] → [`Permit`]) and, when somebody asks why, [`near_misses`].
