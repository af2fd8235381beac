//! Counters and gauges, and their text for Prometheus. Labels come from closed lists only, so that their number is bounded
//! by construction; nothing a client sends becomes one.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use engine::gate::GateRule;
use engine::{Reason, Verdict};

use crate::audit::AuditCounts;
use crate::exchange::Failure;
use crate::memory;
use crate::redirect::destination::Stray;
use crate::resumption::Handshakes;
use crate::service_metrics::Services;

/// Only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// As it is.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Rises and falls.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Changes it.
    pub fn add(&self, change: i64) {
        self.0.fetch_add(change, Ordering::Relaxed);
    }

    /// As it is.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What was decided about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// An HTTP request.
    Request,
    /// A connection of bytes, silence or foreign TLS.
    Connection,
    /// What the pod itself calls.
    Outbound,
}

const SUBJECTS: [(Subject, &str); 3] = [
    (Subject::Request, "request"),
    (Subject::Connection, "connection"),
    (Subject::Outbound, "outbound"),
];

const REASONS: [&str; 16] = [
    "allowed",
    "explicit_deny",
    "requirement_not_met",
    "no_matching_rule",
    "no_identity",
    "no_route",
    "invalid_request",
    "protocol_refused",
    "policy_unreadable",
    "no_policy_loaded",
    "policy_stale",
    "peer_rejected",
    "delegate_unavailable",
    "rate_limited",
    "overloaded",
    "engine_error",
];

const FAILURES: [(Failure, &str); 5] = [
    (Failure::Unreachable, "unreachable"),
    (Failure::Silent, "silent"),
    (Failure::BadAnswer, "bad_answer"),
    (Failure::Deadline, "deadline"),
    (Failure::Desync, "desync"),
];

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Somebody else's.
    Inbound,
    /// The pod's own.
    Outbound,
}

const SIDES: [(Side, &str); 2] = [(Side::Inbound, "inbound"), (Side::Outbound, "outbound")];
const STRAYS: [(Stray, &str); 3] =
    [(Stray::Direct, "direct"), (Stray::Untold, "untold"), (Stray::Own, "loop")];

/// Everything this proxy counts.
#[derive(Debug, Default)]
pub struct Metrics {
    decisions: [[Counter; REASONS.len()]; SUBJECTS.len()],
    gate_refusals: [Counter; GateRule::ALL.len()],
    upstream_failures: [Counter; FAILURES.len()],
    strays: [[Counter; STRAYS.len()]; SIDES.len()],
    /// Allowed requests and connections that would be denied with everything enforced (semantics A6).
    pub would_deny: Counter,
    /// Inbound connections since the start.
    pub inbound_connections: Counter,
    /// Inbound connections now open.
    pub inbound_open: Gauge,
    /// Outbound connections since the start.
    pub outbound_connections: Counter,
    /// Outbound connections now open.
    pub outbound_open: Gauge,
    /// Connections of HTTP/2 to endpoints that requests share, since the start.
    pub shared_connections: Counter,
    /// Those now open.
    pub shared_open: Gauge,
    /// Handshakes with us that failed.
    pub handshake_failures: Counter,
    /// Handshakes with us.
    pub inbound_handshakes: Handshakes,
    /// Handshakes of ours with endpoints.
    pub outbound_handshakes: Handshakes,
    /// Outbound requests that went out once more, because the first connection broke before a byte came back.
    pub repeated: Counter,
    /// Open connections that were cut because their grant was gone.
    pub cut: Counter,
    /// HTTP requests now in flight.
    pub in_flight: Gauge,
    /// Lines of denials that could not be written.
    pub lost_lines: Counter,
    /// Certificates received.
    pub certificates: Counter,
    /// Failed tries to get one.
    pub certificate_failures: Counter,
    /// Tables taken up.
    pub tables: Counter,
    /// Tables refused.
    pub refused_tables: Counter,
    /// 1 while the policy stream is open.
    pub policy_stream: Gauge,
    /// Times that accepting a connection failed.
    pub accept_failures: Counter,
    /// What is counted of each service that the pod calls.
    pub services: Services,
    /// The audit trail.
    pub audit: AuditCounts,
}

/// What is known only at the moment of asking.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moments {
    /// Milliseconds since policyd last vouched for the table; none without a table.
    pub table_age_millis: Option<u64>,
    /// When our certificate ends; none without one.
    pub not_after_millis: Option<i64>,
}

