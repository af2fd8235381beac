//! The admin port: what a scraper and a kubelet ask. GET only; nothing here changes anything.
//!
//! Probes by HTTPS, too, which the injector points here ([`crate::tls_probe`]).

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::clock;
use crate::limits;
use crate::metrics::Moments;
use crate::shared::Shared;
use crate::tls_probe::{self, TlsProbe};

/// Never returns: answers.
pub async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(limits::ADMIN_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    answer_all(shared, stream).await;
                    drop(place);
                });
            }
            Err(_) => sleep(limits::ACCEPT_PAUSE).await,
        }
    }
}

async fn answer_all(shared: Arc<Shared>, stream: TcpStream) {
    let service = service_fn(|request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&shared, &request).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::ADMIN_CONNECTION)
        .max_buf_size(limits::ADMIN_HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let probing = shared.settings.probes.iter().map(TlsProbe::limit).max().unwrap_or_default();
    // A scraper that hangs up, or is too slow, is its own affair.
    let _ = timeout(limits::ADMIN_CONNECTION + probing, serving).await;
}

async fn answer(shared: &Shared, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let probe = shared.settings.probe(path).zip(shared.settings.pod_address);
    let known = probe.is_some() || ["/metrics", "/ready", "/live"].contains(&path);
    if known && !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
        response.headers_mut().insert(ALLOW, http::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    if let Some((probe, address)) = probe {
        return tls_probe::ask(probe, address, request.headers()).await;
    }
    match path {
        "/metrics" => {
            let mut response = text(StatusCode::OK, shared.metrics.text(moments(shared)));
            let kind = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        "/ready" => match missing(shared) {
            None => text(StatusCode::OK, "ready\n".to_owned()),
            Some(what) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{what}\n")),
        },
        "/live" => text(StatusCode::OK, "live\n".to_owned()),
        _ => text(StatusCode::NOT_FOUND, "/metrics, /ready, /live\n".to_owned()),
    }
}

/// What is missing for this pod to be ready; an expired certificate and a stale table count as missing.
pub fn missing(shared: &Shared) -> Option<&'static str> {
    if shared.is_stopping() {
        return Some("stopping");
    }
    if shared.keyring.valid_credentials(clock::now_millis()).is_none() {
        return Some("no valid certificate");
    }
    let Some(enforced) = shared.enforcement.current() else { return Some("no policy loaded") };
    let limit = enforced.table.max_table_age_millis();
    limit
        .is_some_and(|limit| enforced.moment().table_age_millis > limit)
        .then_some("the policy is stale")
}

fn moments(shared: &Shared) -> Moments {
    Moments {
        table_age_millis: shared
            .enforcement
            .current()
            .map(|enforced| enforced.moment().table_age_millis),
        not_after_millis: shared.keyring.credentials().map(|own| own.leaf.not_after_millis),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
