//! Client and server of the control protocol, over a real socket, with a data path that does what the test says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sealtape::control::client::Client;
use sealtape::control::server::{ControlSocket, MOST_CONNECTIONS};
use sealtape::control::{
    ControlError, Counters, DataPath, DriveState, DriveStatus, ErrorCode, LabelOrder, LabelReport, Observer, Progress,
    ProgressUnit, VerifyReport, Window,
};
use tokio::sync::oneshot;

/// Its verification runs until it is asked to stop; loading reports a thousand times; unloading panics.
#[derive(Default)]
struct Scripted {
    verifying: AtomicUsize,
    cancelled: AtomicUsize,
}

fn status(name: &str) -> DriveStatus {
    DriveStatus {
        name: name.into(),
        back_end: "image".into(),
        identity: None,
        nodes: None,
        state: DriveState::Ready,
        host_pid: None,
        cartridge: None,
        medium: None,
        volume: None,
        position: None,
        counters: Counters::default(),
        window: Window::default(),
        unsynchronised_objects: 0,
        lost_records: None,
        read_only: None,
        last_error: None,
    }
}

impl DataPath for Scripted {
    fn drives(&self) -> Vec<DriveStatus> {
        vec![status("a"), status("b")]
    }

    fn drive(&self, drive: &str) -> Result<DriveStatus, ControlError> {
        match drive {
            "a" | "b" => Ok(status(drive)),
            _ => Err(ControlError::unknown_drive(drive, ["a", "b"])),
        }
    }

    fn load(&self, drive: &str, cartridge: Option<&Path>, observer: &Observer) -> Result<DriveStatus, ControlError> {
        for done in 1..=1000 {
            let stage = "winding".into();
            observer.report(Progress { stage, done, total: Some(1000), unit: ProgressUnit::Steps });
        }
        thread::sleep(Duration::from_millis(150));
        let cartridge = cartridge.map(|path| path.display().to_string());
        Ok(DriveStatus { cartridge, ..status(drive) })
    }

    fn unload(&self, _: &str, _: &Observer) -> Result<DriveStatus, ControlError> {
        panic!("this operation has a bug, as the test wants")
    }

    fn label(&self, drive: &str, _: &LabelOrder, _: &Observer) -> Result<LabelReport, ControlError> {
        Err(ControlError::new(
            ErrorCode::Refused,
            format!("the ticket for drive {drive} has expired"),
            "ask for a new one",
        ))
    }

    fn verify(&self, _: &str, observer: &Observer) -> Result<VerifyReport, ControlError> {
        self.verifying.fetch_add(1, Ordering::SeqCst);
        while !observer.cancelled() {
            thread::sleep(Duration::from_millis(5));
        }
        self.verifying.fetch_sub(1, Ordering::SeqCst);
        self.cancelled.fetch_add(1, Ordering::SeqCst);
        Err(ControlError::new(ErrorCode::Cancelled, "verification was stopped", "start it again"))
    }

    fn acknowledge(&self, drive: &str) -> Result<DriveStatus, ControlError> {
        self.drive(drive)
    }
}

struct Served {
    folder: tempfile::TempDir,
    service: Arc<Scripted>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Served {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let service = Arc::new(Scripted::default());
        let (stop, stopped) = oneshot::channel();
        let (bound, ready) = std::sync::mpsc::channel();
        let (socket, serving) = (folder.path().join("data.sock"), service.clone());
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let socket = ControlSocket::bind(&socket, None).unwrap();
                bound.send(()).unwrap();
                let shutdown = async { stopped.await.unwrap() };
                socket.serve(serving, shutdown).await;
            });
        });
        ready.recv().unwrap();
        Self { folder, service, stop: Some(stop), thread: Some(thread) }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("data.sock")
    }

    fn client(&self) -> Client {
        Client::connect(&self.socket()).unwrap()
    }

    fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).unwrap();
            self.thread.take().unwrap().join().unwrap();
        }
    }
}

fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: not within 20 s");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn requests_are_answered_in_turn_on_one_connection() {
    let mut served = Served::start();
    let mut client = served.client();
    assert_eq!(client.drives().unwrap().len(), 2);
    assert_eq!(client.drive("b").unwrap(), status("b"));
    let error = client.drive("c").unwrap_err();
    assert_eq!(error.code, ErrorCode::Unknown);
    assert!(error.mend.contains("a, b"), "{error}");
    let order = LabelOrder { ticket: "t".into(), overwrite: sealtape::control::Overwrite::Nothing };
    let error = client.label("a", order, &mut |_| {}).unwrap_err();
    assert_eq!((error.code, error.mend.as_str()), (ErrorCode::Refused, "ask for a new one"));
    served.stop();
    assert!(!served.socket().exists());
    assert_eq!(Client::connect(&served.socket()).unwrap_err().code, ErrorCode::NotRunning);
}

