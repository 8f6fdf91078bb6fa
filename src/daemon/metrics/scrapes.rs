//! Answers `GET /metrics`, and nothing else.
//!
//! Whoever asks may be slow, silent or many: each connection is for one request and lives
//! for some seconds at most, and so many are served at once and no more.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use crate::report::metrics::{Format, Metrics};

/// How many connections are served at once; more wait in the kernel's queue.
const AT_ONCE: usize = 16;

/// How long a connection may take from its beginning to its end. Prometheus itself gives up
/// after 10 s unless it is told otherwise.
const LIMIT: Duration = Duration::from_secs(10);

/// How much of a request is read, in bytes.
const LARGEST: usize = 16 << 10;

/// The pause after a connection could not be taken, for want of descriptors for one.
const PAUSE: Duration = Duration::from_secs(1);

/// Where they come from.
pub(super) enum Door {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Answers until it is dropped.
pub(super) async fn answer(door: Door, metrics: Metrics) {
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    // The semaphore is never closed.
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        let metrics = metrics.clone();
        let taken = match &door {
            Door::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                tokio::spawn(async move {
                    bounded(stream, metrics).await;
                    drop(slot);
                });
            }),
            Door::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                tokio::spawn(async move {
                    bounded(stream, metrics).await;
                    drop(slot);
                });
            }),
        };
        if let Err(error) = taken {
            tracing::debug!("a scrape could not be taken: {error}");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn bounded(stream: impl AsyncRead + AsyncWrite + Unpin + Send, metrics: Metrics) {
    let answered = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(LARGEST)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(|request| {
                let answer = of(&request, &metrics);
                async { Ok::<_, Infallible>(answer) }
            }),
        );
    match tokio::time::timeout(LIMIT, answered).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("a scrape was not answered: {error}"),
        Err(_) => tracing::debug!("a scrape took longer than {} s", LIMIT.as_secs()),
    }
}

/// The answer to a request; its body is not looked at.
fn of<T>(request: &Request<T>, metrics: &Metrics) -> Response<String> {
    if request.uri().path() != "/metrics" {
        let text = "there is /metrics and nothing else\n";
        return said(StatusCode::NOT_FOUND, text);
    }
    if request.method() != Method::GET {
        let mut answer = said(StatusCode::METHOD_NOT_ALLOWED, "there is GET alone\n");
        let get = HeaderValue::from_static("GET");
        answer.headers_mut().insert(ALLOW, get);
        return answer;
    }
    let accept = request.headers().get_all(ACCEPT).iter();
    let accept: Vec<&str> = accept.filter_map(|it| it.to_str().ok()).collect();
    let format = Format::accepted(&accept.join(","));
    match metrics.text(format) {
        Ok(text) => {
            let mut answer = Response::new(text);
            let content = HeaderValue::from_static(format.content_type());
            answer.headers_mut().insert(CONTENT_TYPE, content);
            answer
        }
        Err(error) => said(
            StatusCode::INTERNAL_SERVER_ERROR,
            &format!("the metrics cannot be written: {error}\n"),
        ),
    }
}

fn said(status: StatusCode, text: &str) -> Response<String> {
    let mut answer = Response::new(text.to_owned());
    *answer.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, plain);
    answer
}
