//! What is behind a port: where allowed requests go, and the connections to there that requests share.

use crate::exchange::Upstream;
use crate::http1::Pool;
use crate::http2::Channel;

/// One application, on one worker.
#[derive(Debug)]
pub struct Onward<U: Upstream> {
    /// Dials it.
    pub upstream: U,
    /// Idle connections of HTTP/1.1.
    pub pool: Pool<U::Io>,
    /// Connections of HTTP/2, each shared by many requests.
    pub channel: Channel,
}

impl<U: Upstream> Onward<U> {
    /// Nothing is dialled before a request asks for it.
    pub fn new(upstream: U) -> Self {
        Self { upstream, pool: Pool::default(), channel: Channel::default() }
    }
}
