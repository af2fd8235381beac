//! One proxy's policy stream, from its Hello to its end (design §8).
//!
//! At most one assignment is unacknowledged at a time, and each is made from what is wanted at that moment: a slow proxy
//! costs one message, and never sees a state that is no longer true.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use prost::Message as _;
use tokio::time::{Instant, sleep};

use crate::assignment::{self, Sent};
use crate::contents::{Standing, Wanted};
use crate::events::Event;
use crate::generated::{Ack, Hello, Nack, ProxyMessage};
use crate::grpc::{Answer, Fault, Incoming};
use crate::hub::Hub;
use crate::limits;
use crate::status::{
    DEADLINE_EXCEEDED, INTERNAL, INVALID_ARGUMENT, PERMISSION_DENIED, Status, UNAVAILABLE,
};
use crate::stream::{State, Stream};

/// The last assignment: what, with which serial, when, and whether the proxy has answered.
#[derive(Debug)]
struct Told {
    wanted: Arc<Wanted>,
    serial: u64,
    at: Instant,
    answered: bool,
    accepted: bool,
}

/// What is held by a proxy that has just said so.
#[derive(Debug, Default)]
struct Held {
    snapshot: Vec<u8>,
    facts: Vec<u8>,
    discovery: Vec<u8>,
}