#[test]
fn progress_arrives_the_last_report_counts() {
    let served = Served::start();
    let mut seen = Vec::new();
    let loaded = served.client().load("a", Some(Path::new("/t/x.img")), &mut |p| seen.push(p.done)).unwrap();
    assert_eq!(loaded.cartridge.as_deref(), Some("/t/x.img"));
    assert_eq!(seen.last(), Some(&1000));
    assert!(seen.len() < 10, "{} lines for reports that came all at once", seen.len());
}

#[test]
fn a_bug_in_an_operation_is_an_error_and_the_server_lives() {
    let served = Served::start();
    let mut client = served.client();
    assert_eq!(client.unload("a", &mut |_| {}).unwrap_err().code, ErrorCode::Failed);
    assert_eq!(client.drives().unwrap().len(), 2);
}

#[test]
fn a_client_that_goes_away_stops_what_can_stop() {
    let served = Served::start();
    let mut raw = UnixStream::connect(served.socket()).unwrap();
    raw.write_all(b"{\"version\":1,\"op\":\"verify\",\"drive\":\"a\"}\n").unwrap();
    eventually("verification runs", || served.service.verifying.load(Ordering::SeqCst) == 1);
    drop(raw);
    eventually("it was stopped", || served.service.cancelled.load(Ordering::SeqCst) == 1);
    assert_eq!(served.client().drives().unwrap().len(), 2);
}

#[test]
fn shutdown_stops_operations_and_waits_for_them() {
    let mut served = Served::start();
    let socket = served.socket();
    let asking = thread::spawn(move || Client::connect(&socket).unwrap().verify("a", &mut |_| {}));
    eventually("verification runs", || served.service.verifying.load(Ordering::SeqCst) == 1);
    served.stop();
    assert_eq!(served.service.verifying.load(Ordering::SeqCst), 0);
    assert_eq!(asking.join().unwrap().unwrap_err().code, ErrorCode::Cancelled);
}

#[test]
fn connections_are_bounded_and_come_back() {
    let served = Served::start();
    let mut held: Vec<Client> = (0..MOST_CONNECTIONS).map(|_| served.client()).collect();
    for client in &mut held {
        client.drives().unwrap();
    }
    let error = served.client().drives().unwrap_err();
    assert_eq!(error.code, ErrorCode::Busy, "{error}");
    held.clear();
    eventually("a connection is free", || served.client().drives().is_ok());
}

#[test]
fn what_is_no_request_is_refused_and_ends_the_connection() {
    let served = Served::start();
    for (line, code) in [
        (b"hello\n".to_vec(), "bad-request"),
        (b"{\"version\":7,\"op\":\"drives\"}\n".to_vec(), "version"),
        (b"{\"version\":1,\"op\":\"format-everything\"}\n".to_vec(), "bad-request"),
        (vec![b'x'; 70_000], "bad-request"),
    ] {
        let mut raw = UnixStream::connect(served.socket()).unwrap();
        raw.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // The server may close before it has read everything: that is its right.
        let _ = raw.write_all(&line);
        let mut reply = String::new();
        BufReader::new(&raw).read_line(&mut reply).unwrap();
        assert!(reply.contains(&format!("\"code\":\"{code}\"")), "{reply}");
        let mut rest = Vec::new();
        assert!(matches!(raw.read_to_end(&mut rest), Ok(0) | Err(_)), "the connection stays open");
    }
    assert_eq!(served.client().drives().unwrap().len(), 2);
}

#[test]
fn a_stale_socket_is_taken_over_a_live_one_is_not() {
    let served = Served::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let error = ControlSocket::bind(&served.socket(), None).unwrap_err();
        assert_eq!(error.code, ErrorCode::Busy, "{error}");
        assert!(error.message.contains("another data path"), "{error}");

        let stale = served.folder.path().join("stale.sock");
        drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
        assert_eq!(Client::connect(&stale).unwrap_err().code, ErrorCode::NotRunning);
        ControlSocket::bind(&stale, None).unwrap();

        let nowhere = served.folder.path().join("no/such/folder.sock");
        let error = ControlSocket::bind(&nowhere, None).unwrap_err();
        assert!(error.message.contains("no/such/folder"), "{error}");
    });
    assert_eq!(served.client().drives().unwrap().len(), 2);
}
