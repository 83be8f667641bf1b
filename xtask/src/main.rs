//! Tasks of the project. Each does all of its own set-up, or names what is missing and how to get it.

mod bench;
mod command;
mod demo;
mod hwtest;
mod lab;
mod setup;
mod test;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::command::Profile;

const HELP: &str = "\
cargo xtask <task>

  demo [--keep] [--profile dev|release] [--no-build] [--mib N]
        the main job on real files, step by step with figures: token, services, label, write with
        GNU tar, look for plaintext on the medium, restore, compare, export and verify the custody log
        --keep      leave it running, and tell what to type next
        --profile   which binaries to use (dev, which the tests share and which has optimised ciphers; release takes minutes to link)
        --no-build  take the binaries as they are
        --mib N     how much to write (128)

  test [--long] [--no-demo]
        every test that can run here: units, properties, corpus, end to end with real programs,
        documentation tests, and the demo
        --long      also what takes many minutes (sets SEALTAPE_LONG=1)
        --no-demo   leave the demo out

  lab [OPTION...] -- COMMAND...
        run a command in a Linux guest that has a real SCSI stack and this machine's files, read-only; its output and
        exit code are passed on (125: the guest itself failed). See docs/lab.md
        --guest uml|qemu User-Mode Linux (2 s to boot, full speed), or QEMU with Debian's own kernel (slow; is fetched)
        --time-limit S   longest time in seconds, boot included (120; qemu: 600)
        --memory M       the guest's memory in MiB (1024)
        --modules a,b    kernel modules to load first
        --env N=V, --writable FOLDER, --console
                         an environment variable, a folder the command may write to, the kernel's messages at the end

  hwtest --mhvtl [OPTION...]
        the suite for drives and libraries on mhvtl, in a QEMU guest. mhvtl has to be installed, or below $SEALTAPE_MHVTL, with a
        module for the guest's kernel; where it is not, this says so and ends with 77. See docs/hardware.md
  hwtest --drive /dev/sgN --scratch BARCODE [OPTION...]
        the same cases on a real drive. THE VOLUME WITH THIS BARCODE IS WRITTEN OVER; any other is refused
        --changer /dev/sgM  the library that serves the drive
        --worm, --protected, --cleaning BARCODE
                            cartridges for the cases that need them (the WORM one is appended to, a cleaning is used up)
        --commands N        random commands (3000); --seed N draws the same again
        --fill-limit MIB    write the cartridge full if it holds no more than this (1024)
        --product FOLDER    through the product too, with its programs in FOLDER
        --case NAME         only this one; --report FILE

  bench [seal|parts|pipe|node|chain] [--mib N] [--rounds N] [--no-build]
        what sealing costs, in the release build, beside others on the same data in the same run; prints tables, writes JSON
        below the target folder, and updates docs/benchmarks.md. It fails where a goal is not reached. (all)
        seal        the suites in the shipped program, beside aws-lc-rs, on one core
        parts       ciphers, checksum, and records by what is in them and how they are compressed, by criterion, on one core
        pipe        `sealtape seal` and `open` beside dd, openssl, aespipe, age and gpg
        node        a virtual drive, sealed beside raw; four of them at once; memory, latency, start of the services
        chain       a virtual SCSI drive over a SCSI drive of the kernel, sealed beside raw, in the guest lab
        --mib N     how much goes through the pipe or the drive each time (1024)
        --rounds N  how often each has its turn (5)

  setup [demo|test|lab|bench]
        only the set-up of one of them (test)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[&str]) -> Result<()> {
    match arguments {
        [] | ["help" | "--help" | "-h", ..] => {
            print!("{HELP}");
            Ok(())
        }
        ["demo", options @ ..] => demo::run(&demo_options(options)?),
        ["test", options @ ..] => test::run(&test_options(options)?),
        ["lab", options @ ..] => match lab::run(options)? {},
        ["bench", options @ ..] => bench::run(&bench::Options::parse(options)?),
        [bench::RUN_MEASURED, arguments @ ..] => bench::run_measured(arguments),
        [bench::RUN_CHAIN, arguments @ ..] => bench::run_in_guest(arguments),
        ["hwtest", options @ ..] => hwtest::run(options),
        ["setup"] | ["setup", "test"] => setup::for_test().map(drop),
        ["setup", "demo"] => setup::for_demo(),
        ["setup", "lab"] => setup::for_lab(),
        ["setup", "bench"] => setup::for_bench(),
        [unknown, ..] => bail!("no task {unknown:?}; `cargo xtask help` lists them"),
    }
}

fn demo_options(arguments: &[&str]) -> Result<demo::Options> {
    let mut options = demo::Options { keep: false, profile: Profile::Dev, build: true, mebibytes: 128 };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().copied().unwrap_or("");
        match *argument {
            "--keep" => options.keep = true,
            "--no-build" => options.build = false,
            "--profile" => {
                options.profile = match value() {
                    "dev" => Profile::Dev,
                    "release" => Profile::Release,
                    other => bail!("--profile is dev or release, not {other:?}"),
                }
            }
            "--mib" => match value().parse() {
                Ok(mebibytes @ 1..=8192) => options.mebibytes = mebibytes,
                _ => bail!("--mib takes a number of mebibytes from 1 to 8192"),
            },
            unknown => bail!("demo knows no option {unknown:?}; `cargo xtask help` lists them"),
        }
    }
    Ok(options)
}

fn test_options(arguments: &[&str]) -> Result<test::Options> {
    let mut options = test::Options { long: false, demo: true };
    for argument in arguments {
        match *argument {
            "--long" => options.long = true,
            "--no-demo" => options.demo = false,
            unknown => bail!("test knows no option {unknown:?}; `cargo xtask help` lists them"),
        }
    }
    Ok(options)
}
