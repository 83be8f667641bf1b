//! How fast both implementations are here, on one core: `cargo run --release -p sealtape-siv --example rates`.

use std::time::{Duration, Instant};

use sealtape_siv::Aes256GcmSiv;

/// As long as that of a record.
const AAD: [u8; 112] = [3; 112];
const ROUNDS: usize = 9;
const LIMIT: Duration = Duration::from_millis(60);

/// GB (10^9 bytes) a second, sealed and opened.
fn rates(cipher: &Aes256GcmSiv, text: &mut [u8]) -> (f64, f64) {
    let (mut sealing, mut opening, mut texts) = (Duration::ZERO, Duration::ZERO, 0_u64);
    let began = Instant::now();
    while began.elapsed() < LIMIT {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&texts.to_be_bytes());
        let at = Instant::now();
        let tag = cipher.seal_in_place(&nonce, &AAD, text).expect("a short text");
        let between = Instant::now();
        cipher.open_in_place(&nonce, &AAD, text, &tag).expect("its own tag");
        opening += between.elapsed();
        sealing += between - at;
        texts += 1;
    }
    let rate = |took: Duration| (texts * text.len() as u64) as f64 / took.as_secs_f64() / 1e9;
    (rate(sealing), rate(opening))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let ciphers = [Aes256GcmSiv::new(&[7; 32]), Aes256GcmSiv::portable(&[7; 32])];
    println!("GB/s on one core, medians of {ROUNDS} rounds");
    for length in [512, 4 << 10, 64 << 10, 256 << 10, 1 << 20] {
        let mut text = vec![5; length];
        let mut found: [(Vec<f64>, Vec<f64>); 2] = Default::default();
        for _ in 0..ROUNDS {
            for (cipher, found) in ciphers.iter().zip(&mut found) {
                let (seal, open) = rates(cipher, &mut text);
                found.0.push(seal);
                found.1.push(open);
            }
        }
        for (cipher, (seal, open)) in ciphers.iter().zip(found) {
            println!("{length:8}  seal {:5.2}  open {:5.2}  {}", median(seal), median(open), cipher.implementation());
        }
    }
}
