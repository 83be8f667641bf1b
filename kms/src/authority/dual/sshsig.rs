//! Custodians' keys and signatures, as OpenSSH has them (PROTOCOL.sshsig, PROTOCOL.u2f).

use ssh_key::public::KeyData;
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, PublicKey, SshSig};

use crate::fault::bad_request;
use crate::protocol::{APPROVAL_NAMESPACE, Refusal};

/// Longest armoured signature that is looked at.
pub(super) const LONGEST_SIGNATURE: usize = 4096;
/// Longest public key in text.
const LONGEST_KEY: usize = 1024;
const ARMOUR: (&str, &str) = ("-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----");
/// Authenticator data of a FIDO token: somebody touched it.
const USER_PRESENT: u8 = 0x01;

/// A public key that approvals may be made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CustodianKey {
    key: PublicKey,
}

impl CustodianKey {
    /// Reads a line of an OpenSSH public key file.
    pub(super) fn parse(line: &str) -> Result<Self, Refusal> {
        let kinds = "use ssh-ed25519, ecdsa-sha2-nistp256, or the same in a FIDO token (sk-…)";
        let refused = |why: String| bad_request(format!("this key cannot approve: {why}"), kinds);
        let line = line.trim();
        let kind = line.split_whitespace().next().unwrap_or_default();
        if line.len() > LONGEST_KEY && !kind.contains("rsa") && !kind.contains("cert") {
            return Err(refused(format!("it is longer than {LONGEST_KEY} characters")));
        }
        if kind.contains("-cert-") {
            return Err(refused("it is a certificate; a custodian is registered with the key itself".into()));
        }
        if kind == "ssh-rsa" || kind == "ssh-dss" {
            return Err(refused(format!("its kind is {kind}")));
        }
        let key = PublicKey::from_openssh(line)
            .map_err(|e| refused(format!("it is no public key in OpenSSH's form ({e})")))?;
        let weak = |e: &ssh_key::public::Ed25519PublicKey| match ed25519_dalek::VerifyingKey::from_bytes(&e.0) {
            Ok(key) if key.is_weak() => Some("it is a weak point of the curve, for which anybody can sign"),
            Ok(_) => None,
            Err(_) => Some("it is no point of the curve"),
        };
        let fault = match key.key_data() {
            KeyData::Ed25519(e) => weak(e),
            KeyData::SkEd25519(sk) => weak(sk.public_key()),
            KeyData::Ecdsa(_) | KeyData::SkEcdsaSha2NistP256(_) => match key.algorithm() {
                Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 } | Algorithm::SkEcdsaSha2NistP256 => {
                    let point = match key.key_data() {
                        KeyData::Ecdsa(ssh_key::public::EcdsaPublicKey::NistP256(point)) => Some(*point),
                        KeyData::SkEcdsaSha2NistP256(sk) => Some(*sk.ec_point()),
                        _ => None,
                    };
                    let on_curve =
                        point.is_some_and(|p| p256::ecdsa::VerifyingKey::from_sec1_bytes(p.as_ref()).is_ok());
                    (!on_curve).then_some("it is no point of the curve")
                }
                _ => Some("of ECDSA only nistp256 is taken"),
            },
            _ => Some("its kind is not taken"),
        };
        match fault {
            Some(why) => Err(refused(why.into())),
            None => Ok(Self { key: PublicKey::from(key.key_data().clone()) }),
        }
    }

    /// In OpenSSH's form, without a comment.
    pub(super) fn text(&self) -> Result<String, Refusal> {
        self.key.to_openssh().map_err(|e| crate::fault::internal(format!("a key cannot be written: {e}")))
    }

    pub(super) fn fingerprint(&self) -> String {
        self.key.fingerprint(HashAlg::Sha256).to_string()
    }
}

/// A signature that was read, not verified.
#[derive(Debug)]
pub(super) struct Signature {
    parsed: SshSig,
    base64: String,
}

impl Signature {
    /// Reads the armoured form.
    pub(super) fn parse(armoured: &str) -> Result<Self, Refusal> {
        let wrong = |why: &str| {
            bad_request(
                format!("this is no SSH signature: {why}"),
                format!("make it with: ssh-keygen -Y sign -n {APPROVAL_NAMESPACE} -f KEY FILE, and hand in FILE.sig"),
            )
        };
        if armoured.len() > LONGEST_SIGNATURE {
            return Err(wrong("it is too long"));
        }
        let body = armoured.trim().strip_prefix(ARMOUR.0).and_then(|rest| rest.strip_suffix(ARMOUR.1));
        let body = body.ok_or_else(|| wrong("it lacks its first or last line"))?;
        let base64: String = body.split_ascii_whitespace().collect();
        Self::from_base64(&base64).map_err(|e| wrong(&e))
    }

    /// Reads the form that is kept: the same without armour.
    pub(super) fn from_base64(base64: &str) -> Result<Self, String> {
        if base64.len() > LONGEST_SIGNATURE {
            return Err("it is too long".into());
        }
        let lines: Vec<&str> = base64.as_bytes().chunks(70).map(|c| std::str::from_utf8(c).unwrap_or("?")).collect();
        let armoured = format!("{}\n{}\n{}\n", ARMOUR.0, lines.join("\n"), ARMOUR.1);
        let parsed = SshSig::from_pem(armoured).map_err(|e| e.to_string())?;
        Ok(Self { parsed, base64: base64.to_owned() })
    }

    pub(super) fn base64(&self) -> &str {
        &self.base64
    }

    /// Fingerprint of the key that is said to have signed.
    pub(super) fn fingerprint(&self) -> String {
        self.parsed.public_key().fingerprint(HashAlg::Sha256).to_string()
    }

