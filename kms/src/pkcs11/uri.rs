//! Names of tokens and keys: RFC 7512 URIs.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::error::TokenError;

/// A PKCS#11 URI, as far as tokens and keys are named with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Uri {
    /// `token`: the token's label.
    pub token: Option<String>,
    /// `serial`: its serial number.
    pub serial: Option<String>,
    /// `manufacturer`.
    pub manufacturer: Option<String>,
    /// `model`.
    pub model: Option<String>,
    /// `slot-id`.
    pub slot_id: Option<u64>,
    /// `object`: a key's label.
    pub object: Option<String>,
    /// `id`: a key's `CKA_ID`.
    pub id: Option<Vec<u8>>,
    /// Query `module-path`.
    pub module_path: Option<PathBuf>,
    /// Query `pin-source`: a path or `file:` URI.
    pub pin_source: Option<PathBuf>,
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let digit = |c: Option<u8>| char::from(c?).to_digit(16);
            let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(b);
        }
    }
    Some(out)
}

fn escape(f: &mut fmt::Formatter<'_>, name: &str, bytes: &[u8]) -> fmt::Result {
    write!(f, "{name}=")?;
    for &b in bytes {
        // RFC 7512 pk11-pchar without the characters that separate.
        if b.is_ascii_alphanumeric() || b"-._~:[]@!$'()*+,".contains(&b) {
            write!(f, "{}", char::from(b))?;
        } else {
            write!(f, "%{b:02X}")?;
        }
    }
    Ok(())
}

impl FromStr for Uri {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let fault = |what: &str| TokenError::Uri { uri: without_pin(text), what: what.to_owned() };
        let rest = text.strip_prefix("pkcs11:").ok_or_else(|| fault("it does not begin with pkcs11:"))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut uri = Self::default();
        let mut seen = Vec::new();
        let path = path.split(';').filter(|p| !p.is_empty());
        let query = query.split('&').filter(|p| !p.is_empty());
        for (part, in_path) in path.map(|p| (p, true)).chain(query.map(|p| (p, false))) {
            let (name, value) = part.split_once('=').ok_or_else(|| fault("an attribute has no value"))?;
            if seen.contains(&name) {
                return Err(fault(&format!("{name} stands twice")));
            }
            seen.push(name);
            let bytes = unescape(value).ok_or_else(|| fault("a percent sign is not followed by two hex digits"))?;
            let string = || String::from_utf8(bytes.clone()).map_err(|_| fault(&format!("{name} is not UTF-8")));
            match (in_path, name) {
                (true, "token") => uri.token = Some(string()?),
                (true, "serial") => uri.serial = Some(string()?),
                (true, "manufacturer") => uri.manufacturer = Some(string()?),
                (true, "model") => uri.model = Some(string()?),
                (true, "slot-id") => {
                    uri.slot_id = Some(string()?.parse().map_err(|_| fault("slot-id is not a number"))?);
                }
                (true, "object") => uri.object = Some(string()?),
                (true, "id") => uri.id = Some(bytes),
                (true, "type") => {}
                (false, "module-path") => uri.module_path = Some(string()?.into()),
                (false, "pin-source") => {
                    let source = string()?;
                    uri.pin_source = Some(source.strip_prefix("file:").unwrap_or(&source).into());
                }
                (false, "pin-value") => {
                    return Err(fault("pin-value would put the PIN where others see it; use pin-source"));
                }
                // An attribute we do not know narrows the choice in a way we cannot follow: refuse rather than pick another token.
                (true, other) => return Err(fault(&format!("attribute {other} is not known here"))),
                (false, _) => {}
            }
        }
        Ok(uri)
    }
}

/// The URI as it may be repeated in a message.
fn without_pin(text: &str) -> String {
    match text.split_once("pin-value=") {
        Some((before, _)) => format!("{before}pin-value=..."),
        None => text.to_owned(),
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pkcs11:")?;
        let slot = self.slot_id.map(|s| s.to_string());
        let fields = [
            ("token", self.token.as_deref().map(str::as_bytes)),
            ("serial", self.serial.as_deref().map(str::as_bytes)),
            ("manufacturer", self.manufacturer.as_deref().map(str::as_bytes)),
            ("model", self.model.as_deref().map(str::as_bytes)),
            ("slot-id", slot.as_deref().map(str::as_bytes)),
            ("object", self.object.as_deref().map(str::as_bytes)),
            ("id", self.id.as_deref()),
        ];
        let mut separator = "";
        for (name, value) in fields {
            if let Some(value) = value {
                f.write_str(separator)?;
                escape(f, name, value)?;
                separator = ";";
            }
        }
        let mut separator = "?";
        for (name, value) in [("module-path", &self.module_path), ("pin-source", &self.pin_source)] {
            if let Some(value) = value {
                f.write_str(separator)?;
                escape(f, name, value.to_string_lossy().as_bytes())?;
                separator = "&";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_round_trip() {
        for text in [
            "pkcs11:token=sealtape;serial=0123abcd",
            "pkcs11:token=The%20Software%20PKCS%2311;manufacturer=Snake%20Oil,%20Inc.;model=1.0",
            "pkcs11:slot-id=327;object=my-kek;id=%00%FFa?module-path=%2Fusr%2Flib%2Fp11.so&pin-source=%2Fetc%2Fpin",
        ] {
            let uri: Uri = text.parse().unwrap();
            assert_eq!(uri.to_string(), text);
            assert_eq!(uri.to_string().parse::<Uri>().unwrap(), uri);
        }
        let uri: Uri = "pkcs11:object=k;type=secret-key?pin-source=file:/etc/token_pin".parse().unwrap();
        assert_eq!(uri.pin_source, Some("/etc/token_pin".into()));
    }

    #[test]
    fn bad_uris_are_refused_and_no_pin_is_repeated() {
        for text in [
            "token=a",
            "pkcs11:token",
            "pkcs11:token=a;token=b",
            "pkcs11:token=%4",
            "pkcs11:token=%zz",
            "pkcs11:token=%ff",
            "pkcs11:slot-id=x",
            "pkcs11:library-version=3",
            "pkcs11:token=a?pin-value=4711",
        ] {
            let error = text.parse::<Uri>().unwrap_err().to_string();
            assert!(!error.contains("4711"), "{error}");
        }
    }
}
