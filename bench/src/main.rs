//! `sealtape-bench RECORD_BYTES MILLISECONDS`: the ciphers of aws-lc-rs, measured as `sealtape measure` measures those of Sealtape,
//! and printed alike.

use std::error::Error;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, AES_256_GCM_SIV, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};

/// As long as that of a record: a header and the volume.
const AAD_LEN: usize = 112;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = || arguments.next().ok_or("usage: sealtape-bench RECORD_BYTES MILLISECONDS");
    let record: usize = number()?.parse()?;
    let limit = Duration::from_millis(number()?.parse()?);
    let siv = measure("aes-256-gcm-siv", &AES_256_GCM_SIV, record, limit)?;
    let gcm = measure("aes-256-gcm", &AES_256_GCM, record, limit)?;
    println!("[{siv},{gcm}]");
    Ok(())
}

fn measure(
    name: &str,
    algorithm: &'static Algorithm,
    record: usize,
    limit: Duration,
) -> Result<String, Box<dyn Error>> {
    let failed = |_| format!("{name} of aws-lc-rs failed");
    let key = LessSafeKey::new(UnboundKey::new(algorithm, &[7; 32]).map_err(failed)?);
    let (mut text, aad) = (vec![0; record], [3; AAD_LEN]);
    let (mut sealing, mut opening, mut records) = (Duration::ZERO, Duration::ZERO, 0_u64);
    let began = Instant::now();
    while began.elapsed() < limit {
        let nonce = || {
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&records.to_be_bytes());
            Nonce::assume_unique_for_key(nonce)
        };
        let at = Instant::now();
        let tag = key.seal_in_place_separate_tag(nonce(), Aad::from(&aad), &mut text).map_err(failed)?;
        let between = Instant::now();
        key.open_in_place_separate_tag(nonce(), Aad::from(&aad), tag.as_ref(), &mut text).map_err(failed)?;
        opening += between.elapsed();
        sealing += between - at;
        records += 1;
    }
    let rate = |took: Duration| (records * record as u64) as f64 / took.as_secs_f64() / 1e9;
    Ok(format!(r#"{{"suite":"{name}","record":{record},"seal":{:.4},"open":{:.4}}}"#, rate(sealing), rate(opening)))
}
