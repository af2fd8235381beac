//! The HTTP/1.1 codec: from a client's connection to an application's and back, one request after the other.
//!
//! The way through: [`serve`] or [`serve_pooled`] reads a head (`wire`, `head`) → the [`crate::exchange::Decider`] puts it through gate and
//! engine → only with a permit does `forward` write the canonical head to a connection of the [`Pool`] → bodies are
//! decoded and encoded anew in both directions at the same time (`body`, `chunked`, `trailers`) → the answer's head is
//! validated and rewritten (`response`) → after a valid `101` both ends become a tunnel (`upgrade`).
//!
//! Where a request came over HTTP/2 and its application speaks HTTP/1.1, [`crate::http2`] uses the same pieces towards the
//! application: `pool`, `wire`, `body`, `response`.
//!
//! What the pod itself calls goes another way through the same parts ([`serve_calls`]): each request is read only to know
//! where it ends, and goes to an endpoint that a [`crate::caller::Caller`] chose and checked: on a connection of its own, or
//! on one of HTTP/2 that requests share ([`crate::http2`] uses the same pieces towards the application then).
//!
//! A request that policy refuses is answered where it stands, and another may follow if it is beyond doubt where that
//! begins (`denied`).
//!
//! What is malformed after the head has been forwarded aborts both connections; neither is used again.

mod alarm;
pub(crate) mod answer;
pub(crate) mod body;
mod calls;
pub(crate) mod chunked;
pub(crate) mod denied;
pub(crate) mod forward;
pub(crate) mod halves;
mod head;
pub mod limits;
pub(crate) mod pool;
pub(crate) mod response;
mod session;
mod trailers;
pub(crate) mod transfer;
mod upgrade;
pub(crate) mod wire;

pub use calls::serve_calls;
pub(crate) use forward::is_repeatable;
pub use pool::{Connection, Pool};
pub use session::{serve, serve_pooled};
pub(crate) use trailers::passes as trailer_passes;

#[cfg(test)]
mod tests;
