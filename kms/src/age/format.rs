//! The header: a version line, stanzas, and a MAC under the file key.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{AgeError, FILE_KEY, derive};
use crate::custody::base64;

const VERSION: &[u8] = b"age-encryption.org/v1\n";
/// Longest header that is read: a few stanzas of the largest kind.
const MAX_HEADER: usize = 64 * 1024;
const COLUMNS: usize = 64;

/// One way to the file key.
pub(super) struct Stanza {
    pub(super) arguments: Vec<String>,
    pub(super) body: Vec<u8>,
}

pub(super) struct Header<'a> {
    pub(super) stanzas: Vec<Stanza>,
    /// Up to and with the three dashes.
    signed: &'a [u8],
    mac: [u8; 32],
}

/// Base64 without padding.
pub(super) fn encode64(bytes: &[u8]) -> String {
    base64::encode(bytes).trim_end_matches('=').to_owned()
}

/// Strictly: one text for one value.
pub(super) fn decode64(text: &str) -> Option<Vec<u8>> {
    if text.contains('=') {
        return None;
    }
    let padding = ["", "", "==", "="].get(text.len() % 4)?;
    base64::decode(&format!("{text}{padding}"))
}

fn mac(file_key: &[u8; FILE_KEY], signed: &[u8]) -> Result<Hmac<Sha256>, AgeError> {
    let key = derive(file_key, b"", b"header")?;
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_slice()).map_err(|_| AgeError::Form("no key for its MAC"))?;
    mac.update(signed);
    Ok(mac)
}

impl<'a> Header<'a> {
    pub(super) fn encode(stanza: &Stanza, file_key: &[u8; FILE_KEY]) -> Result<Vec<u8>, AgeError> {
        let mut text = format!("-> {}\n", stanza.arguments.join(" "));
        let body = encode64(&stanza.body);
        let mut rest = body.as_str();
        // The last line is shorter than the others, and empty if need be: that ends the body.
        while let Some((line, more)) = rest.split_at_checked(COLUMNS) {
            text.push_str(line);
            text.push('\n');
            rest = more;
        }
        text.push_str(rest);
        text.push_str("\n---");
        let mut header = [VERSION, text.as_bytes()].concat();
        let mac = mac(file_key, &header)?.finalize().into_bytes();
        header.extend_from_slice(format!(" {}\n", encode64(&mac)).as_bytes());
        Ok(header)
    }

    /// The header, and what is behind it.
    pub(super) fn parse(file: &'a [u8]) -> Result<(Self, &'a [u8]), AgeError> {
        let mut at = VERSION.len();
        if !file.starts_with(VERSION) {
            return Err(AgeError::Form("its first line is not that of age v1"));
        }
        let mut line = || {
            let rest = file.get(at..MAX_HEADER.min(file.len())).unwrap_or_default();
            let end = rest.iter().position(|b| *b == b'\n').ok_or(AgeError::Form("its header does not end"))?;
            let start = at;
            at += end + 1;
            let text = rest.get(..end).and_then(|l| std::str::from_utf8(l).ok()).filter(|t| t.is_ascii());
            Ok::<_, AgeError>((start, text.ok_or(AgeError::Form("its header is no ASCII text"))?))
        };
        let mut stanzas = Vec::new();
        loop {
            let (start, text) = line()?;
            if let Some(tag) = text.strip_prefix("--- ") {
                let mac =
                    decode64(tag).and_then(|m| m.try_into().ok()).ok_or(AgeError::Form("its MAC is malformed"))?;
                let signed = file.get(..start + 3).unwrap_or_default();
                if stanzas.is_empty() {
                    return Err(AgeError::Form("it is for nobody"));
                }
                return Ok((Self { stanzas, signed, mac }, file.get(at..).unwrap_or_default()));
            }
            let arguments = text.strip_prefix("-> ").ok_or(AgeError::Form("a stanza is malformed"))?;
            let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
            if arguments.iter().any(|a| a.is_empty() || a.bytes().any(|b| !b.is_ascii_graphic())) {
                return Err(AgeError::Form("a stanza's argument is malformed"));
            }
            let mut body = String::new();
            loop {
                let (_, text) = line()?;
                if text.len() > COLUMNS {
                    return Err(AgeError::Form("a stanza's line is too long"));
                }
                body.push_str(text);
                if text.len() < COLUMNS {
                    break;
                }
            }
            let body = decode64(&body).ok_or(AgeError::Form("a stanza's body is malformed"))?;
            stanzas.push(Stanza { arguments, body });
        }
    }

    pub(super) fn verify(&self, file_key: &[u8; FILE_KEY]) -> Result<(), AgeError> {
        let mac = mac(file_key, self.signed)?;
        mac.verify_slice(&self.mac).map_err(|_| AgeError::Changed("its header is not the one that was written"))
    }
}
