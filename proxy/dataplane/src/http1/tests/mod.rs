//! The codec between a client and a tiny application, both in memory. Time is paused: waiting costs nothing and is exact.

mod answers;
mod bodies;
mod chunks;
mod denials;
mod flow;
mod timing;
mod upgrades;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use engine::gate::{GateProfile, Refusal, http1};
use engine::request::CanonicalRequest;
use engine::rows::{Access, ClusterRows, PortRow, WorkloadRows};
use engine::{Arrival, ClientView, Connection, Facts, Moment, Permit, Table};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::LocalSet;

use super::{Pool, serve_pooled};
use crate::exchange::{Answer, Decider, Denied, Failure, Granted, InFlight, Upstream, Verdict};

/// Decides with the gate and an engine that allows all but paths under `/denied`.
#[derive(Default)]
pub(super) struct Guard {
    pub(super) profile: GateProfile,
    pub(super) ending: Cell<bool>,
    /// Announces a change of `ending`.
    pub(super) changed: tokio::sync::Notify,
    pub(super) failures: RefCell<Vec<Failure>>,
    pub(super) refusals: RefCell<Vec<String>>,
    in_flight: Rc<Cell<usize>>,
}

/// A permit for `request` by an engine whose only port is open to everybody.
fn permit(request: &CanonicalRequest) -> Option<Permit> {
    let other = PortRow { access: Access::AllUnauthenticated, ..PortRow::default() };
    let workload = WorkloadRows { other, ..WorkloadRows::default() };
    let table = Arc::new(Table::new(ClusterRows::default(), workload).unwrap());
    let source = std::net::Ipv4Addr::LOCALHOST.into();
    let connection = Connection::open(table, Arc::<Facts>::default(), 80, source, None);
    engine::decide(&connection, &Arrival::Http(request), Moment::default()).permit()
}

fn answer(id: &str, status: u16) -> Answer {
    let view = ClientView { status, grpc_status: 7, category: "denied" };
    Answer { id: id.to_owned(), view, grpc: false }
}

impl Decider for Guard {
    fn decide(&self, head: &[u8]) -> Verdict {
        let request = match http1(head, &self.profile) {
            Ok(request) => request,
            Err(refusal) => return Verdict::Answer(self.refuse_head(head, refusal)),
        };
        let in_flight = InFlight::take(&self.in_flight, 1, &Arc::default()).unwrap();
        match permit(&request).filter(|_| !request.path().starts_with("/denied")) {
            Some(permit) => {
                Verdict::Forward(Granted { request: Rc::new(request), permit, in_flight })
            }
            None => {
                Verdict::Deny(Denied { answer: answer("denied", 403), request: Rc::new(request) })
            }
        }
    }

    fn decide_fields(&self, _fields: &[(&[u8], &[u8])]) -> Verdict {
        Verdict::Close
    }

    fn refused_below(&self, rule: engine::gate::GateRule, what: &str) {
        self.refusals.borrow_mut().push(format!("{rule}: {what}"));
    }

    fn refuse_head(&self, _so_far: &[u8], refusal: Refusal) -> Answer {
        self.refusals.borrow_mut().push(refusal.to_string());
        answer(refusal.rule.as_str(), 400)
    }

    fn refuse_body(&self, _request: &CanonicalRequest, refusal: Refusal) -> Answer {
        self.refusals.borrow_mut().push(refusal.to_string());
        answer(refusal.rule.as_str(), 400)
    }

    fn failed(&self, failure: Failure) -> Answer {
        self.failures.borrow_mut().push(failure);
        answer("failed", if failure == Failure::Silent { 504 } else { 502 })
    }

    fn ending(&self) -> bool {
        self.ending.get()
    }

    async fn ended(&self) {
        while !self.ending.get() {
            self.changed.notified().await;
        }
    }
}

/// What the application does with the bytes it has and hasn't dealt with: how many it takes, what it answers.
pub(super) type Script = Rc<dyn Fn(&[u8]) -> Option<Reply>>;

pub(super) struct Reply {
    pub(super) taken: usize,
    pub(super) bytes: Vec<u8>,
    pub(super) close: bool,
}

/// The application: each connection follows the script. What each received is kept.
pub(super) struct Application {
    script: Script,
    pub(super) received: Rc<RefCell<Vec<Vec<u8>>>>,
    pub(super) refuses: Cell<bool>,
}

impl Upstream for Application {
    type Io = DuplexStream;

