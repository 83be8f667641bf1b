//! The witness over HTTP, on this machine only.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Semaphore, watch};

use crate::store::{Answer, MAX_REQUEST, Witness};

/// Connections at once.
const MOST: usize = 64;
/// How long a client may take for the head of a request, and for its body.
const PATIENCE: Duration = Duration::from_secs(10);

/// A served witness; dropping it stops the server.
pub struct Serving {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    /// Serves `witness` at `address`, which has to be on the loopback interface (port 0: any free one).
    ///
    /// # Errors
    /// When it is elsewhere or cannot be listened on.
    pub fn start(witness: Arc<Witness>, address: SocketAddr) -> Result<Self> {
        if !address.ip().is_loopback() {
            bail!("{address} is reachable from elsewhere; this witness is for tests on one machine");
        }
        let listener = TcpListener::bind(address).with_context(|| format!("listening at {address}"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::Builder::new().name("witness".into()).spawn(move || {
            runtime.block_on(async move {
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => accept(&listener, &witness, stopped).await,
                    Err(e) => eprintln!("witness: {e}"),
                }
            });
        })?;
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// The submission and monitoring prefix.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the process is stopped.
    pub fn wait(mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("witness: the server panicked");
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("witness: the server panicked");
        }
    }
}

async fn accept(listener: &tokio::net::TcpListener, witness: &Arc<Witness>, mut stopped: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        let place = Arc::clone(&places).acquire_owned();
        let (stream, place) = tokio::select! {
            _ = stopped.changed() => return,
            next = async { (listener.accept().await, place.await) } => match next {
                (Ok((stream, _)), Ok(place)) => (stream, place),
                (Err(e), _) => {
                    eprintln!("witness: {e}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
                (_, Err(_)) => return,
            },
        };
        let witness = Arc::clone(witness);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(Arc::clone(&witness), request));
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
            if let Err(e) = http.serve_connection(TokioIo::new(stream), service).await {
                eprintln!("witness: a connection ended: {e}");
            }
            drop(place);
        });
    }
}

async fn answer(witness: Arc<Witness>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let answer = match (request.method(), path.as_str()) {
        (&Method::POST, "/add-checkpoint") => {
            let body = Limited::new(request.into_body(), MAX_REQUEST).collect();
            match tokio::time::timeout(PATIENCE, body).await.map(|body| body.map(|b| b.to_bytes())) {
                Ok(Ok(body)) => match std::str::from_utf8(&body) {
                    Ok(body) => witness.add_checkpoint(body, now()),
                    Err(_) => Answer::text(400, "not UTF-8\n"),
                },
                Ok(Err(_)) => Answer::text(413, "too long\n"),
                Err(_) => Answer::text(408, "too slow\n"),
            }
        }
        (&Method::GET, path) => match path.strip_prefix('/').and_then(|p| p.strip_suffix("/checkpoint")) {
            Some(hash) => witness.checkpoint(hash),
            None => Answer::text(404, "there is nothing here\n"),
        },
        _ => Answer::text(404, "there is nothing here\n"),
    };
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() =
        hyper::StatusCode::from_u16(answer.status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    let content_type = hyper::header::HeaderValue::from_static(answer.content_type);
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, content_type);
    Ok(response)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_secs())
}
