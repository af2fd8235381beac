//! The clients.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Barrier;
use tokio::task::{JoinHandle, spawn_local};

use crate::dial::Dialler;
use crate::report::Tally;
use crate::{RunArguments, TargetArguments, cue, http1, http2};

/// After so many requests without an answer a client gives up.
const MOST_FAILURES: u64 = 100;

/// What all clients share.
struct Course {
    dialler: Dialler,
    requests: Vec<Vec<u8>>,
    gate: Barrier,
    warm_until: Instant,
    until: Cell<Instant>,
}

impl Course {
    fn new(
        target: &TargetArguments,
        clients: usize,
        warm_up: Duration,
        close: bool,
    ) -> io::Result<Self> {
        let requests =
            paths(target)?.iter().map(|path| http1::get(path, &target.header, close)).collect();
        let now = Instant::now();
        Ok(Self {
            dialler: Dialler::new(target)?,
            requests,
            gate: Barrier::new(clients + 1),
            warm_until: now + warm_up,
            until: Cell::new(now),
        })
    }

    /// Where the warm-up ends and the work begins: once when all are warm, once when they may go on.
    async fn pass_gate(&self) {
        self.gate.wait().await;
        self.gate.wait().await;
    }
}

/// Works until the time is over, and reports.
pub(crate) async fn run(arguments: RunArguments) -> io::Result<()> {
    let target = &arguments.target;
    let clients = target.connections * if arguments.http == 2 { arguments.streams } else { 1 };
    let course = Rc::new(Course::new(target, clients, arguments.warm_up, arguments.fresh)?);
    let mut working = start(&course, &arguments).await?;
    tokio::select! {
        _ = course.gate.wait() => {}
        error = first_error(&mut working) => return Err(error),
    }
    cue::ready()?;
    let begun = Instant::now();
    course.until.set(begun + arguments.seconds);
    course.gate.wait().await;
    let mut tally = Tally::default();
    for client in working {
        tally.add(client.await.map_err(io::Error::other)??);
    }
    cue::finished(&tally.report(begun.elapsed()))
}

type Working = Vec<JoinHandle<io::Result<Tally>>>;

async fn start(course: &Rc<Course>, arguments: &RunArguments) -> io::Result<Working> {
    let target = &arguments.target;
    let mut working = Working::new();
    if arguments.http == 2 {
        let requests: Rc<[_]> = paths(target)?
            .iter()
            .map(|path| http2::get(path, &target.header))
            .collect::<io::Result<_>>()?;
        for _ in 0..target.connections {
            let connection = http2::Connection::new(course.dialler.dial().await?.0).await?;
            for _ in 0..arguments.streams {
                let client = Client::new(course, working.len());
                working.push(spawn_local(stream(client, connection.clone(), Rc::clone(&requests))));
            }
        }
        return Ok(working);
    }
    for number in 0..target.connections {
        let client = Client::new(course, number);
        working.push(if arguments.fresh {
            // Each with tickets of its own: of a shared store others might have taken the last.
            spawn_local(fresh(client, Dialler::new(target)?))
        } else {
            spawn_local(kept(client))
        });
    }
    Ok(working)
}

