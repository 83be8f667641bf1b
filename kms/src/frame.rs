//! Frames on the local sockets, and streams with a deadline.
//!
//! A frame is: length of the body (u32, big-endian), a flag byte (0: no secret, 1: a data key follows), the body (JSON), and with
//! flag 1 the 32 bytes of a data key, which travel between their own page and the socket and are never part of the JSON.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::secret::DataKey;

/// Largest body of a request.
pub(crate) const MAX_REQUEST: usize = 64 * 1024;
/// Largest body of a request on the control socket: a package of keys.
pub(crate) const MAX_CONTROL_REQUEST: usize = 8 * 1024 * 1024;
/// Largest body of a reply (a list of volumes or sessions).
pub(crate) const MAX_REPLY: usize = 16 * 1024 * 1024;

/// A stream on which the sum of all waiting ends at one moment.
pub(crate) struct Deadline<'a> {
    stream: &'a UnixStream,
    until: Instant,
}

impl<'a> Deadline<'a> {
    pub(crate) fn new(stream: &'a UnixStream, limit: Duration) -> Self {
        Self { stream, until: Instant::now() + limit }
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left.max(Duration::from_millis(1))) }
    }
}

/// A timed-out socket says `WouldBlock`; callers want to hear `TimedOut`.
fn timed_out(e: io::Error) -> io::Error {
    if e.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { e }
}

impl Read for Deadline<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buf).map_err(timed_out)
    }
}

impl Write for Deadline<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(buf).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

/// Writes one frame.
pub(crate) fn write_frame(
    to: &mut impl Write,
    body: &impl Serialize,
    secret: Option<&DataKey>,
    limit: usize,
) -> io::Result<()> {
    let mut frame = vec![0u8; 5];
    serde_json::to_writer(&mut frame, body).map_err(|e| invalid(e.to_string()))?;
    let length = frame.len() - 5;
    if length > limit {
        return Err(invalid(format!("a message of {length} bytes exceeds the limit of {limit}")));
    }
    let length = u32::try_from(length).map_err(|e| invalid(e.to_string()))?;
    if let Some(head) = frame.first_chunk_mut::<4>() {
        *head = length.to_be_bytes();
    }
    if let Some(flag) = frame.get_mut(4) {
        *flag = u8::from(secret.is_some());
    }
    to.write_all(&frame)?;
    if let Some(key) = secret {
        key.write_to(to)?;
    }
    Ok(())
}

/// Reads one frame; `None` when the peer closed between frames.
pub(crate) fn read_frame<T: DeserializeOwned>(
    from: &mut impl Read,
    limit: usize,
) -> io::Result<Option<(T, Option<DataKey>)>> {
    let mut head = [0u8; 5];
    let mut have = 0;
    while have < head.len() {
        match from.read(head.get_mut(have..).unwrap_or_default()) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let [a, b, c, d, flag] = head;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > limit {
        return Err(invalid(format!("a message of {length} bytes exceeds the limit of {limit}")));
    }
    let mut body = vec![0u8; length];
    from.read_exact(&mut body)?;
    let secret = match flag {
        0 => None,
        1 => Some(DataKey::read_from(from)?),
        other => return Err(invalid(format!("unknown frame flag {other:#04x}"))),
    };
    let body = serde_json::from_slice(&body).map_err(|e| invalid(format!("message not understood: {e}")))?;
    Ok(Some((body, secret)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_round_trip_and_limits_hold() {
        let key = DataKey::copy_from(&[9; 32]).unwrap();
        let mut wire = Vec::new();
        write_frame(&mut wire, &"hello", Some(&key), 64).unwrap();
        let (body, secret): (String, _) = read_frame(&mut wire.as_slice(), 64).unwrap().unwrap();
        assert_eq!(body, "hello");
        assert!(secret.unwrap().ct_eq(&key));
        assert!(read_frame::<String>(&mut wire.as_slice(), 3).is_err());
        assert!(write_frame(&mut Vec::new(), &"hello", None, 3).is_err());
        assert!(read_frame::<String>(&mut &wire[..wire.len() - 1], 64).is_err());
        assert!(read_frame::<String>(&mut &wire[..0], 64).unwrap().is_none());
        wire[4] = 7;
        assert!(read_frame::<String>(&mut wire.as_slice(), 64).is_err());
    }

    #[test]
    fn a_silent_peer_ends_at_the_deadline() {
        let (a, _b) = UnixStream::pair().unwrap();
        let start = Instant::now();
        let e = read_frame::<String>(&mut Deadline::new(&a, Duration::from_millis(50)), 64).err().unwrap();
        assert_eq!(e.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}
