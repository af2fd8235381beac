//! Connections that we open, against ends that are silent, busy or gone. Time is paused: waiting costs nothing and is exact.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use h2::server::{self, SendResponse};
use http::Response;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Duration, Instant};

use super::get;
use crate::http2::frames::kind;
use crate::http2::{Channel, Manner, NoPlace, Place, limits};

const IDLE: Duration = Duration::from_secs(30);
const ROOM: Duration = Duration::from_secs(1);

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test);
}

fn manner() -> Manner {
    let window_bytes = limits::SHARED_WINDOW_BYTES;
    Manner { keep_alive: Some(limits::KEEP_ALIVE), idle: Some(IDLE), stays: true, window_bytes }
}

/// Connections to an end that does this with each.
struct Rig<F> {
    channel: Channel<()>,
    end: F,
    dials: Cell<usize>,
}

impl<F: AsyncFn(DuplexStream) + Clone + 'static> Rig<F> {
    fn new(end: F) -> Self {
        Self { channel: Channel::default(), end, dials: Cell::new(0) }
    }

    async fn place(&self) -> Result<Place<()>, NoPlace<io::ErrorKind>> {
        let dial = async || {
            self.dials.set(self.dials.get() + 1);
            let (ours, theirs) = duplex(64 * 1024);
            let end = self.end.clone();
            spawn_local(async move { end(theirs).await });
            self.channel.open(ours, (), manner()).await.map_err(|error| error.kind())
        };
        self.channel.place(|()| true, dial, ROOM).await
    }
}

/// Takes so many streams at once, and never answers.
fn mute(streams: u32) -> impl AsyncFn(DuplexStream) + Clone {
    async move |io| {
        let mut builder = server::Builder::new();
        let Ok(mut connection) =
            builder.max_concurrent_streams(streams).handshake::<_, Bytes>(io).await
        else {
            return;
        };
        let mut kept = Vec::new();
        while let Some(Ok(stream)) = connection.accept().await {
            kept.push(stream);
        }
    }
}

fn answer(mut respond: SendResponse<Bytes>) {
    respond.send_response(Response::new(()), true).unwrap();
}

/// Says by hand that it takes so many streams, and nothing else; what it hears is dropped.
async fn settings(io: &mut DuplexStream, streams: u32) {
    let mut payload = vec![0, 3];
    payload.extend_from_slice(&streams.to_be_bytes());
    let frame = super::hostile::frame(kind::SETTINGS, 0, 0, &payload);
    io.write_all(&frame).await.unwrap();
}

#[test]
fn l4_20_nothing_goes_to_an_end_that_does_not_say_what_it_takes() {
    run(async {
        let rig = Rig::new(async |mut io: DuplexStream| {
            let _ = io.read_to_end(&mut Vec::new()).await;
        });
        let began = Instant::now();
        assert!(matches!(rig.place().await, Err(NoPlace::Failed(io::ErrorKind::TimedOut))));
        assert_eq!(began.elapsed(), limits::SETTINGS);
        let rig = Rig::new(async |mut io: DuplexStream| {
            io.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            let _ = io.read_to_end(&mut Vec::new()).await;
        });
        assert!(matches!(rig.place().await, Err(NoPlace::Failed(io::ErrorKind::InvalidData))));
    });
}

#[test]
fn those_who_wait_for_a_dial_that_fails_do_not_dial_again() {
    run(async {
        let rig = Rig::new(async |io: DuplexStream| drop(io));
        let all = tokio::join!(rig.place(), rig.place(), rig.place());
        for found in [all.0, all.1, all.2] {
            assert!(matches!(found, Err(NoPlace::Failed(_))), "{found:?}");
        }
        assert_eq!(rig.dials.get(), 1);
        assert!(rig.place().await.is_err());
        assert_eq!(rig.dials.get(), 2);
    });
}

#[test]
fn an_end_that_is_gone_is_found_with_open_streams_and_without() {
    for with_a_stream in [true, false] {
        run(async move {
            // It says what it takes, and then nothing more.
            let rig = Rig::new(async |mut io: DuplexStream| {
                settings(&mut io, 100).await;
                let _ = io.read_to_end(&mut Vec::new()).await;
            });
            let began = Instant::now();
            let place = rig.place().await.unwrap();
            if with_a_stream {
                let (response, _) = place.send(get("/"), true).unwrap();
                assert!(response.await.unwrap_err().is_io());
                assert_eq!(began.elapsed(), limits::KEEP_ALIVE + limits::KEEP_ALIVE_ANSWER);
                assert_eq!(place.flaw(), None);
            } else {
                drop(place);
                tokio::time::sleep(limits::KEEP_ALIVE + limits::KEEP_ALIVE_ANSWER).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
                drop(rig.place().await.unwrap());
                assert_eq!(rig.dials.get(), 2);
            }
        });
    }
}