/// A client that ends before the work begins has failed; the others wait for it in vain.
async fn first_error(working: &mut Working) -> io::Error {
    loop {
        for client in working.iter_mut().filter(|client| client.is_finished()) {
            match client.await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return error,
                Err(error) => return io::Error::other(error),
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One of the clients: which request is next, and what came of them.
struct Client {
    course: Rc<Course>,
    next: usize,
    warm: bool,
    tally: Tally,
}

impl Client {
    fn new(course: &Rc<Course>, number: usize) -> Self {
        // Clients begin at different paths, so that they don't ask for the same ones in step.
        let next = number * 7;
        Self { course: Rc::clone(course), next, warm: false, tally: Tally::default() }
    }

    /// The place of the next request; none when it is over. Waits between warm-up and work.
    async fn next(&mut self) -> Option<usize> {
        if !self.warm && Instant::now() >= self.course.warm_until {
            self.warm = true;
            self.course.pass_gate().await;
            self.tally = Tally::default();
        }
        let over = self.warm && Instant::now() >= self.course.until.get();
        if over || self.tally.failures() >= MOST_FAILURES {
            return None;
        }
        self.next += 1;
        Some(self.next % self.course.requests.len())
    }

    /// Counts what came of a request. An error in the warm-up ends everything: there is nothing to measure.
    fn count(&mut self, begun: Instant, outcome: io::Result<u16>) -> io::Result<()> {
        match outcome {
            Ok(status) => self.tally.answered(status, begun.elapsed()),
            Err(error) if !self.warm => return Err(error),
            Err(_) => self.tally.failed(),
        }
        Ok(())
    }
}

/// One kept connection; opened again where the proxy closes it.
async fn kept(mut client: Client) -> io::Result<Tally> {
    let course = Rc::clone(&client.course);
    let mut connection = http1::Connection::new(course.dialler.dial().await?.0);
    while let Some(place) = client.next().await {
        let begun = Instant::now();
        let outcome = connection.ask(&course.requests[place]).await;
        let closed = outcome.as_ref().map_or(true, |answer| answer.closes);
        client.count(begun, outcome.map(|answer| answer.status))?;
        if closed {
            connection = http1::Connection::new(course.dialler.dial().await?.0);
            client.tally.reconnected += 1;
        }
    }
    Ok(client.tally)
}

/// A new connection for each request.
async fn fresh(mut client: Client, dialler: Dialler) -> io::Result<Tally> {
    let course = Rc::clone(&client.course);
    while let Some(place) = client.next().await {
        let begun = Instant::now();
        let outcome = connect_and_ask(&dialler, &course.requests[place]).await;
        client.tally.resumed += u64::from(matches!(outcome, Ok((_, true))));
        client.count(begun, outcome.map(|(status, _)| status))?;
    }
    Ok(client.tally)
}

async fn connect_and_ask(dialler: &Dialler, request: &[u8]) -> io::Result<(u16, bool)> {
    let (stream, resumed) = dialler.dial().await?;
    let mut connection = http1::Connection::new(stream);
    let answer = connection.ask(request).await?;
    // The proxy may have closed already: that it can't hear our goodbye is no failure.
    let _ = connection.close().await;
    Ok((answer.status, resumed))
}

/// One stream after the other on a connection shared with others.
async fn stream(
    mut client: Client,
    mut connection: http2::Connection,
    requests: Rc<[http::Request<()>]>,
) -> io::Result<Tally> {
    while let Some(place) = client.next().await {
        let begun = Instant::now();
        let outcome = connection.ask(requests[place].clone()).await;
        client.count(begun, outcome)?;
    }
    Ok(client.tally)
}

/// Opens connections one after the other, asks once on each, and holds those that answered.
pub(crate) async fn hold(target: TargetArguments) -> io::Result<()> {
    let course = Course::new(&target, 0, Duration::ZERO, false)?;
    let mut held = Vec::new();
    let mut tally = Tally::default();
    let begun = Instant::now();
    for request in course.requests.iter().cycle().take(target.connections) {
        let asked = Instant::now();
        let mut connection = http1::Connection::new(course.dialler.dial().await?.0);
        let answer = connection.ask(request).await?;
        tally.answered(answer.status, asked.elapsed());
        held.push(connection);
    }
    cue::ready()?;
    cue::finished(&tally.report(begun.elapsed()))
}

fn paths(target: &TargetArguments) -> io::Result<Vec<String>> {
    let text = std::fs::read_to_string(&target.paths)?;
    let paths: Vec<_> =
        text.lines().filter(|line| !line.is_empty()).map(ToOwned::to_owned).collect();
    if paths.is_empty() {
        return Err(io::Error::other(format!("{}: no path in it", target.paths.display())));
    }
    Ok(paths)
}
