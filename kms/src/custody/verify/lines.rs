//! The lines of an export, whichever form it has.

use std::io::{BufRead, Read};

use super::super::csv::{csv_head, json_of};
use super::VerifyError;

/// Longest line: in CSV a leaf of the greatest length stands in it twice, with every quote doubled, and a proof.
const MAX_LINE: u64 = 65_536;

/// The lines of the JSON form.
#[derive(Debug)]
pub(super) struct Lines<'a, R> {
    from: &'a mut R,
    number: u64,
    csv: bool,
    header_read: bool,
}

impl<'a, R: BufRead> Lines<'a, R> {
    pub(super) fn new(from: &'a mut R) -> Self {
        Self { from, number: 0, csv: false, header_read: false }
    }

    /// Number of the line that was read last, in the file, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// One line that ends with a newline.
    fn raw(&mut self) -> Result<Option<String>, VerifyError> {
        let mut bytes = Vec::new();
        self.from.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        if bytes.pop() != Some(b'\n') {
            return Err(VerifyError::at(self.number, "it does not end, or is too long"));
        }
        let text = String::from_utf8(bytes).map_err(|_| VerifyError::at(self.number, "it is not UTF-8"))?;
        Ok(Some(text))
    }

    pub(super) fn next(&mut self) -> Result<Option<String>, VerifyError> {
        let Some(mut text) = self.raw()? else { return Ok(None) };
        if self.number == 1 && text.starts_with('"') {
            if csv_head().strip_suffix('\n') != Some(&text) {
                return Err(VerifyError::at(1, "its columns are not those of an export"));
            }
            self.csv = true;
            let Some(next) = self.raw()? else { return Ok(None) };
            text = next;
        }
        let first = !std::mem::replace(&mut self.header_read, true);
        if self.csv {
            return json_of(&text, first).map(Some).map_err(|what| VerifyError::at(self.number, what));
        }
        Ok(Some(text))
    }
}
