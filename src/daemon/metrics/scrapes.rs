//! Answers `GET /metrics`, and nothing else.
//!
//! Whoever asks may be slow, silent or many. Each connection is for one request and lives for some seconds at most.
//! So many may be about to ask at once, and so many be answered; where another comes, the oldest of these goes. A
//! scrape, which asks at once and reads what it gets, is answered beside any number of those that do neither.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::oneshot;

use crate::report::metrics::{Format, Metrics};

/// How many connections may be about to ask at once.
const ASKING: usize = 48;

/// How many may be answered at once.
const ANSWERED: usize = 16;

/// How long a request may take to be there, whatever comes of it meanwhile: well below the time after which Prometheus
/// gives up.
const ASKED_WITHIN: Duration = Duration::from_secs(3);

/// How long a connection may take from its beginning to its end. Prometheus itself gives up
/// after 10 s unless it is told otherwise.
const LIMIT: Duration = Duration::from_secs(10);

/// How much of a request is read, in bytes.
const LARGEST: usize = 16 << 10;

/// The pause after a connection could not be taken, for want of descriptors for one.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) enum Door {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Answers until it is dropped.
pub(super) async fn answer(door: Door, metrics: Metrics) {
    let scrapes = Arc::new(Scrapes::default());
    loop {
        let taken = match &door {
            Door::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                tokio::spawn(bounded(stream, metrics.clone(), scrapes.enter()));
            }),
            Door::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                tokio::spawn(bounded(stream, metrics.clone(), scrapes.enter()));
            }),
        };
        match taken {
            // What it has sent already is read before many others come and it is the oldest.
            Ok(()) => tokio::task::yield_now().await,
            Err(error) => {
                tracing::debug!("a scrape could not be taken: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The connections that are there, the oldest first.
#[derive(Default)]
struct Scrapes {
    all: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    next: u64,
    asking: VecDeque<Seat>,
    answered: VecDeque<Seat>,
}

/// One connection; dropped, it ends.
struct Seat {
    number: u64,
    _stays: oneshot::Sender<()>,
}

/// The hold of a connection on its place, which it leaves when this is dropped.
struct Hold {
    scrapes: Arc<Scrapes>,
    number: u64,
}

impl Scrapes {
    /// Takes a place among those that are about to ask; gives what ends when it has to be left.
    fn enter(self: &Arc<Scrapes>) -> (Hold, oneshot::Receiver<()>) {
        let (stays, left) = oneshot::channel();
        let mut taken = self.locked();
        let number = taken.next;
        taken.next += 1;
        let seat = Seat {
            number,
            _stays: stays,
        };
        make_room(&mut taken.asking, ASKING).push_back(seat);
        drop(taken);
        let scrapes = Arc::clone(self);
        (Hold { scrapes, number }, left)
    }

    fn locked(&self) -> MutexGuard<'_, Taken> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hold {
    /// Takes a place among those that are answered.
    fn has_asked(&self) {
        let mut taken = self.scrapes.locked();
        let seat = taken
            .asking
            .iter()
            .position(|seat| seat.number == self.number);
        if let Some(seat) = seat.and_then(|place| taken.asking.remove(place)) {
            make_room(&mut taken.answered, ANSWERED).push_back(seat);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut taken = self.scrapes.locked();
        taken.asking.retain(|seat| seat.number != self.number);
        taken.answered.retain(|seat| seat.number != self.number);
    }
}

/// Lets the oldest go where there would be more than `most`.
fn make_room(seats: &mut VecDeque<Seat>, most: usize) -> &mut VecDeque<Seat> {
    while seats.len() >= most {
        seats.pop_front();
    }
    seats
}

async fn bounded(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    metrics: Metrics,
    (hold, left): (Hold, oneshot::Receiver<()>),
) {
    let answered = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ASKED_WITHIN)
        .keep_alive(false)
        .max_buf_size(LARGEST)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(|request| {
                hold.has_asked();
                let answer = response_to(&request, &metrics);
                async { Ok::<_, Infallible>(answer) }
            }),
        );
    tokio::select! {
        ended = tokio::time::timeout(LIMIT, answered) => match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!("a scrape was not answered: {error}"),
            Err(_) => tracing::debug!("a scrape took longer than {} s", LIMIT.as_secs()),
        },
        _ = left => tracing::debug!("a scrape was not answered: it was slow, and others came"),
    }
}

/// The answer to a request; its body is not looked at.
fn response_to<T>(request: &Request<T>, metrics: &Metrics) -> Response<String> {
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
    let accept: Vec<&str> = accept.filter_map(|value| value.to_str().ok()).collect();
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