impl Metrics {
    /// Counts a decision.
    pub fn decided(&self, subject: Subject, verdict: Verdict, reason: Reason) {
        let word = if verdict == Verdict::Allow { "allowed" } else { reason.word() };
        let place = REASONS.iter().position(|known| *known == word);
        let row = SUBJECTS.iter().position(|(known, _)| *known == subject);
        if let (Some(row), Some(place)) = (row, place)
            && let Some(counter) = self.decisions.get(row).and_then(|counters| counters.get(place))
        {
            counter.add(1);
        }
        if let Reason::InvalidRequest(rule) = reason
            && let Some(place) = GateRule::ALL.iter().position(|known| *known == rule)
            && let Some(counter) = self.gate_refusals.get(place)
        {
            counter.add(1);
        }
    }

    /// Counts a connection at a port for redirected ones that wasn't, or goes round.
    pub fn strayed(&self, side: Side, stray: Stray) {
        if let Some(side) = SIDES.iter().position(|(known, _)| *known == side)
            && let Some(kind) = STRAYS.iter().position(|(known, _)| *known == stray)
            && let Some(counter) = self.strays.get(side).and_then(|kinds| kinds.get(kind))
        {
            counter.add(1);
        }
    }

    /// Counts what an application or an endpoint failed to do.
    pub fn failed(&self, failure: Failure) {
        if let Some(place) = FAILURES.iter().position(|(known, _)| *known == failure)
            && let Some(counter) = self.upstream_failures.get(place)
        {
            counter.add(1);
        }
    }

    /// All of it in Prometheus' text format.
    pub fn text(&self, moments: Moments) -> String {
        let mut out = String::with_capacity(8 * 1024);
        self.write_labelled(&mut out);
        self.write_strays(&mut out);
        for (name, help, counter) in self.counters() {
            head(&mut out, name, "counter", help);
            line(&mut out, name, &[], &counter.get().to_string());
        }
        for (name, help, gauge) in self.gauges() {
            head(&mut out, name, "gauge", help);
            line(&mut out, name, &[], &gauge.get().to_string());
        }
        self.services.write(&mut out);
        self.audit.text(&mut out);
        let name = "policyd_memory_allocated_bytes";
        head(&mut out, name, "gauge", "Memory that is allocated now, tables included");
        line(&mut out, name, &[], &memory::allocated().to_string());
        if let Some(age) = moments.table_age_millis {
            let name = "policyd_table_age_seconds";
            head(&mut out, name, "gauge", "Time since policyd last vouched for the table in force");
            line(&mut out, name, &[], &format!("{}.{:03}", age / 1000, age % 1000));
        }
        if let Some(end) = moments.not_after_millis {
            let name = "policyd_certificate_expiration_timestamp_seconds";
            head(&mut out, name, "gauge", "When our own certificate ends");
            line(&mut out, name, &[], &end.div_euclid(1000).to_string());
        }
        out
    }

    fn write_strays(&self, out: &mut String) {
        let name = "policyd_strays_total";
        head(out, name, "counter", "Connections refused at a port for redirected ones");
        for ((_, side), kinds) in SIDES.iter().zip(&self.strays) {
            for ((_, kind), counter) in STRAYS.iter().zip(kinds) {
                let labels = [("direction", *side), ("kind", *kind)];
                line(out, name, &labels, &counter.get().to_string());
            }
        }
    }

