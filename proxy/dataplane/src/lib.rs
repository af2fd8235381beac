//! The data plane of policyd: the library behind `policyd-proxy`.
//!
//! A connection's way: [`listen`] → [`worker`] → [`inbound`] ([`first`] bytes, [`hello`], [`handshake`]) →
//! [`session`] (who is it, what does the table say) → [`http1`] or [`http2`] with [`requests`] deciding, or [`forward`] with
//! a permit; [`revisit`] cuts what is no longer granted. What the pod itself calls goes [`outbound`] → [`callees`]
//! ([`balance`], [`circuit`]) → [`endpoint`]. In a pod all of it comes through [`redirect`].
//!
//! Beside it, on the control thread: [`renewal`] (identity) and [`policy`] (tables), each writing what it got into
//! [`keyring`] and [`enforcement`], from where workers read without waiting; [`audit::delivery`] of what was denied;
//! [`admin`] for scrapers and kubelets.

pub mod admin;
mod aside;
pub mod asks;
pub mod assignment;
pub mod audit;
pub mod balance;
pub mod cache;
pub mod callees;
pub mod caller;
pub mod certificate;
pub mod circuit;
pub mod clock;
pub mod control;
pub mod credentials;
pub mod decision_id;
pub mod denials;
pub mod departures;
pub mod discovery;
pub mod endpoint;
pub mod enforcement;
pub mod exchange;
pub mod first;
pub mod forward;
#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "written by the generator")]
#[rustfmt::skip]
mod generated;
pub mod handshake;
pub mod hello;
pub mod http1;
pub mod http2;
pub mod inbound;
pub mod issuance;
pub mod keyring;
pub mod limits;
pub mod line;
mod lines;
pub mod listen;
pub mod memory;
pub mod metrics;
pub mod onward;
pub mod outbound;
pub mod places;
pub mod policy;
pub mod prefixed;
pub mod recorded;
pub mod redirect;
pub mod renewal;
pub mod requests;
pub mod resumption;
pub mod revisit;
pub mod run;
pub mod service_metrics;
pub mod session;
pub mod settings;
pub mod shared;
pub mod shares;
pub mod signed;
pub mod sockets;
pub mod spare;
pub mod state_dir;
pub mod tls;
pub mod tls_probe;
pub mod trust;
pub mod watch;
pub mod worker;
