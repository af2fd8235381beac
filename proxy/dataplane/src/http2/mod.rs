//! The HTTP/2 codec, on the `h2` crate: from a client's connection to the application's and back, many streams at once.
//!
//! The way through: [`serve`] (`stream`, `server`) drives a connection, with `meter` below `h2` counting `frames` against a
//! `budget` and `gather` below that, so that what is ready leaves together
//! → each stream's fields go to the [`crate::exchange::Decider`] → only with a permit does `stream` take it on: over a
//! shared [`Channel`] to an application that is spoken to in HTTP/2 (`relay`), or through the pieces of [`crate::http1`]
//! to one that isn't (`downgrade`) → `body` moves pieces as the windows of both sides allow → `reply` is the client's side
//! of the stream, with one answer.
//!
//! What the pod's own application asks goes another way through the same parts ([`serve_calls`], `calls`): each stream finds
//! an endpoint, on a connection that many share (`channel`, `line`, `driven`); requests of HTTP/1.1 go there too (`carry`).
//!
//! A stream that is refused, cut or broken never takes others with it; a connection that breaks the rules does.

mod body;
mod budget;
mod calls;
mod carry;
mod channel;
mod downgrade;
mod driven;
mod fields;
mod frames;
mod gather;
pub mod limits;
mod line;
mod meter;
mod metered;
mod pulse;
mod relay;
mod reply;
mod server;
mod stream;
mod timeout;
mod upload;

pub use calls::serve_calls;
pub(crate) use carry::carry;
pub use channel::{Channel, NoPlace, Opened};
pub(crate) use fields::carried;
pub use line::{Manner, Place};
pub use stream::serve;

#[cfg(test)]
pub(crate) mod tests;
