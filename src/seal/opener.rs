//! Opening: a block becomes plaintext only when every check has passed, its tag last.

use zeroize::Zeroize;

use super::chain::{Chain, RecordMark};
use super::compress::{self, Compression};
use super::envelope::{HEADER_LEN, Header, OVERHEAD, RecordKind, parse_record};
use super::keys::{GenerationScope, SessionId};
use super::refusal::Refusal;
use super::suite::{RecordOpener, TAG_LEN};

/// A verified record: where its plaintext is, and its mark.
#[derive(Debug)]
pub struct OpenedRecord {
    /// Bytes of plaintext that stand at the beginning of the output buffer.
    pub plain_len: usize,
    /// Whether it is the closing record of a stream.
    pub is_final: bool,
    /// For the chain.
    pub mark: RecordMark,
}

/// Checks that need no key: the envelope, that it belongs to this generation, and that it may stand at this place.
///
/// # Errors
/// The first check of the specification that fails.
pub fn check_record(block: &[u8], scope: &GenerationScope, stream: bool, chain: &Chain) -> Result<Header, Refusal> {
    let header = parse_record(block, stream, scope.suite)?;
    if header.partition != scope.partition {
        return Err(Refusal::WrongPartition);
    }
    if header.generation != scope.generation {
        return Err(Refusal::WrongGeneration);
    }
    chain.check(&header)?;
    Ok(header)
}

/// Verifies the tag of a block whose header was checked, and puts its plaintext into `output` (cleared first, wiped
/// when the record is refused). The block is decrypted in place, and wiped where it held compressed plaintext.
///
/// # Errors
/// [`Refusal::BadTag`], or [`Refusal::BadCompression`] for what was sealed in a wrong form.
pub fn open_record(
    header: &Header,
    block: &mut [u8],
    cipher: &dyn RecordOpener,
    scope: &GenerationScope,
    output: &mut Vec<u8>,
) -> Result<OpenedRecord, Refusal> {
    output.clear();
    let stored = header.stored_len as usize;
    if block.len() != stored + OVERHEAD {
        return Err(Refusal::BadLengths);
    }
    let aad = header.aad(scope.volume);
    let (text, trailer) = block[HEADER_LEN..].split_at_mut(stored);
    let mut tag = [0; TAG_LEN];
    tag.copy_from_slice(&trailer[..TAG_LEN]);
    cipher.open_in_place(header.seal_counter, &aad, text, &tag).map_err(|_| Refusal::BadTag)?;
    let plain_len = header.plain_len as usize;
    if header.compression == Compression::NONE {
        output.extend_from_slice(text);
    } else {
        output.resize(plain_len, 0);
        let expanded = compress::expand(header.compression, text, output);
        text.zeroize();
        if let Err(refusal) = expanded {
            output.zeroize();
            return Err(refusal);
        }
    }
    Ok(OpenedRecord { plain_len, is_final: header.kind == RecordKind::StreamFinal, mark: RecordMark::new(header, tag) })
}

/// Ciphers of the sessions that were met last: deriving one costs more than opening a small record.
#[derive(Default)]
pub struct CipherCache {
    last: Option<(SessionId, std::sync::Arc<dyn RecordOpener>)>,
}

impl CipherCache {
    /// The cipher of a session.
    ///
    /// # Errors
    /// [`Refusal::UnknownSuite`] when the generation's suite is not known.
    pub fn cipher(
        &mut self,
        keys: &impl super::keys::OpeningKeys,
        session: SessionId,
    ) -> Result<std::sync::Arc<dyn RecordOpener>, Refusal> {
        if let Some((_, cipher)) = self.last.as_ref().filter(|(last, _)| *last == session) {
            return Ok(std::sync::Arc::clone(cipher));
        }
        let cipher = keys.record_opener(session).ok_or(Refusal::UnknownSuite)?;
        self.last = Some((session, std::sync::Arc::clone(&cipher)));
        Ok(cipher)
    }
}
