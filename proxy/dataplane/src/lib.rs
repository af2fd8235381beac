//! The data plane.
#![allow(dead_code, unused)]
#[allow(missing_docs, clippy::all, clippy::pedantic)]
#[rustfmt::skip]
pub mod generated;
pub mod exchange; pub mod limits; pub mod settings; pub mod certificate; pub mod trust; pub mod tls; pub mod keyring; pub mod clock; pub mod state_dir; pub mod control; pub mod credentials; pub mod issuance; pub mod renewal; pub mod metrics; pub mod signed; pub mod discovery; pub mod enforcement; pub mod assignment; pub mod cache; pub mod policy; pub mod hello; pub mod detect; pub mod prefixed;
