//! Amanda's encryption program.

use std::process::ExitCode;

fn main() -> ExitCode {
    sealtape::cli::amcrypt::main()
}
