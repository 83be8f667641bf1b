//! The lab's second way, by QEMU. Fetching it and its kernel is for those who ask: `cargo xtask lab --guest qemu -- true`, then
//! `cargo test -p sealtape-hwtest --test guest_qemu -- --ignored`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use sealtape_hwtest::guest::{Error, Guest};

#[test]
#[ignore = "needs QEMU and a kernel, which `cargo xtask lab --guest qemu -- true` fetches"]
fn results_come_back_and_the_root_is_read_only() {
    let folder = tempfile::tempdir().unwrap();
    let guest = Guest::qemu().writable(folder.path()).env("FOLDER", folder.path().to_str().unwrap());
    let guest = guest.module("st").module("sg").module("target_core_user").module("tcm_loop");
    let script = "
        echo $SEALTAPE_GUEST; pwd
        touch /lab-was-here 2>/dev/null && exit 1
        echo from the guest >$FOLDER/text && touch file
        lsmod | grep -c -e '^st ' -e '^sg ' -e '^target_core_user ' -e '^tcm_loop '
        exit 42
    ";
    let outcome = guest.run(script).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((outcome.exit_code, outcome.output.as_str()), (42, "qemu\n/run/job\n4\n"));
    assert_eq!(std::fs::read_to_string(folder.path().join("text")).unwrap(), "from the guest\n");
    println!("from start to end: {:?}", outcome.duration);
}

#[test]
#[ignore = "needs QEMU and a kernel, which `cargo xtask lab --guest qemu -- true` fetches"]
fn a_panic_and_the_time_limit_are_reported() {
    let error = Guest::qemu().run("echo before; echo c >/proc/sysrq-trigger").unwrap_err();
    let Error::Panicked { line, last } = &error else { panic!("{error}") };
    assert_eq!(line, "Kernel panic - not syncing: sysrq triggered crash");
    assert_eq!(last.output, "before\n");

    let error = Guest::qemu().time_limit(Duration::from_secs(30)).run("echo before; sleep 1000").unwrap_err();
    assert!(matches!(&error, Error::TimeLimit { last, .. } if last.output == "before\n"), "{error}");
}

#[test]
#[ignore = "needs QEMU and a kernel, which `cargo xtask lab --guest qemu -- true` fetches"]
fn user_mode_linux_runs_on_a_processor_without_amx() {
    // QEMU's has none: its whole extended state fits into what UML hands over, and the preloaded library leaves it alone.
    let inner = format!("'{}' -- bash -c 'uname -a; exit 6'", env!("CARGO_BIN_EXE_sealtape-lab"));
    let guest = Guest::qemu().memory_mib(3072);
    let outcome = guest.run(&format!("grep -c amx /proc/cpuinfo; {inner}")).unwrap_or_else(|error| panic!("{error}"));
    assert!(outcome.output.starts_with("0\nLinux sealtape-lab"), "{}", outcome.output);
    assert_eq!(outcome.exit_code, 6, "{}", outcome.output);
    println!("{}from start to end: {:?}", outcome.output, outcome.duration);
}
