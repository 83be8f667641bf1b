//! The command `sealtape`.

use std::process::ExitCode;

fn main() -> ExitCode {
    sealtape::cli::main()
}
