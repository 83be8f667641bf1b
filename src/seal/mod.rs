//! The on-media format, version 1 (`docs/format/format-1.md`): suites, envelope, label, generation
//! record, sealing and opening. No I/O and no clock in here.
//!
//! Invariants that the types keep:
//! - a seal counter is consumed before a record is sealed with it ([`SessionSealer::reserve`]) and cannot be
//!   given back, cloned or made elsewhere: no (key, nonce) pair repeats;
//! - the whole header and the volume are authenticated (the associated data): a [`Header`] can only be had from a
//!   block that was parsed, and plaintext only from a block whose tag was verified;
//! - plaintext buffers ([`PlainRecord`]) are wiped when they are dropped.

pub mod chain;
pub mod compress;
pub mod end;
pub mod envelope;
pub mod generation;
pub mod keys;
pub mod label;
pub mod opener;
pub mod refusal;
pub mod sealer;
pub mod stream;
pub mod suite;
pub mod wipe;

pub use chain::{Chain, Link, RecordMark};
pub use compress::Compression;
pub use end::{KeyEnd, WeakKeyEnd};
pub use envelope::{HEADER_LEN, Header, MAX_PLAIN, OVERHEAD, RecordKind, parse_record};
pub use generation::{GenerationRecord, Stanza};
pub use keys::{GenerationKeys, GenerationScope, OpeningKeys, Opens, ReleasedKeys, Seals, SessionId};
pub use label::{LABEL_LEN, VolumeKind, VolumeLabel};
pub use opener::{OpenedRecord, open_record};
pub use refusal::Refusal;
pub use sealer::{PlainRecord, Reservation, SealedRecord, SessionSealer, Unsealable};
pub use suite::Suite;
