//! What comes out: a decision, and the permit that only an allowing decision gives.

use crate::{
    reason::{ClientView, Reason},
    rows::{RouteId, RuleId},
};

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It may pass.
    Allow,
    /// It may not.
    Deny,
}

/// How what arrived would be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An HTTP answer.
    Http,
    /// A gRPC answer, trailers only.
    Grpc,
    /// The connection is closed without a word.
    Closed,
}

/// What the verdict would be if all Audit policies were enforced and an `audit` default were `deny` (A6); only where it
/// differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WouldBe {
    /// The other verdict.
    pub verdict: Verdict,
    /// Its reason.
    pub reason: Reason,
    /// The Audit policies that make the difference, in order of attribution.
    pub rules: Vec<RuleId>,
}

/// A decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub(crate) verdict: Verdict,
    pub(crate) reason: Reason,
    pub(crate) rule: Option<RuleId>,
    pub(crate) route: Option<RouteId>,
    pub(crate) form: Form,
    pub(crate) step: u8,
    pub(crate) would_be: Option<Box<WouldBe>>,
}

impl Decision {
    /// A refusal that no table speaks: no table, overload, an upstream peer that isn't the one expected.
    pub fn refusal(reason: Reason, form: Form) -> Self {
        let reason = if reason == Reason::Allowed { Reason::EngineError } else { reason };
        Self {
            verdict: Verdict::Deny,
            reason,
            rule: None,
            route: None,
            form,
            step: 1,
            would_be: None,
        }
    }

    /// Yes or no.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The rule that decided; none for a default, a probe, or what precedes the rules.
    pub fn rule(&self) -> Option<RuleId> {
        self.rule
    }

    /// The selected route, from step 5 of D1 on.
    pub fn route(&self) -> Option<RouteId> {
        self.route
    }

    /// How it is answered.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The step of D1 that decided, 1 to 12.
    pub fn step(&self) -> u8 {
        self.step
    }

    /// What it would be with everything enforced, where that differs.
    pub fn would_be(&self) -> Option<&WouldBe> {
        self.would_be.as_deref()
    }

    /// What the client sees; none where the connection is closed.
    pub fn client_view(&self) -> Option<ClientView> {
        match self.form {
            Form::Closed => None,
            Form::Http => Some(self.reason.client_view()),
            Form::Grpc => Some(ClientView { status: 200, ..self.reason.client_view() }),
        }
    }

    /// The permit, if this decision allows.
    pub fn permit(&self) -> Option<Permit> {
        (self.verdict == Verdict::Allow).then_some(Permit { engine: () })
    }
}

/// Proof that the engine allowed one request or connection. Nothing else makes one, and forwarding asks for one.
#[derive(Debug)]
pub struct Permit {
    #[allow(dead_code, reason = "private, so that only this module can make a permit")]
    engine: (),
}