    /// Verifies it as an approval of `text` by `key`; else why not.
    pub(super) fn verify(&self, key: &CustodianKey, text: &str) -> Result<(), String> {
        if self.parsed.version() != SshSig::VERSION {
            return Err(format!("its version is {}", self.parsed.version()));
        }
        if self.parsed.namespace() != APPROVAL_NAMESPACE {
            let namespace = crate::protocol::quoted(self.parsed.namespace());
            return Err(format!("it was made for {namespace}, not for {APPROVAL_NAMESPACE}"));
        }
        if !self.parsed.reserved().is_empty() {
            return Err("it has something in its reserved field".into());
        }
        let signature = self.parsed.signature();
        if matches!(key.key.key_data(), KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_)) {
            // The last five bytes are the token's flags and counter, and are signed too.
            let bytes = signature.as_bytes();
            let flags = bytes.len().checked_sub(5).and_then(|at| bytes.get(at)).copied().unwrap_or(0);
            if flags & USER_PRESENT == 0 {
                return Err("nobody touched the token".into());
            }
        }
        key.key
            .verify(APPROVAL_NAMESPACE, text.as_bytes(), &self.parsed)
            .map_err(|_| "it is not a signature of this key over this request".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};
    use sha2::{Digest, Sha256};
    use ssh_key::public::{Ed25519PublicKey, SkEcdsaSha2NistP256, SkEd25519};

    use super::*;

    const TEXT: &str = "{\"a\":1}";

    /// What a FIDO token signs, and what it appends.
    fn token_data(flags: u8, text: &str) -> (Vec<u8>, Vec<u8>) {
        let message = SshSig::signed_data(APPROVAL_NAMESPACE, HashAlg::Sha512, text.as_bytes()).unwrap();
        let tail = vec![flags, 0, 0, 0, 7];
        let signed = [&Sha256::digest(b"ssh:")[..], &tail, &Sha256::digest(&message)[..]].concat();
        (signed, tail)
    }

    fn base64(key: KeyData, algorithm: Algorithm, bytes: Vec<u8>) -> String {
        let signature = ssh_key::Signature::new(algorithm, bytes).unwrap();
        let sig = SshSig::new(key, APPROVAL_NAMESPACE, HashAlg::Sha512, signature).unwrap();
        let pem = sig.to_pem(ssh_key::LineEnding::LF).unwrap();
        Signature::parse(&pem).unwrap().base64().to_owned()
    }

    #[test]
    fn fido_tokens_count_only_when_touched() {
        let ed = SigningKey::from_bytes(&[3; 32]);
        let public = SkEd25519::new(Ed25519PublicKey(ed.verifying_key().to_bytes()), "ssh:");
        let ecdsa = p256::ecdsa::SigningKey::from_slice(&[4; 32]).unwrap();
        let point = ecdsa.verifying_key().to_sec1_point(false);
        let point = ssh_key::public::EcdsaPublicKey::from_sec1_bytes(point.as_bytes()).unwrap();
        let ssh_key::public::EcdsaPublicKey::NistP256(point) = point else { panic!("not P-256") };
        let sk_ecdsa = SkEcdsaSha2NistP256::new(point, "ssh:");
        for (flags, good) in [(1, true), (5, true), (0, false), (4, false)] {
            let (signed, tail) = token_data(flags, TEXT);
            let by_ed = [&ed.sign(&signed).to_bytes()[..], &tail].concat();
            let by_ecdsa: p256::ecdsa::Signature = ecdsa.sign(&signed);
            let by_ecdsa = ssh_key::Signature::try_from(by_ecdsa).unwrap();
            let by_ecdsa = [by_ecdsa.as_bytes(), &tail[..]].concat();
            for (key, algorithm, bytes) in [
                (KeyData::from(public.clone()), Algorithm::SkEd25519, by_ed),
                (KeyData::from(sk_ecdsa.clone()), Algorithm::SkEcdsaSha2NistP256, by_ecdsa),
            ] {
                let line = PublicKey::from(key.clone()).to_openssh().unwrap();
                let registered = CustodianKey::parse(&line).unwrap();
                let signature = Signature::from_base64(&base64(key, algorithm, bytes)).unwrap();
                assert_eq!(signature.verify(&registered, TEXT).is_ok(), good, "flags {flags}");
                assert!(signature.verify(&registered, "{\"a\":2}").is_err());
            }
        }
    }

    #[test]
    fn weak_and_foreign_keys_are_refused_by_name() {
        // The neutral element and a point of order 8: anybody can make signatures that verify.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let order_8: crate::hex::Hex<32> =
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a".parse().unwrap();
        for weak in [neutral, order_8.0] {
            let line = PublicKey::from(KeyData::from(Ed25519PublicKey(weak))).to_openssh().unwrap();
            let refusal = CustodianKey::parse(&line).unwrap_err();
            assert!(refusal.what.contains("weak point"), "{refusal}");
        }
        for (line, why) in [
            ("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ", "its kind is ssh-rsa"),
            ("ssh-dss AAAAB3NzaC1kc3MAAACB", "its kind is ssh-dss"),
            ("ssh-ed25519-cert-v01@openssh.com AAAA", "certificate"),
            ("ecdsa-sha2-nistp384 AAAA", "no public key"),
            ("ssh-ed25519 AAAA", "no public key"),
            ("", "no public key"),
        ] {
            let refusal = CustodianKey::parse(line).unwrap_err();
            assert!(refusal.what.contains(why), "{line}: {refusal}");
        }
    }
}
