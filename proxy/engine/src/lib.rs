//! The engine: a rule table, the facts of a connection and a canonical request in, a decision out.
//!
//! Pure: no I/O, no clock, no async runtime, no wire format. The way through it is the way of a request:
//! [`gate`] (bytes → [`request::CanonicalRequest`] or [`gate::Refusal`]) → [`Connection`] (who is at the other end) →
//! [`decide`] (→ [`Decision`] → [`Permit`]) and, when somebody asks why, [`near_misses`].

pub mod condition;
mod connection;
mod decide;
mod decision;
pub mod detect;
pub mod gate;
pub mod identity;
mod matches;
mod near_miss;
pub mod network;
pub mod pattern;
mod ports;
mod reason;
pub mod request;
pub mod route;
pub mod rows;
mod rules;
mod selection;
mod stored;
mod strings;
mod subject;
mod table;
mod time;

pub use connection::{Connection, Facts, Peer};
pub use decide::{Arrival, decide};
pub use decision::{Decision, Form, Permit, Verdict, WouldBe};
pub use near_miss::{Dimension, NEAREST, NearMiss, near_misses};
pub use ports::{Port, Reading};
pub use reason::{ClientView, Reason};
pub use table::{Table, TableBuilder, TableError, Written};
pub use time::{Moment, Timestamp};
