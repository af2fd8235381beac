//! The pod's redirection: one nftables table that sends all TCP to the proxy's two ports, and takes its own uid out.
//!
//! `policyd-proxy redirect` writes it before anything else of the pod runs, in one transaction over netlink, and ends. It
//! needs nothing beside this binary but `CAP_NET_ADMIN`; where the kernel has no `nf_tables`, the `iptables` programs are tried.
//! Until the proxy listens, what is redirected is refused by the kernel: closed from the first packet on.

use std::io;

mod attributes;
pub mod destination;
mod legacy;
mod netlink;
mod nf_tables;
mod table;
mod validator;

pub use table::TABLE;

/// Where the proxy takes what was sent to the pod (Linkerd's figure).
pub const INBOUND_PORT: u16 = 4143;
/// Where it takes what the pod sends (Linkerd's figure).
pub const OUTBOUND_PORT: u16 = 4140;
/// As whom the proxy runs: what this user sends isn't redirected (Linkerd's figure).
pub const PROXY_UID: u32 = 2102;

/// What the redirection is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redirection {
    /// The proxy's own user.
    pub uid: u32,
    /// All TCP to the pod comes here.
    pub inbound: u16,
    /// All TCP from the pod comes here, but what the proxy's user and the loopback device carry.
    pub outbound: u16,
    /// By the `iptables` programs, also where the kernel has `nf_tables`.
    pub iptables: bool,
}

impl Default for Redirection {
    fn default() -> Self {
        Self { uid: PROXY_UID, inbound: INBOUND_PORT, outbound: OUTBOUND_PORT, iptables: false }
    }
}

/// Why the rules can't be written, or aren't as they must be. One line each.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// Ports or user that can't be.
    #[error("{0}")]
    Usage(&'static str),
    /// The capability is missing.
    #[error("{what}: not permitted: CAP_NET_ADMIN in the pod's network namespace is needed")]
    NotPermitted {
        /// What was tried.
        what: String,
    },
    /// The kernel has no `nf_tables`, or not what we need of it, and `iptables` is no way either.
    #[error(
        "the kernel refuses nf_tables ({nf_tables}), and iptables is no way either: {iptables}"
    )]
    NoWay {
        /// What the kernel said.
        nf_tables: String,
        /// What became of the programs.
        iptables: String,
    },
    /// Anything else that the kernel refused.
    #[error("{what}: {problem}")]
    Kernel {
        /// What was tried.
        what: String,
        /// Its answer.
        problem: io::Error,
    },
    /// A program that failed.
    #[error("{0}")]
    Program(String),
    /// The rules aren't there, or others are.
    #[error("not redirected: {0}")]
    NotInPlace(String),
}

impl RedirectError {
    /// Whether it is a matter of words on the command line.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Usage(_))
    }
}

impl Redirection {
    fn checked(self) -> Result<Self, RedirectError> {
        if self.uid == 0 {
            // FAIL-CLOSED: whatever runs as root would go past the proxy.
            return Err(RedirectError::Usage("--uid: 0: expected the proxy's own user, not root"));
        }
        if self.inbound == 0 || self.outbound == 0 || self.inbound == self.outbound {
            return Err(RedirectError::Usage("expected two different ports from 1 to 65535"));
        }
        Ok(self)
    }

    /// Puts the rules in place, whatever was there of ours before. Says by which means.
    pub fn install(self) -> Result<&'static str, RedirectError> {
        let redirection = self.checked()?;
        self.by(|| table::install(redirection), || legacy::install(redirection))
    }

    /// Takes the rules away, where there are any.
    pub fn remove(self) -> Result<&'static str, RedirectError> {
        self.by(table::remove, legacy::remove)
    }

    /// FAIL-CLOSED: only a kernel without `nf_tables` is a reason for the programs; any other refusal stands as it is.
    fn by(
        self,
        nf_tables: impl FnOnce() -> Result<(), RedirectError>,
        iptables: impl FnOnce() -> Result<(), RedirectError>,
    ) -> Result<&'static str, RedirectError> {
        if self.iptables {
            return iptables().map(|()| "iptables");
        }
        let refused = match nf_tables() {
            Ok(()) => return Ok("nf_tables"),
            Err(RedirectError::NoWay { nf_tables, .. }) => nf_tables,
            Err(other) => return Err(other),
        };
        match iptables() {
            Ok(()) => Ok("iptables"),
            Err(RedirectError::Program(iptables)) => {
                Err(RedirectError::NoWay { nf_tables: refused, iptables })
            }
            Err(other) => Err(other),
        }
    }

    /// Whether the rules are in place, and a connection of one's own is redirected. Who may not read rules, as the
    /// step of a pod without capabilities, only tries the latter.
    pub fn check(self) -> Result<&'static str, RedirectError> {
        let redirection = self.checked()?;
        let rules = self.by(|| table::check(redirection), || legacy::check(redirection));
        let means = match rules {
            Err(RedirectError::NotPermitted { .. }) => "tried, the rules not read",
            other => other?,
        };
        validator::validate(redirection)?;
        Ok(means)
    }
}

#[cfg(test)]
mod tests;