    async fn connect(&self) -> io::Result<DuplexStream> {
        if self.refuses.get() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = duplex(64 * 1024);
        let index = self.received.borrow().len();
        self.received.borrow_mut().push(Vec::new());
        let (received, script) = (Rc::clone(&self.received), Rc::clone(&self.script));
        tokio::task::spawn_local(follow(theirs, script, received, index));
        Ok(ours)
    }
}

async fn follow(
    mut io: DuplexStream,
    script: Script,
    received: Rc<RefCell<Vec<Vec<u8>>>>,
    index: usize,
) {
    let (mut pending, mut buffer) = (Vec::new(), vec![0; 4096]);
    while let Ok(count @ 1..) = io.read(&mut buffer).await {
        pending.extend_from_slice(&buffer[..count]);
        received.borrow_mut()[index].extend_from_slice(&buffer[..count]);
        while let Some(reply) = script(&pending) {
            pending.drain(..reply.taken);
            if io.write_all(&reply.bytes).await.is_err() || reply.close {
                return;
            }
        }
    }
}

/// The length of the first whole request in `bytes`.
pub(super) fn whole(bytes: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(bytes);
    let head = text.find("\r\n\r\n")? + 4;
    if text[..head].contains("transfer-encoding: chunked") {
        let last =
            text[head..].find("0\r\n").filter(|at| text[head..head + at].ends_with("\r\n"))?;
        return Some(head + last + text[head + last..].find("\r\n\r\n")? + 4);
    }
    let length = text[..head]
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
    (bytes.len() >= head + length).then_some(head + length)
}

/// An application that answers each whole request with `bytes`.
pub(super) fn answers(bytes: impl AsRef<[u8]>) -> Script {
    let bytes = bytes.as_ref().to_vec();
    Rc::new(move |pending| {
        whole(pending).map(|taken| Reply { taken, bytes: bytes.clone(), close: false })
    })
}

/// The same, and then it closes.
pub(super) fn answers_and_closes(bytes: impl AsRef<[u8]>) -> Script {
    let bytes = bytes.as_ref().to_vec();
    Rc::new(move |pending| {
        whole(pending).map(|taken| Reply { taken, bytes: bytes.clone(), close: true })
    })
}

pub(super) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Client, guard and application.
pub(super) struct World {
    pub(super) guard: Rc<Guard>,
    pub(super) application: Rc<Application>,
    pub(super) pool: Rc<Pool<DuplexStream>>,
    tasks: LocalSet,
}

impl World {
    pub(super) fn new(script: Script) -> Self {
        Self::guarded(Guard::default(), script)
    }

    pub(super) fn guarded(guard: Guard, script: Script) -> Self {
        let application =
            Application { script, received: Rc::default(), refuses: Cell::new(false) };
        Self {
            guard: Rc::new(guard),
            application: Rc::new(application),
            pool: Rc::default(),
            tasks: LocalSet::new(),
        }
    }

    /// Serves one connection, on which `client` talks.
    pub(super) async fn serve<T>(&self, client: impl AsyncFnOnce(DuplexStream) -> T) -> T {
        let (ours, theirs) = duplex(64 * 1024);
        let (guard, application) = (Rc::clone(&self.guard), Rc::clone(&self.application));
        let pool = Rc::clone(&self.pool);
        let work = async {
            tokio::task::spawn_local(async move {
                serve_pooled(theirs, &*guard, &*application, &pool).await;
            });
            client(ours).await
        };
        self.tasks.run_until(work).await
    }

    /// What a client gets that sends `bytes` and then only listens, to the end of the connection.
    pub(super) async fn send(&self, bytes: impl AsRef<[u8]>) -> String {
        let bytes = bytes.as_ref().to_vec();
        self.serve(async |io| {
            let (mut read, mut write) = tokio::io::split(io);
            let mut answer = Vec::new();
            let sending = async {
                let _ = write.write_all(&bytes).await;
            };
            let ((), result) = tokio::join!(sending, read.read_to_end(&mut answer));
            result.unwrap();
            String::from_utf8_lossy(&answer).into_owned()
        })
        .await
    }

    /// What the application received on each connection.
    pub(super) fn received(&self) -> Vec<String> {
        let received = self.application.received.borrow();
        received.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    pub(super) fn failures(&self) -> Vec<Failure> {
        self.guard.failures.borrow().clone()
    }
}

/// Reads up to `end`, or to the end of the connection.
pub(super) async fn read_until(io: &mut (impl tokio::io::AsyncRead + Unpin), end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let mut byte = [0];
        if io.read(&mut byte).await.unwrap() == 0 {
            break;
        }
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

pub(super) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

pub(super) fn post(fields: &str, body: &str) -> String {
    format!("POST /p HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}")
}