    fn write_labelled(&self, out: &mut String) {
        let name = "policyd_decisions_total";
        head(out, name, "counter", "Decisions by subject, verdict and reason");
        for ((_, subject), counters) in SUBJECTS.iter().zip(&self.decisions) {
            for (reason, counter) in REASONS.iter().zip(counters) {
                let verdict = if *reason == "allowed" { "allow" } else { "deny" };
                let labels = [("subject", *subject), ("verdict", verdict), ("reason", *reason)];
                line(out, name, &labels, &counter.get().to_string());
            }
        }
        let name = "policyd_gate_refusals_total";
        head(out, name, "counter", "Requests that the gate refused, by rule");
        for (rule, counter) in GateRule::ALL.iter().zip(&self.gate_refusals) {
            line(out, name, &[("rule", rule.as_str())], &counter.get().to_string());
        }
        let name = "policyd_handshakes_total";
        head(out, name, "counter", "TLS handshakes, by direction and kind");
        for (direction, counted) in
            [("inbound", &self.inbound_handshakes), ("outbound", &self.outbound_handshakes)]
        {
            for (kind, counter) in [("full", &counted.full), ("resumed", &counted.resumed)] {
                let labels = [("direction", direction), ("kind", kind)];
                line(out, name, &labels, &counter.get().to_string());
            }
        }
        let name = "policyd_upstream_failures_total";
        head(out, name, "counter", "What applications and endpoints failed to do");
        for ((failure, kind), counter) in FAILURES.iter().zip(&self.upstream_failures) {
            if *failure != Failure::Desync {
                line(out, name, &[("kind", kind)], &counter.get().to_string());
            }
        }
        let name = "policyd_upstream_desync_total";
        head(
            out,
            name,
            "counter",
            "Connections to applications dropped for bytes after a complete answer",
        );
        let desync = self.upstream_failures.last().map_or(0, Counter::get);
        line(out, name, &[], &desync.to_string());
    }

    fn counters(&self) -> [(&'static str, &'static str, &Counter); 13] {
        [
            (
                "policyd_would_deny_total",
                "Allowed, and denied if everything were enforced",
                &self.would_deny,
            ),
            ("policyd_inbound_connections_total", "Inbound connections", &self.inbound_connections),
            (
                "policyd_outbound_connections_total",
                "Outbound connections",
                &self.outbound_connections,
            ),
            (
                "policyd_outbound_shared_total",
                "Connections of HTTP/2 to endpoints that requests share",
                &self.shared_connections,
            ),
            (
                "policyd_handshake_failures_total",
                "Handshakes with us that failed",
                &self.handshake_failures,
            ),
            ("policyd_outbound_repeated_total", "Outbound requests sent once more", &self.repeated),
            ("policyd_cut_total", "Open connections cut because their grant was gone", &self.cut),
            (
                "policyd_lost_denial_lines_total",
                "Denials whose line could not be written",
                &self.lost_lines,
            ),
            ("policyd_certificates_total", "Certificates received", &self.certificates),
            (
                "policyd_certificate_failures_total",
                "Failed tries to get a certificate",
                &self.certificate_failures,
            ),
            ("policyd_tables_total", "Tables taken up", &self.tables),
            ("policyd_refused_tables_total", "Tables refused", &self.refused_tables),
            (
                "policyd_accept_failures_total",
                "Connections that could not be accepted",
                &self.accept_failures,
            ),
        ]
    }

    fn gauges(&self) -> [(&'static str, &'static str, &Gauge); 5] {
        [
            ("policyd_inbound_open", "Inbound connections now open", &self.inbound_open),
            ("policyd_outbound_open", "Outbound connections now open", &self.outbound_open),
            (
                "policyd_outbound_shared_open",
                "Connections of HTTP/2 to endpoints now open",
                &self.shared_open,
            ),
            ("policyd_requests_in_flight", "HTTP requests now in flight", &self.in_flight),
            (
                "policyd_policy_stream_connected",
                "1 while the policy stream is open",
                &self.policy_stream,
            ),
        ]
    }
}

pub(crate) fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a String can't fail, here and below.
    let _ = writeln!(out, "# HELP {name} {help}.\n# TYPE {name} {kind}");
}

pub(crate) fn line(out: &mut String, name: &str, labels: &[(&str, &str)], value: &str) {
    out.push_str(name);
    if !labels.is_empty() {
        let labels: Vec<_> =
            labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
        let _ = write!(out, "{{{}}}", labels.join(","));
    }
    let _ = writeln!(out, " {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_are_counted_by_reason() {
        let metrics = Metrics::default();
        metrics.decided(Subject::Request, Verdict::Deny, Reason::NoIdentity);
        metrics.decided(Subject::Request, Verdict::Deny, Reason::InvalidRequest(GateRule::G5));
        metrics.failed(Failure::Desync);
        let text =
            metrics.text(Moments { table_age_millis: Some(1_234), not_after_millis: Some(5_000) });
        for line in [
            "policyd_decisions_total{subject=\"request\",verdict=\"deny\",reason=\"no_identity\"} 1\n",
            "policyd_gate_refusals_total{rule=\"G5\"} 1\n",
            "policyd_upstream_desync_total 1\n",
            "policyd_table_age_seconds 1.234\n",
            "policyd_certificate_expiration_timestamp_seconds 5\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
