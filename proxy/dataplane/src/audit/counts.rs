//! What of the audit trail is counted.

use std::sync::atomic::{AtomicU64, Ordering};

use super::lost::{REASONS, Reason, place};
use crate::metrics::{Counter, Gauge, head, line};

/// Counters of the audit trail.
#[derive(Debug, Default)]
pub struct AuditCounts {
    /// Records that policyd hasn't acknowledged.
    pub spooled: Gauge,
    /// Records that policyd keeps.
    pub acknowledged: Counter,
    /// 1 while the audit stream is open.
    pub stream: Gauge,
    lost: [Counter; REASONS.len()],
    /// Lost before the spool knew of them.
    missed: [AtomicU64; REASONS.len()],
}

impl AuditCounts {
    /// Lost, and the spool knows.
    pub(super) fn lost(&self, reason: Reason, count: u64) {
        if let Some(counter) = self.lost.get(place(reason)) {
            counter.add(count);
        }
    }

    /// One is lost on its way to the spool.
    pub fn missed(&self, reason: Reason) {
        self.lost(reason, 1);
        if let Some(count) = self.missed.get(place(reason)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was lost since this was asked last, by reason.
    pub(super) fn take_missed(&self) -> impl Iterator<Item = (Reason, u64)> {
        let taken = self.missed.iter().map(|count| count.swap(0, Ordering::Relaxed));
        REASONS.iter().map(|(reason, _)| *reason).zip(taken).filter(|(_, count)| *count > 0)
    }

    /// Whether [`AuditCounts::take_missed`] has something to say.
    pub(super) fn has_missed(&self) -> bool {
        self.missed.iter().any(|count| count.load(Ordering::Relaxed) > 0)
    }

    /// For Prometheus.
    pub fn text(&self, out: &mut String) {
        let gauges = [
            ("policyd_audit_spooled", "Records that policyd has not acknowledged", &self.spooled),
            ("policyd_audit_stream_connected", "1 while the audit stream is open", &self.stream),
        ];
        for (name, help, gauge) in gauges {
            head(out, name, "gauge", help);
            line(out, name, &[], &gauge.get().to_string());
        }
        let name = "policyd_audit_acknowledged_total";
        head(out, name, "counter", "Records that policyd keeps");
        line(out, name, &[], &self.acknowledged.get().to_string());
        let name = "policyd_audit_lost_total";
        head(out, name, "counter", "Records that found no room, by reason");
        for ((_, reason), counter) in REASONS.iter().zip(&self.lost) {
            line(out, name, &[("reason", reason)], &counter.get().to_string());
        }
    }
}
