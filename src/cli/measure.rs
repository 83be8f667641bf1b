//! `measure`: how fast the suites of this very program are. Hidden, for `cargo xtask bench`: a benchmark that is built beside the
//! product has another code layout, which may be worth a factor of two.

use std::time::{Duration, Instant};

use clap::Args;
use sealtape_kms::secret::DataKey;
use serde::Serialize;
use uuid::Uuid;

use super::failure::{Exit, Failure};
use super::output::Output;
use crate::seal::{
    Compression, GenerationKeys, GenerationScope, Link, OVERHEAD, PlainRecord, RecordKind, SessionId, SessionSealer,
    Suite,
};

/// Bytes of the additional authenticated data: a header and the volume.
const AAD_LEN: usize = 112;

/// Measure the suites in memory.
#[derive(Debug, Args)]
pub(super) struct Measure {
    /// Bytes of a record
    #[arg(long, default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(1..=16 << 20))]
    record: u32,
    /// Milliseconds for each suite
    #[arg(long, default_value_t = 300)]
    ms: u64,
}

/// GB (10^9 bytes) of plaintext a second, on one thread.
#[derive(Debug, Serialize)]
struct Rates {
    suite: String,
    /// What seals and opens, where the processor decides.
    implementation: Option<String>,
    record: u32,
    /// The cipher alone.
    seal: f64,
    open: f64,
    /// A whole record: header, cipher and checksum.
    seal_record: f64,
}

impl Measure {
    pub(super) fn run(self, output: &Output) -> Result<(), Failure> {
        let rates: Vec<Rates> = Suite::ALL.iter().map(|suite| self.measure(*suite)).collect::<Result<_, _>>()?;
        output.value(&rates, |rates| {
            let with = |r: &Rates| r.implementation.as_ref().map(|used| format!(" ({used})")).unwrap_or_default();
            rates
                .iter()
                .map(|r| format!("{}{} seal {:.2} open {:.2} GB/s\n", r.suite, with(r), r.seal, r.open))
                .collect()
        })
    }

    fn measure(&self, suite: Suite) -> Result<Rates, Failure> {
        let failed = |what: &str| Failure::new(Exit::Failed, format!("{suite} cannot be measured: {what}"), "");
        let key = DataKey::copy_from(&[7; 32]).map_err(|e| failed(&e.to_string()))?;
        let scope = GenerationScope { volume: Uuid::nil(), partition: 0, generation: 1, suite };
        let keys = GenerationKeys::new(key, scope);
        let session = SessionId([1; 16]);
        let cipher = keys.record_cipher(session).ok_or_else(|| failed("it is not known"))?;

        let length = self.record as usize;
        let (mut text, aad) = (vec![0; length], [3; AAD_LEN]);
        let (mut sealing, mut opening, mut records) = (Duration::ZERO, Duration::ZERO, 0);
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(self.ms) {
            let at = Instant::now();
            let tag = cipher.seal_in_place(records, &aad, &mut text).map_err(|_| failed("it does not seal"))?;
            let between = Instant::now();
            cipher.open_in_place(records, &aad, &mut text, &tag).map_err(|_| failed("it does not open"))?;
            opening += between.elapsed();
            sealing += between - at;
            records += 1;
        }

        let mut sealer = SessionSealer::open(&keys, RecordKind::TapeBlock, session, 1, 0, Link::BEGINNING)
            .ok_or_else(|| failed("it has no session"))?;
        let (mut buffer, mut whole, mut whole_records) = (Vec::with_capacity(length + OVERHEAD), Duration::ZERO, 0);
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(self.ms) {
            let reserved = sealer.reserve(whole_records, 0).map_err(|_| failed("its session is over"))?;
            let mut record = PlainRecord::in_buffer(buffer);
            record.extend(&text);
            let at = Instant::now();
            let sealed = reserved.seal(record, Compression::NONE).map_err(|_| failed("it does not seal"))?;
            whole += at.elapsed();
            whole_records += 1;
            buffer = sealed.into_buffer();
        }
        let rate = |records: u64, took: Duration| (records * length as u64) as f64 / took.as_secs_f64() / 1e9;
        Ok(Rates {
            suite: suite.to_string(),
            implementation: suite.implementation().map(|used| used.to_string()),
            record: self.record,
            seal: rate(records, sealing),
            open: rate(records, opening),
            seal_record: rate(whole_records, whole),
        })
    }
}
