//! The trail as requests and the stream see it, with its threads.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use engine::{Decision, Form, Reason as DecisionReason};
use snapshot::Answer;

use super::spool::tests::{Folder, Store};
use super::*;
use crate::denials::{DenialRecord, Direction, PeerRecord};

fn denial(id: usize, detail: &str) -> DenialRecord {
    let decision = Decision::refusal(DecisionReason::NoPolicyLoaded, Form::Closed);
    let mut answer = Answer::without_table(&decision);
    answer.id = Some(id.to_string());
    DenialRecord {
        time: String::new(),
        event: "denial",
        direction: Direction::Inbound,
        workload: Some("deployment/books/authors".to_owned()),
        namespace: "books".to_owned(),
        pod: "authors-0".to_owned(),
        port: 80,
        service: None,
        decision: answer,
        peer: PeerRecord::default(),
        request: None,
        gate: None,
        detail: Some(detail.to_owned()),
    }
}

/// What was written, when it is shared with who writes.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stdout that nobody reads until told.
struct Blocked(Receiver<()>);

impl io::Write for Blocked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // An error is the end of the test.
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// Takes everything, as a store does, until nothing is left.
async fn store_all(trail: &Trail, store: &mut Store, least: usize) {
    store.greet(trail.hello().await.unwrap());
    let taking = async {
        loop {
            let last = store.take(trail.batch().await.unwrap());
            assert!(trail.acknowledged(last).await.unwrap());
            let kept = store.ids().len() + usize::try_from(store.lost()).unwrap();
            if kept >= least {
                return;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), taking).await.unwrap();
}

#[test]
fn the_store_gets_the_bytes_of_the_line_and_nothing_is_left_over() {
    let (folder, written) = (Folder::new(), Written::default());
    let beginning = Beginning { state: Some(folder.state()), ..Beginning::default() };
    let metrics = Arc::<Metrics>::default();
    let (log, trail, thread) =
        start_writing(written.clone(), beginning, Arc::clone(&metrics)).unwrap();
    log.write(&denial(0, "a\nb\0\u{1b}[2J"));
    log.write(&denial(1, &"x".repeat(64 * 1024)));
    block_on(async {
        let hello = trail.hello().await.unwrap();
        let mut records = Vec::new();
        while records.len() < 2 {
            records.extend(trail.batch().await.unwrap().records);
        }
        assert_eq!((hello.acknowledged, records.len()), (0, 2));
        assert_eq!(trail.acknowledged(2).await, Some(true));
        trail.drained().await.unwrap();
        let lines: Vec<_> = records.iter().flat_map(|record| [&record.json[..], b"\n"]).collect();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while *written.0.lock().unwrap() != lines.concat() {
            assert!(std::time::Instant::now() < deadline, "stdout has other lines");
            std::thread::yield_now();
        }
        let long: serde_json::Value = serde_json::from_slice(&records[1].json).unwrap();
        assert_eq!(long["detail"].as_str().unwrap().len(), limits::RECORDED_BYTES);
    });
    log.end();
    thread.join().unwrap();
    assert_eq!((metrics.audit.acknowledged.get(), metrics.audit.spooled.get()), (2, 0));
}

#[test]
fn au_04_a_store_that_is_away_and_a_stdout_that_stands_still_cost_counted_records_only() {
    const DENIED: usize = 60_000;
    let (resume, blocked) = channel();
    let bounds = Bounds { memory_records: 500, memory_bytes: 1 << 20, ..Bounds::default() };
    let beginning = Beginning { bounds, ..Beginning::default() };
    let metrics = Arc::<Metrics>::default();
    let (log, trail, thread) =
        start_writing(Blocked(blocked), beginning, Arc::clone(&metrics)).unwrap();
    std::thread::scope(|scope| {
        for part in 0..3 {
            let log = log.clone();
            scope.spawn(move || {
                (part..DENIED).step_by(3).for_each(|id| log.write(&denial(id, "")));
            });
        }
    });
    let mut store = Store::default();
    block_on(store_all(&trail, &mut store, DENIED));
    assert_eq!(store.ids().len() + usize::try_from(store.lost()).unwrap(), DENIED);
    let reasons: Vec<_> = store
        .records
        .iter()
        .filter(|record| record["event"] == "lost")
        .map(|record| &record["reason"])
        .collect();
    assert!(reasons.iter().any(|reason| **reason == "spool_full"), "{reasons:?}");
    assert!(metrics.lost_lines.get() > 0);
    let told = store.records.iter().find(|record| record["event"] == "lost").unwrap();
    assert_eq!(told["workload"], "deployment/books/authors");
    // Later ones are kept again.
    log.write(&denial(DENIED, ""));
    block_on(store_all(&trail, &mut store, DENIED + 1));
    assert_eq!(store.ids().last(), Some(&DENIED));
    drop(resume);
    log.end();
    thread.join().unwrap();
}