/// The state of one stream.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    hub: &'a Hub,
    stream: &'a Stream,
    incoming: Incoming,
    answer: Answer,
    admitted_at: Option<Instant>,
    greeted: bool,
    held: Held,
    told: Option<Told>,
    serial: u64,
    confirmed_at: Instant,
    confirmed_as_of: i64,
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        hub: &'a Hub,
        stream: &'a Stream,
        incoming: Incoming,
        answer: Answer,
    ) -> Self {
        Self {
            hub,
            stream,
            incoming,
            answer,
            admitted_at: None,
            greeted: false,
            held: Held::default(),
            told: None,
            serial: 0,
            confirmed_at: Instant::now(),
            confirmed_as_of: i64::MIN,
        }
    }

    /// Serves until the peer leaves (OK), gives up, or must go; the answer is to be finished with that.
    pub(crate) async fn run(mut self) -> (Answer, Result<Status, Fault>) {
        let ended = self.serve().await;
        (self.answer, ended)
    }

    async fn serve(&mut self) -> Result<Status, Fault> {
        loop {
            let pause = match self.step().await? {
                Step::Pause(pause) => pause,
                Step::End(status) => return Ok(status),
            };
            let listens = self.admitted_at.is_some() && !self.stream.orders().asks;
            tokio::select! {
                message = self.incoming.next(), if listens => match message? {
                    Some(message) => self.on_message(message.bytes)?,
                    None => return Ok(Status::ok()),
                },
                () = self.answer.given_up(), if !listens => return Err(Fault::Gone),
                () = self.stream.changed.notified() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Says what is due, and when something can be due again.
    async fn step(&mut self) -> Result<Step, Fault> {
        let now = Instant::now();
        let (wanted, until) = {
            let mut orders = self.stream.orders();
            if let Some(status) = orders.end.take() {
                return Ok(Step::End(status));
            }
            if !orders.admitted {
                return Ok(Step::Pause(limits::LOOK));
            }
            self.look_at_withheld(orders.withheld.as_deref());
            let wanted = orders.wanted.clone().filter(|_| orders.withheld.is_none());
            (wanted, orders.until_millis)
        };
        let mut pause = not_expired(until)?;
        if self.admitted_at.is_none() {
            self.answer.begin()?;
            self.admitted_at = Some(now);
        }
        pause = pause.min(self.patience(now)?);
        let open = self.told.as_ref().is_some_and(|told| !told.answered);
        let Some(wanted) = wanted.filter(|_| self.greeted && !open) else {
            return Ok(Step::Pause(pause));
        };
        match &self.told {
            Some(told) if told.wanted.says_the_same(&wanted) => {
                self.no_longer_withheld();
                self.confirm(&wanted).await?;
            }
            _ => self.assign(wanted).await?,
        }
        Ok(Step::Pause(pause))
    }

    /// How long the proxy may still take with what it owes.
    fn patience(&self, now: Instant) -> Result<Duration, Status> {
        let (since, most, code) = match (&self.told, self.admitted_at) {
            (Some(told), _) if !told.answered => (told.at, self.hub.times.slow, "ACK_OVERDUE"),
            (None, Some(at)) if !self.greeted => (at, self.hub.times.hello, "HELLO_OVERDUE"),
            _ => return Ok(limits::LOOK.min(self.hub.times.confirm)),
        };
        match (since + most).checked_duration_since(now) {
            Some(left) if !left.is_zero() => Ok(left),
            _ => Err(Status::new(DEADLINE_EXCEEDED, format!("{code}: no answer in time"))),
        }
    }

    fn on_message(&mut self, bytes: Bytes) -> Result<(), Status> {
        let message = ProxyMessage::decode(bytes).map_err(|_| {
            Status::new(INVALID_ARGUMENT, "REQUEST_INVALID: not the message expected")
        })?;
        match (message.hello, message.ack, message.nack) {
            (Some(hello), None, None) => self.on_hello(hello),
            (None, Some(ack), None) if self.greeted => self.on_ack(&ack),
            (None, None, Some(nack)) if self.greeted => self.on_nack(&nack),
            _ => Err(unexpected("expected one of hello, ack, nack, the first a hello")),
        }
    }

    fn on_hello(&mut self, hello: Hello) -> Result<(), Status> {
        let services = hello.services.len() + hello.addresses.len();
        if services > limits::SERVICES {
            let most = limits::SERVICES;
            let detail = format!("TOO_MANY_SERVICES: {services}: expected at most {most}");
            return Err(Status::new(INVALID_ARGUMENT, detail));
        }
        if self.greeted && hello.held.is_some() {
            return Err(unexpected("held in a later Hello: acks say what is held"));
        }
        let message = Bytes::from(hello.encode_to_vec());
        if let Some(held) = hello.held {
            self.stream.view().enforced = held.snapshot_sha256.clone().into();
            self.held = Held {
                snapshot: held.snapshot_sha256,
                facts: held.facts_sha256,
                discovery: held.discovery_sha256,
            };
        }
        self.greeted = true;
        self.stream.orders().asks = true;
        self.hub.events.push(Event::Hello { stream: self.stream.id, message });
        Ok(())
    }

    fn on_ack(&mut self, ack: &Ack) -> Result<(), Status> {
        let told = self.answered(ack.serial)?;
        if *ack.snapshot_sha256 != *told.wanted.snapshot.sha256 {
            let detail = format!("ACK_UNKNOWN: serial {} was another snapshot", ack.serial);
            return Err(Status::new(INVALID_ARGUMENT, detail));
        }
        told.accepted = true;
        let mut view = self.stream.view();
        view.enforced = Bytes::copy_from_slice(&ack.snapshot_sha256);
        (view.state, view.detail) = (State::Enforcing, String::new());
        self.hub.counts.acks.add();
        Ok(())
    }

    fn on_nack(&mut self, nack: &Nack) -> Result<(), Status> {
        let told = self.answered(nack.serial)?;
        let snapshot = Bytes::copy_from_slice(&told.wanted.snapshot.sha256);
        let words = format!("{}: {}", nack.code, nack.detail);
        let reason: String = words.chars().take(limits::DETAIL_CHARACTERS).collect();
        let mut view = self.stream.view();
        (view.state, view.detail) = (State::Refused, reason.clone());
        self.hub.counts.nacks.add();
        self.hub.events.push(Event::Nack { stream: self.stream.id, snapshot, reason });
        Ok(())
    }

    fn answered(&mut self, serial: u64) -> Result<&mut Told, Status> {
        let told = self.told.as_mut().filter(|told| !told.answered && told.serial == serial);
        let told = told.ok_or_else(|| {
            Status::new(INVALID_ARGUMENT, format!("ACK_UNKNOWN: serial {serial} is not open"))
        })?;
        told.answered = true;
        Ok(told)
    }

    async fn assign(&mut self, wanted: Arc<Wanted>) -> Result<(), Fault> {
        let standing = self.as_of(&wanted);
        self.serial += 1;
        let sent = self.not_held(&wanted);
        let credentials = self.hub.credentials().ok_or_else(no_credentials)?;
        let pieces = assignment::assignment(&credentials, &wanted, &standing, self.serial, &sent)
            .map_err(|error| Status::new(INTERNAL, format!("NOT_SIGNED: {error}")))?;
        {
            let mut view = self.stream.view();
            (view.state, view.detail) = (State::Assigned, String::new());
            view.told = [&wanted.snapshot, &wanted.facts, &wanted.discovery]
                .map(|content| Bytes::copy_from_slice(&content.sha256));
        }
        let at = Instant::now();
        self.told =
            Some(Told { wanted, serial: self.serial, at, answered: false, accepted: false });
        (self.confirmed_at, self.confirmed_as_of) = (at, standing.at_millis);
        self.answer.send(pieces).await
    }

    /// Every minute, to a proxy that enforces what it was told, and only as of a later moment than the last time: while
    /// the other side says nothing new, nothing is confirmed.
    async fn confirm(&mut self, wanted: &Wanted) -> Result<(), Fault> {
        let standing = self.as_of(wanted);
        let enforcing = self.stream.view().state == State::Enforcing;
        if self.confirmed_at.elapsed() < self.hub.times.confirm
            || !enforcing
            || standing.at_millis <= self.confirmed_as_of
        {
            return Ok(());
        }
        (self.confirmed_at, self.confirmed_as_of) = (Instant::now(), standing.at_millis);
        let credentials = self.hub.credentials().ok_or_else(no_credentials)?;
        let pieces = assignment::confirmation(&credentials, wanted, &standing)
            .map_err(|error| Status::new(INTERNAL, format!("NOT_SIGNED: {error}")))?;
        self.answer.send(pieces).await
    }

    /// The latest moment of which it is known that just this was to be known.
    fn as_of(&self, wanted: &Wanted) -> Arc<Standing> {
        let settled = self.hub.settled();
        if settled.at_millis > wanted.as_of.at_millis { settled } else { wanted.as_of.clone() }
    }

    /// What the proxy doesn't have for certain: it acknowledged or announced another.
    fn not_held(&self, wanted: &Wanted) -> Sent {
        let held = match &self.told {
            Some(told) if told.accepted => {
                let before = &told.wanted;
                [&*before.snapshot.sha256, &*before.facts.sha256, &*before.discovery.sha256]
            }
            Some(_) => [&[][..]; 3],
            None => [&*self.held.snapshot, &*self.held.facts, &*self.held.discovery],
        };
        let [snapshot, facts, discovery] = held;
        let unless = |held: &[u8], content: &crate::contents::Content| {
            if *held == *content.sha256 { Bytes::new() } else { content.bytes.clone() }
        };
        Sent {
            snapshot: unless(snapshot, &wanted.snapshot),
            facts: unless(facts, &wanted.facts),
            discovery: unless(discovery, &wanted.discovery),
        }
    }

    fn look_at_withheld(&self, withheld: Option<&str>) {
        let Some(why) = withheld else { return };
        let mut view = self.stream.view();
        if view.state != State::Waiting || view.detail != why {
            (view.state, view.detail) = (State::Waiting, why.to_owned());
        }
    }

    /// What was withheld, and is now the same as before.
    fn no_longer_withheld(&self) {
        let mut view = self.stream.view();
        if view.state == State::Waiting && self.told.as_ref().is_some_and(|told| told.accepted) {
            (view.state, view.detail) = (State::Enforcing, String::new());
        }
    }
}

enum Step {
    Pause(Duration),
    End(Status),
}

fn unexpected(detail: &str) -> Status {
    Status::new(INVALID_ARGUMENT, format!("MESSAGE_UNEXPECTED: {detail}"))
}

fn no_credentials() -> Status {
    Status::new(UNAVAILABLE, "NOT_READY: policyd has no certificate yet")
}

/// How long until the peer's certificate is to be looked at again; a stream doesn't outlive it.
fn not_expired(until_millis: Option<i64>) -> Result<Duration, Status> {
    let Some(until) = until_millis else { return Ok(limits::LOOK) };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let left = until.saturating_sub(i64::try_from(now.as_millis()).unwrap_or(i64::MAX));
    match u64::try_from(left) {
        Ok(left) if left > 0 => Ok(Duration::from_millis(left).min(limits::LOOK)),
        _ => {
            let detail = "SVID_EXPIRED: connect again with the renewed one";
            Err(Status::new(PERMISSION_DENIED, detail))
        }
    }
}
