//! The HTTP/2 codec, on the `h2` crate: from a client's connection to the application's and back, many streams at once.
//!
//! The way through: [`serve`] (`server`) drives a connection, with `meter` below `h2` counting `frames` against a `budget`
//! and `gather` below that, so that what is ready leaves together
//! → each stream's fields go to the [`crate::exchange::Decider`] → only with a permit does `stream` take it on: over a
//! shared [`Channel`] to an application that is spoken to in HTTP/2 (`relay`), or through the pieces of [`crate::http1`]
//! to one that isn't (`downgrade`) → `body` moves pieces as the windows of both sides allow → `reply` is the client's side
//! of the stream, with one answer.
//!
//! A stream that is refused, cut or broken never takes others with it; a connection that breaks the rules does.

mod body;
mod budget;
mod channel;
mod downgrade;
mod fields;
mod frames;
mod gather;
pub mod limits;
mod meter;
mod relay;
mod reply;
mod server;
mod stream;
mod timeout;

pub use channel::Channel;
pub use server::serve;

#[cfg(test)]
mod tests;
