//! Before the wide kernel is used in a process it has to agree with the portable one.

use crate::Kernel;
use crate::portable::Portable;

/// A kernel that differs from the portable one where the test looks.
#[derive(Debug, PartialEq, Eq)]
struct Difference(&'static str);

/// Whether the kernel agrees with the portable one. Says so in the log if not.
pub(crate) fn passes(kernel: impl Fn(&[u8; 32]) -> Box<dyn Kernel>) -> bool {
    match test(kernel) {
        Ok(()) => true,
        Err(Difference(what)) => {
            tracing::error!(
                "the self test of AES-256-GCM-SIV failed: with AVX-512 this processor {what} otherwise than the portable \
                 implementation, which is used from here on and is slower; have processor, memory and hypervisor checked, \
                 and what this machine wrote lately read back on another one"
            );
            false
        }
    }
}

/// The longest text of the test: whole groups of the kernel, a part of one and a part of a block.
const TEXT_LEN: usize = 4 * 1024 + 512 + 77;
/// Others: every way that a text can end.
const LENGTHS: [usize; 8] = [TEXT_LEN, 1024 + 33, 1024, 513, 512, 131, 17, 0];

fn test(kernel: impl Fn(&[u8; 32]) -> Box<dyn Kernel>) -> Result<(), Difference> {
    let differs = |what| Err(Difference(what));
    let key: [u8; 32] = std::array::from_fn(|at| at as u8 ^ 0xa5);
    let (wide, portable) = (kernel(&key), Portable::new(&key));
    let plain: Vec<u8> = (0..TEXT_LEN).map(|at| (at * 31 + (at >> 8)) as u8).collect();
    let aad = &plain[..112];
    for (round, length) in LENGTHS.into_iter().enumerate() {
        let nonce = [round as u8 + 1; 12];
        let (mut ours, mut theirs) = (plain[..length].to_vec(), plain[..length].to_vec());
        let tag = wide.seal(&nonce, aad, &mut ours);
        if tag.is_none() || tag != portable.seal(&nonce, aad, &mut theirs) || ours != theirs {
            return differs("seals");
        }
        let mut tag = tag.unwrap_or_default();
        if !wide.open(&nonce, aad, &mut ours, &tag) || ours != plain[..length] {
            return differs("opens");
        }
        tag[15] ^= 1;
        if wide.open(&nonce, aad, &mut theirs, &tag) {
            return differs("refuses a changed tag");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::{Difference, passes, test};
    use crate::portable::Portable;
    use crate::{Kernel, NONCE_LEN, TAG_LEN};

    /// Where a kernel is wrong.
    #[derive(Clone, Copy)]
    enum Wrong {
        Nowhere,
        LastByteSealed,
        Tag,
        ByteOpened,
        AcceptsAll,
        RefusesAll,
        WithoutText,
    }

    struct Kernels(Portable, Wrong);

    impl Kernel for Kernels {
        fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], text: &mut [u8]) -> Option<[u8; TAG_LEN]> {
            let mut tag = self.0.seal(nonce, aad, text)?;
            match (self.1, text) {
                (Wrong::LastByteSealed, [.., last]) => *last ^= 0x10,
                (Wrong::Tag, _) | (Wrong::WithoutText, []) => tag[0] ^= 1,
                _ => {}
            }
            Some(tag)
        }

        fn open(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], text: &mut [u8], tag: &[u8; TAG_LEN]) -> bool {
            let verifies = self.0.open(nonce, aad, text, tag);
            match (self.1, text) {
                (Wrong::ByteOpened, [.., byte, _]) => *byte ^= 1,
                (Wrong::AcceptsAll, _) => return true,
                (Wrong::RefusesAll, _) => return false,
                _ => {}
            }
            verifies
        }
    }

    fn with(wrong: Wrong) -> impl Fn(&[u8; 32]) -> Box<dyn Kernel> {
        move |key| Box::new(Kernels(Portable::new(key), wrong))
    }

    #[test]
    fn a_wrong_kernel_is_found() {
        assert_eq!(test(with(Wrong::Nowhere)), Ok(()));
        for (wrong, what) in [
            (Wrong::LastByteSealed, "seals"),
            (Wrong::Tag, "seals"),
            (Wrong::WithoutText, "seals"),
            (Wrong::ByteOpened, "opens"),
            (Wrong::RefusesAll, "opens"),
            (Wrong::AcceptsAll, "refuses a changed tag"),
        ] {
            assert_eq!(test(with(wrong)), Err(Difference(what)));
        }
    }

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_wrong_kernel_is_refused_and_told() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        tracing::subscriber::with_default(subscriber, || {
            assert!(passes(with(Wrong::Nowhere)));
            assert!(log.0.lock().unwrap().is_empty());
            assert!(!passes(with(Wrong::Tag)));
        });
        let said = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(said.contains("ERROR") && said.contains("self test") && said.contains("portable"), "{said}");
    }
}
