//! placeholder
use engine::Permit;
use engine::request::CanonicalRequest;

use super::stream::{Broken, Client};
use crate::exchange::{Decider, Upstream, Failure};
use crate::onward::Onward;

pub(super) async fn forward<D: Decider, U: Upstream>(
    _permit: Permit,
    _request: &CanonicalRequest,
    (_decider, _onward): (&D, &Onward<U>),
    (_body, _reply): Client<'_>,
) -> Result<(), Broken> {
    Err(Broken::Application(Failure::Unreachable))
}