#[test]
fn a_connection_that_carries_nothing_is_closed_after_its_time() {
    run(async {
        let ended = Rc::new(Cell::new(None));
        let (told, began) = (Rc::clone(&ended), Instant::now());
        let rig = Rig::new(async move |io: DuplexStream| {
            let mut connection = server::handshake(io).await.unwrap();
            while let Some(Ok((_, respond))) = connection.accept().await {
                answer(respond);
            }
            told.set(Some(began.elapsed()));
        });
        let place = rig.place().await.unwrap();
        let (response, _) = place.send(get("/"), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
        drop(place);
        tokio::time::sleep(IDLE * 9 / 10).await;
        assert_eq!(ended.get(), None);
        drop(rig.place().await.unwrap());
        tokio::time::sleep(2 * IDLE + Duration::from_secs(1)).await;
        assert!(ended.get().is_some_and(|ended| ended <= 3 * IDLE), "{:?}", ended.get());
        drop(rig.place().await.unwrap());
        assert_eq!(rig.dials.get(), 2);
    });
}

#[test]
fn h2_16_what_the_other_end_takes_at_once_is_kept_to_and_more_goes_on_other_connections() {
    run(async {
        let rig = Rig::new(mute(2));
        let mut places = Vec::new();
        for _ in 0..5 {
            let place = rig.place().await.unwrap();
            let sent = place.send(get("/"), true).unwrap();
            places.push((place, sent));
        }
        assert_eq!(rig.dials.get(), 3);
        drop(places.remove(0));
        let place = rig.place().await.unwrap();
        assert_eq!(rig.dials.get(), 3);
        drop((place, places));
    });
}

#[test]
fn a_request_waits_for_room_and_no_longer_than_it_may() {
    run(async {
        let rig = Rig::new(mute(1));
        let mut places = Vec::new();
        for _ in 0..limits::CHANNELS {
            let place = rig.place().await.unwrap();
            let sent = place.send(get("/"), true).unwrap();
            places.push((place, sent));
        }
        let began = Instant::now();
        assert!(matches!(rig.place().await, Err(NoPlace::Full)));
        assert_eq!(began.elapsed(), ROOM);
        let (found, ()) = tokio::join!(rig.place(), async {
            tokio::time::sleep(ROOM / 2).await;
            drop(places.pop());
        });
        drop(found.unwrap());
        assert_eq!(rig.dials.get(), limits::CHANNELS);
    });
}

#[test]
fn h2_17_an_end_that_takes_no_streams_is_waited_for_and_not_dialled_over_and_over() {
    run(async {
        let rig = Rig::new(async |mut io: DuplexStream| {
            settings(&mut io, 0).await;
            tokio::time::sleep(ROOM * 3 / 2).await;
            settings(&mut io, 1).await;
            let _ = io.read_to_end(&mut Vec::new()).await;
        });
        assert!(matches!(rig.place().await, Err(NoPlace::Full)));
        let place = rig.place().await.unwrap();
        assert_eq!(rig.dials.get(), 1);
        drop(place);
    });
}

#[test]
fn a_connection_without_a_place_among_the_idle_ends_with_what_it_carries() {
    run(async {
        let channel = Channel::<()>::default();
        let dials = Cell::new(0);
        let dial = async || {
            dials.set(dials.get() + 1);
            let (ours, theirs) = duplex(64 * 1024);
            spawn_local(async move { mute(100)(theirs).await });
            let manner = Manner { stays: false, ..manner() };
            channel.open(ours, (), manner).await.map_err(|error| error.kind())
        };
        let first = channel.place(|()| true, dial, ROOM).await.unwrap();
        let second = channel.place(|()| true, dial, ROOM).await.unwrap();
        assert_eq!(dials.get(), 1);
        drop((first, second));
        drop(channel.place(|()| true, dial, ROOM).await.unwrap());
        assert_eq!(dials.get(), 2);
    });
}
