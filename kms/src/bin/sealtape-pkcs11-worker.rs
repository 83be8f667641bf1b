//! A PKCS#11 worker as an executable of its own, for programs that cannot re-execute themselves as one.

fn main() -> std::process::ExitCode {
    match sealtape_kms::pkcs11::worker_main() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("sealtape-pkcs11-worker: {e}");
            std::process::ExitCode::FAILURE
        }
    }
}
