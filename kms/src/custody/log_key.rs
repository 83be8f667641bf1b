//! Changes of the log's signing key: each is a leaf with a statement that the old and the new key have signed.

use serde_json::json;

use super::base64;
use super::leaf::{KeyChange, Leaf, Outcome, canonical};
use super::note::VerifierKey;
use super::op;

/// The value of `format` in the statement.
const FORMAT: &str = "sealtape log key 1";

impl KeyChange {
    /// What both keys sign: canonical JSON with the format, the origin and both verifier keys.
    #[must_use]
    pub fn statement(origin: &str, old: &str, new: &str) -> String {
        let value = json!({ "format": FORMAT, "new": new, "old": old, "origin": origin });
        // Strings only, so there always is a canonical form.
        canonical(&value).unwrap_or_default()
    }

    /// The change from `old` to `new`, with the signatures of both as the token gave them.
    pub(crate) fn new(old: &VerifierKey, old_signature: &[u8], new: &VerifierKey, new_signature: &[u8]) -> Self {
        Self {
            new: new.to_string(),
            new_signature: base64::encode(&new.encoded_signature(new_signature)),
            old: old.to_string(),
            old_signature: base64::encode(&old.encoded_signature(old_signature)),
        }
    }

    /// The new key, if this change begins at `old` and both signatures are right.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn follow(&self, old: &VerifierKey) -> Result<VerifierKey, String> {
        if self.old != old.to_string() {
            return Err("the key that it replaces is not the one that signed until here".into());
        }
        let new: VerifierKey = self.new.parse().map_err(|e| format!("the new key: {e}"))?;
        if new.to_string() != self.new || new.name() != old.name() {
            return Err("the new key is malformed, or is that of another log".into());
        }
        let statement = Self::statement(old.name(), &self.old, &self.new);
        for (key, signature, whose) in [(old, &self.old_signature, "old"), (&new, &self.new_signature, "new")] {
            if !base64::decode(signature).is_some_and(|s| key.verifies(&statement, &s)) {
                return Err(format!("the signature of the {whose} key does not verify"));
            }
        }
        Ok(new)
    }
}

impl Leaf {
    /// The change of the signing key that this leaf makes.
    #[must_use]
    pub fn key_change(&self) -> Option<&KeyChange> {
        self.log_key.as_ref().filter(|_| self.op == op::LOG_KEY && self.outcome == Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};

    use super::*;

    #[test]
    fn both_keys_have_to_sign() {
        let signing = [1u8, 2, 3].map(|n| SigningKey::from_bytes(&[n; 32]));
        let keys = [0, 1, 2].map(|n: usize| VerifierKey::new("log", signing[n].verifying_key().as_bytes()).unwrap());
        let text = KeyChange::statement("log", &keys[0].to_string(), &keys[1].to_string());
        assert!(text.starts_with("{\"format\":\"sealtape log key 1\",\"new\":\"log+"));
        let signed = |by: usize| signing[by].sign(text.as_bytes()).to_bytes();
        let change = KeyChange::new(&keys[0], &signed(0), &keys[1], &signed(1));
        assert_eq!(change.follow(&keys[0]).unwrap(), keys[1]);
        assert!(change.follow(&keys[1]).is_err() && change.follow(&keys[2]).is_err());
        for (old, new) in [(1, 1), (0, 0), (0, 2), (2, 1)] {
            assert!(KeyChange::new(&keys[0], &signed(old), &keys[1], &signed(new)).follow(&keys[0]).is_err());
        }
        let other = VerifierKey::new("other", signing[1].verifying_key().as_bytes()).unwrap();
        assert!(KeyChange::new(&keys[0], &signed(0), &other, &signed(1)).follow(&keys[0]).is_err());
    }
}
