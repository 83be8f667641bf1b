//! Where the PIN comes from: the configuration's source as the key authority takes it, and the prompt.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use sealtape_kms::pkcs11::PinSource as Source;
use sealtape_kms::secret::{PIN_MAX, Pin};
use zeroize::Zeroizing;

use super::config::PinSource;
use super::home::Home;

/// The source that a configuration names.
pub fn source(home: &Home, configured: &PinSource) -> Source {
    match configured {
        PinSource::File(path) => Source::File(home.resolve(path)),
        PinSource::Credential(name) => {
            let name = name.clone();
            Source::Prompt(Arc::new(move |_: &str| credential(&name)))
        }
        PinSource::Prompt => prompt(),
    }
}

/// Asks on the terminal, once: the PKCS#11 worker may have to be started again, at the end of the service too, and nobody
/// may be there then. The answer is kept in a page like those of the keys.
pub fn prompt() -> Source {
    let answer: Mutex<Option<Pin>> = Mutex::new(None);
    Source::Prompt(Arc::new(move |token: &str| {
        let mut answer = answer.lock().unwrap_or_else(PoisonError::into_inner);
        let pin = match answer.take() {
            Some(pin) => pin,
            None => ask(token)?,
        };
        let copy = Pin::copy_from(pin.expose())?;
        *answer = Some(pin);
        Ok(copy)
    }))
}

/// A systemd credential. Its folder is guarded by the service manager, which shows its access list as permissions of the
/// group: they mean nothing here.
fn credential(name: &str) -> io::Result<Pin> {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
        let what = format!("there are no systemd credentials; add LoadCredential={name}:FILE to the unit");
        io::Error::new(ErrorKind::NotFound, what)
    })?;
    let path = Path::new(&folder).join(name);
    let named = |e: io::Error| io::Error::new(e.kind(), format!("the credential {}: {e}", path.display()));
    Pin::read_from(&mut File::open(&path).map_err(named)?).map_err(named)
}

fn ask(token: &str) -> io::Result<Pin> {
    ask_for(&format!("PIN for {token}"))
}

/// Asks for a secret line on the terminal, which does not show it.
///
/// # Errors
/// When there is no terminal, or nothing or too much was typed.
pub fn ask_for(what: &str) -> io::Result<Pin> {
    let terminal = OpenOptions::new().read(true).write(true).custom_flags(nix::libc::O_NOCTTY).open("/dev/tty");
    let mut terminal =
        terminal.map_err(|e| io::Error::new(e.kind(), format!("there is no terminal to ask on for {what}: {e}")))?;
    write!(terminal, "{what}: ")?;
    terminal.flush()?;
    let quiet = Quiet::new(&terminal)?;
    let pin = read_line(&mut &terminal);
    drop(quiet);
    writeln!(terminal)?;
    pin
}

/// A terminal that neither shows what is typed, nor gathers lines, nor makes signals of keys, until this is dropped.
struct Quiet<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn new(terminal: &'a File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        quiet.local_flags &= !(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG);
        tcsetattr(terminal, SetArg::TCSAFLUSH, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        if let Err(e) = tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.before) {
            tracing::warn!(error = %e, "the terminal could not be set back; `stty sane` does it");
        }
    }
}

/// A line, byte by byte, as a terminal without line editing gives it.
fn read_line(from: &mut impl Read) -> io::Result<Pin> {
    const INTERRUPT: u8 = 0x03;
    const BACKSPACE: [u8; 2] = [0x08, 0x7f];
    let mut line = Zeroizing::new([0; PIN_MAX]);
    let mut length = 0;
    loop {
        let mut byte = Zeroizing::new([0]);
        match from.read(&mut *byte) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        }
        match byte[0] {
            b'\n' | b'\r' => return Pin::copy_from(&line[..length]),
            INTERRUPT => return Err(io::Error::other("interrupted")),
            byte if BACKSPACE.contains(&byte) => length = length.saturating_sub(1),
            byte => {
                let place = line.get_mut(length).ok_or_else(|| {
                    io::Error::new(ErrorKind::InvalidInput, format!("a PIN has at most {PIN_MAX} bytes"))
                })?;
                *place = byte;
                length += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_edited_and_ends_with_return() {
        let pin = |typed: &[u8]| read_line(&mut &*typed);
        assert_eq!(pin(b"1234\nmore").unwrap().expose(), b"1234");
        assert_eq!(pin(b"\x7f12x\x7f34\r").unwrap().expose(), b"1234");
        assert!(pin(b"12\x03").is_err());
        assert!(pin(b"\n").is_err());
        assert!(pin(b"12").is_err());
        assert!(pin(&[b'1'; PIN_MAX + 1]).is_err());
    }
}
