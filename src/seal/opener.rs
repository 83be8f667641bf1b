//! Opening: a block becomes plaintext only when every check has passed, its tag last.

use zeroize::Zeroize;

use super::chain::{Chain, RecordMark};
use super::compress::{self, Compression};
use super::envelope::{HEADER_LEN, Header, OVERHEAD, RecordKind, parse_record};
use super::keys::{GenerationScope, SessionId};
use super::refusal::Refusal;
use super::suite::{RecordOpener, TAG_LEN};
use super::wipe::wipe;

/// A verified record: where its plaintext is, and its mark.
#[derive(Debug)]
pub struct OpenedRecord {
    /// Bytes of plaintext.
    pub plain_len: usize,
    /// Whether it is the closing record of a stream.
    pub is_final: bool,
    /// For the chain.
    pub mark: RecordMark,
    expanded: bool,
}

impl OpenedRecord {
    /// Wipes the plaintext where [`text`](Self::text) found it, and what it was expanded from.
    pub fn wipe(&self, block: &mut [u8], expanded: &mut [u8]) {
        wipe(block);
        if self.expanded {
            wipe(&mut expanded[..self.plain_len]);
        }
    }

    /// The plaintext, in one of the two buffers that [`open_in_place`] was given.
    pub fn text<'a>(&self, block: &'a [u8], expanded: &'a [u8]) -> &'a [u8] {
        match self.expanded {
            true => &expanded[..self.plain_len],
            false => &block[HEADER_LEN..][..self.plain_len],
        }
    }
}

/// Checks that need no key: the envelope, that it belongs to this generation, and that it may stand at this place.
///
/// # Errors
/// The first check of the specification that fails.
pub fn check_record(block: &[u8], scope: &GenerationScope, stream: bool, chain: &Chain) -> Result<Header, Refusal> {
    let header = parse_record(block, stream, scope.suite)?;
    check_place(&header, scope, chain)?;
    Ok(header)
}

/// The second half of [`check_record`], of a record whose envelope was checked.
///
/// # Errors
/// The first check of the specification that fails.
pub fn check_place(header: &Header, scope: &GenerationScope, chain: &Chain) -> Result<(), Refusal> {
    if header.partition != scope.partition {
        return Err(Refusal::WrongPartition);
    }
    if header.generation != scope.generation {
        return Err(Refusal::WrongGeneration);
    }
    chain.check(header)
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
    let opened = open_in_place(header, block, cipher, scope, output)?;
    match opened.expanded {
        true => wipe(&mut block[HEADER_LEN..][..header.stored_len as usize]),
        false => output.extend_from_slice(opened.text(block, &[])),
    }
    Ok(OpenedRecord { expanded: true, ..opened })
}

/// [`open_record`] without a copy: plaintext stays in `block`, and only what was compressed goes to `expanded`. Neither is
/// wiped but when the record is refused; that is the caller's, who uses them again. `expanded` keeps its length where nothing
/// was compressed.
///
/// # Errors
/// As [`open_record`].
pub fn open_in_place(
    header: &Header,
    block: &mut [u8],
    cipher: &dyn RecordOpener,
    scope: &GenerationScope,
    expanded: &mut Vec<u8>,
) -> Result<OpenedRecord, Refusal> {
    let stored = header.stored_len as usize;
    if block.len() != stored + OVERHEAD {
        return Err(Refusal::BadLengths);
    }
    let aad = header.aad(scope.volume);
    let (text, trailer) = block[HEADER_LEN..].split_at_mut(stored);
    let tag = tag_of(trailer);
    cipher.open_in_place(header.seal_counter, &aad, text, &tag).map_err(|_| Refusal::BadTag)?;
    let plain_len = header.plain_len as usize;
    let compressed = header.compression != Compression::NONE;
    if compressed {
        make_room(expanded, plain_len);
        if let Err(refusal) = compress::expand(header.compression, text, expanded) {
            text.zeroize();
            expanded.zeroize();
            return Err(refusal);
        }
    }
    let is_final = header.kind == RecordKind::StreamFinal;
    Ok(OpenedRecord { plain_len, is_final, mark: RecordMark::new(header, tag), expanded: compressed })
}

/// The mark that a checked block will have once its tag is verified.
pub fn mark_of(header: &Header, block: &[u8]) -> RecordMark {
    RecordMark::new(header, tag_of(&block[HEADER_LEN + header.stored_len as usize..]))
}

fn tag_of(trailer: &[u8]) -> [u8; TAG_LEN] {
    let mut tag = [0; TAG_LEN];
    tag.copy_from_slice(&trailer[..TAG_LEN]);
    tag
}

/// Gives a buffer that may have held plaintext this length. Growing it in place would leave a copy behind in memory that is
/// given back, so what is too short is wiped and replaced. What stands in it is of no meaning.
pub fn make_room(buffer: &mut Vec<u8>, length: usize) {
    if buffer.capacity() < length {
        buffer.zeroize();
        *buffer = vec![0; length];
    }
    buffer.resize(length, 0);
}

/// Ciphers of the sessions that were met last: deriving one costs more than opening a small record.
#[derive(Default)]
pub struct CipherCache {
    last: Option<(SessionId, std::sync::Arc<dyn RecordOpener>)>,
}

impl CipherCache {
    /// The session that was met last, and its cipher.
    pub fn last(&self) -> Option<(SessionId, std::sync::Arc<dyn RecordOpener>)> {
        self.last.clone()
    }

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
