//! What is counted of each service that the pod calls. A service becomes a label, so there are as many as the settings
//! have outbound listeners, or as the pod dials up to a bound; nothing of endpoints or addresses does.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::limits;
use crate::metrics::{Counter, Gauge};

/// What can go wrong between us and an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No endpoint is known.
    NoEndpoint,
    /// It refuses connections, or no way leads there.
    Refused,
    /// It doesn't take a connection in time.
    TimedOut,
    /// It was our fault: no certificate, no port, no descriptor.
    Ours,
    /// The handshake fails.
    Handshake,
    /// It isn't who it should be.
    PeerRejected,
    /// The connection breaks before an answer.
    Broken,
    /// No answer in time.
    Silent,
    /// An answer that breaks the rules.
    BadAnswer,
}

const TROUBLES: [(Trouble, &str); 9] = [
    (Trouble::NoEndpoint, "no_endpoint"),
    (Trouble::Refused, "refused"),
    (Trouble::TimedOut, "timed_out"),
    (Trouble::Ours, "own"),
    (Trouble::Handshake, "handshake"),
    (Trouble::PeerRejected, "peer_rejected"),
    (Trouble::Broken, "broken"),
    (Trouble::Silent, "silent"),
    (Trouble::BadAnswer, "bad_answer"),
];

impl Trouble {
    /// Of a dial that failed before a byte was said.
    pub fn of_dial(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable => Self::Refused,
            _ => Self::Ours,
        }
    }

    /// Of HTTP/2 that didn't begin on a connection.
    pub fn of_beginning(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::TimedOut { Self::Silent } else { Self::BadAnswer }
    }

    /// Whether it says something of the endpoint, so that it may have to rest.
    pub fn is_the_endpoints(self) -> bool {
        self != Self::Ours
    }
}

/// One service.
#[derive(Debug, Default)]
pub struct ServiceMetrics {
    /// Requests and connections of bytes, since the start.
    pub calls: Counter,
    /// Those now in flight.
    pub in_flight: Gauge,
    /// Endpoints that rest because they couldn't be reached; each worker counts for itself.
    pub resting: Gauge,
    /// Requests on a connection to an endpoint that was open before.
    pub reused: Counter,
    failures: [Counter; TROUBLES.len()],
}

impl ServiceMetrics {
    /// Counts what went wrong.
    pub fn failed(&self, trouble: Trouble) {
        if let Some(at) = TROUBLES.iter().position(|(known, _)| *known == trouble)
            && let Some(counter) = self.failures.get(at)
        {
            counter.add(1);
        }
    }
}

/// The label of whatever is no Service: addresses of pods and of what lies outside, and Services beyond the bound.
pub const OTHERS: &str = "other";

/// All services.
#[derive(Debug, Default)]
pub struct Services(Mutex<BTreeMap<String, Arc<ServiceMetrics>>>);

impl Services {
    /// That of one service, by `namespace/name:port`; asked for once by each outbound listener. Beyond the bound, that
    /// of the others.
    pub fn of(&self, service: &str) -> Arc<ServiceMetrics> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = known.len() >= limits::COUNTED_SERVICES && !known.contains_key(service);
        Arc::clone(known.entry(if full { OTHERS } else { service }.to_owned()).or_default())
    }

    /// Appends all of it in Prometheus' text format.
    pub fn write(&self, out: &mut String) {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_empty() {
            return;
        }
        let one = |out: &mut String, (name, kind, help): (&str, &str, &str), of: Reading| {
            head(out, name, kind, help);
            for (service, metrics) in &*known {
                // Writing to a String can't fail, here and below.
                let _ = writeln!(out, "{name}{{service=\"{service}\"}} {}", of(metrics));
            }
        };
        one(out, CALLS, |metrics| metrics.calls.get().to_string());
        one(out, IN_FLIGHT, |metrics| metrics.in_flight.get().to_string());
        one(out, RESTING, |metrics| metrics.resting.get().to_string());
        one(out, REUSED, |metrics| metrics.reused.get().to_string());
        let name = "policyd_outbound_failures_total";
        head(out, name, "counter", "What went wrong with endpoints, by service and kind");
        for (service, metrics) in &*known {
            for ((_, kind), counter) in TROUBLES.iter().zip(&metrics.failures) {
                let labels = format!("service=\"{service}\",kind=\"{kind}\"");
                let _ = writeln!(out, "{name}{{{labels}}} {}", counter.get());
            }
        }
    }
}

type Reading = fn(&ServiceMetrics) -> String;

const CALLS: (&str, &str, &str) =
    ("policyd_outbound_calls_total", "counter", "Requests and connections of bytes to services");
const IN_FLIGHT: (&str, &str, &str) =
    ("policyd_outbound_in_flight", "gauge", "Requests and connections of bytes now in flight");
const RESTING: (&str, &str, &str) = (
    "policyd_outbound_resting_endpoints",
    "gauge",
    "Endpoints left alone because they could not be reached, summed over workers",
);
const REUSED: (&str, &str, &str) =
    ("policyd_outbound_reused_total", "counter", "Requests on a connection that was open");

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}.\n# TYPE {name} {kind}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_by_service_and_kind() {
        let services = Services::default();
        let mut out = String::new();
        services.write(&mut out);
        assert!(out.is_empty());
        let metrics = services.of("books/authors:80");
        metrics.failed(Trouble::TimedOut);
        services.of("books/authors:80").in_flight.add(1);
        services.write(&mut out);
        for line in [
            "policyd_outbound_failures_total{service=\"books/authors:80\",kind=\"timed_out\"} 1\n",
            "policyd_outbound_failures_total{service=\"books/authors:80\",kind=\"refused\"} 0\n",
            "policyd_outbound_in_flight{service=\"books/authors:80\"} 1\n",
        ] {
            assert!(out.contains(line), "{line} in {out}");
        }
    }

    #[test]
    fn our_own_faults_say_nothing_of_an_endpoint() {
        let of = |kind: io::ErrorKind| Trouble::of_dial(&kind.into());
        assert!(!of(io::ErrorKind::AddrNotAvailable).is_the_endpoints());
        assert!(of(io::ErrorKind::ConnectionRefused).is_the_endpoints());
        assert_eq!(of(io::ErrorKind::TimedOut), Trouble::TimedOut);
    }
}
