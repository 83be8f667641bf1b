//! Which cartridge: barcode and serial number, as its memory, the library or the catalogue has them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is known of a cartridge. Neither is a secret, and neither proves anything: the keys do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cartridge {
    /// Its barcode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barcode: Option<String>,
    /// The serial number that its maker gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
}

impl Cartridge {
    /// Where `self`, as expected, and the cartridge that was found contradict each other, in words. What either of them does not
    /// know is no contradiction.
    #[must_use]
    pub fn contradicts(&self, found: &Self) -> Option<String> {
        let differ = |name, wanted: &Option<String>, found: &Option<String>| match (wanted, found) {
            (Some(wanted), Some(found)) if wanted != found => Some(format!("{name} {found} and not {wanted}")),
            _ => None,
        };
        let parts = [
            differ("barcode", &self.barcode, &found.barcode),
            differ("cartridge serial number", &self.serial, &found.serial),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// Whether `found` tells what `self` does not know.
    #[must_use]
    pub fn lacks(&self, found: &Self) -> bool {
        self.barcode.is_none() && found.barcode.is_some() || self.serial.is_none() && found.serial.is_some()
    }
}

/// Which barcodes: `PREFIX*`, or one barcode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BarcodePattern(String);

impl BarcodePattern {
    /// Whether a barcode fits.
    #[must_use]
    pub fn fits(&self, barcode: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => barcode.starts_with(prefix),
            None => barcode == self.0,
        }
    }
}

impl TryFrom<String> for BarcodePattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let letters = text.strip_suffix('*').unwrap_or(&text);
        if (1..=32).contains(&letters.len()) && letters.bytes().all(|b| b.is_ascii_graphic() && b != b'*') {
            return Ok(Self(text));
        }
        Err(format!("{text:?} names no barcodes: write what they begin with and a star, as in \"BK*\""))
    }
}

impl From<BarcodePattern> for String {
    fn from(pattern: BarcodePattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for BarcodePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cartridge(barcode: Option<&str>, serial: Option<&str>) -> Cartridge {
        Cartridge { barcode: barcode.map(Into::into), serial: serial.map(Into::into) }
    }

    #[test]
    fn only_what_both_know_can_contradict() {
        let known = cartridge(Some("A"), Some("1"));
        for harmless in [cartridge(None, None), cartridge(Some("A"), None), cartridge(None, Some("1")), known.clone()] {
            assert_eq!(known.contradicts(&harmless), None);
            assert_eq!(harmless.contradicts(&known), None);
        }
        let text = known.contradicts(&cartridge(Some("B"), Some("2"))).unwrap();
        assert_eq!(text, "barcode B and not A, cartridge serial number 2 and not 1");
        assert!(known.contradicts(&cartridge(Some("A"), Some("2"))).is_some());
        assert!(cartridge(Some("A"), None).lacks(&known) && !known.lacks(&known));
        assert!(!known.lacks(&cartridge(Some("B"), None)));
    }

    #[test]
    fn a_pattern_is_a_beginning_or_a_whole_barcode() {
        let pattern = |text: &str| BarcodePattern::try_from(text.to_owned());
        assert!(pattern("BK*").unwrap().fits("BK0001L8") && !pattern("BK*").unwrap().fits("AK0001L8"));
        assert!(pattern("BK1").unwrap().fits("BK1") && !pattern("BK1").unwrap().fits("BK12"));
        for wrong in ["", "*", "A**", "*A", "A B*", "\u{e9}*"] {
            assert!(pattern(wrong).is_err(), "{wrong:?}");
        }
    }
}
