//! Names of tokens and keys: RFC 7512 URIs.

use std::fmt;
use std::path::{Path, PathBuf};
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
    /// `type`: what kind of object is meant.
    pub object_type: Option<String>,
    /// Query `module-name`: a module by its name alone, looked for where Debian puts modules.
    pub module_name: Option<String>,
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
                (true, "type") => {
                    let kind = string()?;
                    if !["public", "cert", "private", "secret-key", "data"].contains(&kind.as_str()) {
                        return Err(fault("type is none of public, cert, private, secret-key, data"));
                    }
                    uri.object_type = Some(kind);
                }
                (false, "module-name") => {
                    let name = string()?;
                    if name.is_empty() || name.contains('/') {
                        return Err(fault("module-name has no folder in it; module-path has"));
                    }
                    uri.module_name = Some(name);
                }
                (false, "module-path") => uri.module_path = Some(string()?.into()),
                (false, "pin-source") => {
                    let source = string()?;
                    let path = source.strip_prefix("file:").unwrap_or(&source);
                    let path =
                        path.strip_prefix("//").map_or(path, |rest| rest.strip_prefix("localhost").unwrap_or(rest));
                    if !path.starts_with('/') {
                        return Err(fault(
                            "pin-source is a file with its whole path (file:/PATH); programs and others are not asked",
                        ));
                    }
                    uri.pin_source = Some(path.into());
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

impl Uri {
    /// The module that the URI names, by path or by name.
    ///
    /// # Errors
    /// When no module of that name is installed.
    pub fn module(&self) -> Result<Option<PathBuf>, TokenError> {
        let (Some(name), None) = (&self.module_name, &self.module_path) else { return Ok(self.module_path.clone()) };
        let arch = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
        let folders = ["pkcs11", "softhsm", "nss", "opencryptoki", "."]
            .into_iter()
            .flat_map(|below| [arch.as_str(), "/usr/lib"].map(|lib| Path::new(lib).join(below)));
        let files = [format!("lib{name}.so"), format!("{name}.so")];
        let found = folders.flat_map(|folder| files.clone().map(|file| folder.join(file))).find(|path| path.is_file());
        found.map(Some).ok_or_else(|| TokenError::Uri {
            uri: self.to_string(),
            what: format!("no module called {name} is in {arch} or /usr/lib; name it with module-path"),
        })
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
            ("type", self.object_type.as_deref().map(str::as_bytes)),
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
        if let Some(name) = &self.module_name {
            f.write_str(separator)?;
            escape(f, "module-name", name.as_bytes())?;
            separator = "&";
        }
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
        assert_eq!(uri.object_type.as_deref(), Some("secret-key"));
        let uri: Uri = "pkcs11:token=a?module-name=softhsm2&pin-source=file:///etc/pin&x-other=1".parse().unwrap();
        let module = uri.module().unwrap().unwrap();
        assert!(module.is_file() && module.ends_with("softhsm/libsofthsm2.so"), "{module:?}");
        assert_eq!(uri.pin_source, Some("/etc/pin".into()));
        assert!(
            "pkcs11:?module-name=none-such"
                .parse::<Uri>()
                .unwrap()
                .module()
                .unwrap_err()
                .to_string()
                .contains("module-path")
        );
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
            "pkcs11:token=a?pin-source=%7C/usr/bin/ask",
            "pkcs11:token=a?pin-source=secret",
            "pkcs11:type=key",
            "pkcs11:token=a?module-name=a/b",
        ] {
            let error = text.parse::<Uri>().unwrap_err().to_string();
            assert!(!error.contains("4711"), "{error}");
        }
    }
}
