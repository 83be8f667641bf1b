//! The guest lab itself: results come back, and nothing stays behind.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sealtape_hwtest::guest::{Error, Guest, Outcome};

fn run(guest: &Guest, script: &str) -> Outcome {
    guest.run(script).unwrap_or_else(|error| panic!("{error}"))
}

/// The living processes whose command line has `text` in it. A guest's have the job folder's path.
fn processes_with(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let folder = entry.unwrap().path();
        let arguments = fs::read(folder.join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        if arguments.contains(text) {
            found.push(format!("{} {arguments}", folder.display()));
        }
    }
    found
}

/// The job folder of the guest, from the kernel's command line on its console.
fn job_folder(console: &str) -> &str {
    let words = console.split_whitespace();
    words.filter_map(|word| word.strip_prefix("SEALTAPE_JOB=")).next().unwrap().trim_end_matches('"')
}

fn assert_nothing_left(job: &str) {
    assert!(!Path::new(job).exists(), "{job} is still there");
    let left = processes_with(job);
    assert!(left.is_empty(), "{left:#?}");
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn exit_code_and_output_come_back() {
    let outcome = run(&Guest::uml(), "echo to stdout; echo to stderr >&2; printf 'no newline, \\377'; exit 42");
    assert_eq!(outcome.exit_code, 42);
    assert_eq!(outcome.output, "to stdout\nto stderr\nno newline, \u{fffd}");
    assert!(outcome.console.contains("Run "), "{}", outcome.console);
    println!("from start to end: {:?}", outcome.duration);
    assert_nothing_left(job_folder(&outcome.console));
}

#[test]
fn a_script_without_a_word_succeeds_and_a_wrong_one_does_not() {
    let outcome = run(&Guest::uml(), "");
    assert_eq!((outcome.exit_code, outcome.output.as_str()), (0, ""));
    let outcome = run(&Guest::uml(), "if true; then echo unreachable");
    assert_ne!(outcome.exit_code, 0);
    assert!(outcome.output.contains("syntax error"), "{}", outcome.output);
}

#[test]
fn the_root_is_read_only_and_the_job_folder_is_not() {
    let script = "
        set -e
        ! touch /lab-was-here 2>error
        grep -q 'Read-only file system' error
        ! touch \"$OUTSIDE/lab-was-here\" 2>/dev/null
        touch \"$INSIDE/lab-was-here\" file \"$TMPDIR/file\" /dev/shm/file
        echo from the guest >\"$INSIDE/text\"
        pwd
    ";
    let inside = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("known"), "").unwrap();
    let guest = Guest::uml()
        .writable(inside.path())
        .env("INSIDE", inside.path().to_str().unwrap())
        .env("OUTSIDE", outside.path().to_str().unwrap());
    let outcome = run(&guest, script);
    assert_eq!((outcome.exit_code, outcome.output.as_str()), (0, "/run/job\n"));
    assert!(!Path::new("/lab-was-here").exists());
    assert!(!outside.path().join("lab-was-here").exists());
    assert!(inside.path().join("lab-was-here").exists());
    assert_eq!(fs::read_to_string(inside.path().join("text")).unwrap(), "from the guest\n");
}

#[test]
fn the_environment_is_what_was_asked_for() {
    let value = "two words, a 'quote', \"two\", $HOME, `id`, \\ and\na line";
    let guest = Guest::uml().env("ASKED", value).env("PATH", "/usr/bin");
    let outcome = run(&guest, "printf '%s|%s|%s' \"$ASKED\" \"$PATH\" \"${CARGO_MANIFEST_DIR-unset}\"");
    assert_eq!(outcome.output, format!("{value}|/usr/bin|unset"));

    let error = Guest::uml().env("NOT A NAME", "").run("").unwrap_err();
    assert!(matches!(&error, Error::Asked(text) if text.contains("NOT A NAME")), "{error}");
}

#[test]
fn modules_load_and_a_missing_one_is_named() {
    let mut guest = Guest::uml().module("loop max_loop=3");
    for module in ["st", "sg", "ch", "sd_mod", "target_core_user", "tcm_loop", "iscsi_target_mod", "iscsi_tcp"] {
        guest = guest.module(module);
    }
    let outcome = run(
        &guest,
        "lsmod | cut -d ' ' -f 1; ls /sys/kernel/config/target/core; cat /sys/module/loop/parameters/max_loop",
    );
    for module in ["st", "sg", "ch", "sd_mod", "target_core_user", "tcm_loop", "iscsi_target_mod", "iscsi_tcp"] {
        assert!(outcome.output.lines().any(|line| line == module), "{module}: {}", outcome.output);
    }
    assert!(outcome.output.ends_with("alua\n3\n"), "{}", outcome.output);

    let error = Guest::uml().module("no_such_module").run("echo unreachable").unwrap_err();
    assert!(matches!(&error, Error::NotReady { message, .. } if message.contains("no_such_module")), "{error}");
    assert!(!error.to_string().contains("unreachable"), "{error}");
}

#[test]
fn the_time_limit_kills_and_keeps_what_was_printed() {
    let guest = Guest::uml().time_limit(Duration::from_secs(12));
    // Both kinds of process: one that sleeps and one that keeps the processor.
    let error = guest.run("echo before the hang; sleep 1000 & while :; do :; done").unwrap_err();
    let Error::TimeLimit { last, .. } = &error else { panic!("{error}") };
    assert_eq!(last.output, "before the hang\n");
    assert_nothing_left(job_folder(&last.console));
    let text = error.to_string();
    assert!(
        text.contains("12 s") && text.contains("script: before the hang") && text.contains("console: Run "),
        "{text}"
    );
}

#[test]
fn a_panic_is_reported() {
    let error = Guest::uml().run("echo before; echo c >/proc/sysrq-trigger; echo after").unwrap_err();
    let Error::Panicked { line, last } = &error else { panic!("{error}") };
    assert_eq!(line, "Kernel panic - not syncing: sysrq triggered crash");
    assert_eq!(last.output, "before\n");
    assert_nothing_left(job_folder(&last.console));
}

#[test]
fn an_end_without_a_result_is_reported() {
    let error = Guest::uml().run("echo before; busybox poweroff -f").unwrap_err();
    assert!(matches!(&error, Error::NoResult { last, .. } if last.output == "before\n"), "{error}");
    let error = Guest::uml().run("busybox reboot -f; sleep 1000").unwrap_err();
    assert!(matches!(&error, Error::NotReady { message, .. } if message.contains("second time")), "{error}");
}

#[test]
fn two_guests_at_once() {
    let meeting = tempfile::tempdir().unwrap();
    let outcomes = std::thread::scope(|scope| {
        let guests = ["a", "b"].map(|name| {
            let guest =
                Guest::uml().writable(meeting.path()).env("FOLDER", meeting.path().to_str().unwrap()).module("st");
            // Each waits for the other: they do run at the same time.
            let other = if name == "a" { "b" } else { "a" };
            let script = format!(
                "touch $FOLDER/{name}; until ls $FOLDER | grep -q '^{other}$'; do sleep 0.1; done; echo {name}"
            );
            scope.spawn(move || guest.run(&script))
        });
        guests.map(|guest| guest.join().unwrap().unwrap_or_else(|error| panic!("{error}")))
    });
    assert_eq!(outcomes[0].output, "a\n");
    assert_eq!(outcomes[1].output, "b\n");
}

#[test]
fn whoever_waits_can_stop_it() {
    let flag = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&flag);
    /// Sets the flag as soon as the script has printed something.
    struct Stopper(Arc<AtomicBool>);
    impl std::io::Write for Stopper {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.store(true, Ordering::Relaxed);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let error = Guest::uml().stop_when(flag).run_shown("echo running; sleep 1000", &mut Stopper(stop)).unwrap_err();
    let Error::Stopped { last } = &error else { panic!("{error}") };
    assert_eq!(last.output, "running\n");
    assert_nothing_left(job_folder(&last.console));
}

/// The command line program, in a job of its own as a shell would start it.
fn lab(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sealtape-lab"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn the_program_passes_output_and_exit_code_on() {
    let output = lab(&["--modules", "st,sg", "--env", "A=b c", "--", "bash", "-c", "echo \"$A\" '$A'; exit 3"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "b c $A\n", "{output:?}");
    assert_eq!(output.status.code(), Some(3), "{output:?}");

    let output = lab(&["--time-limit", "6", "--", "sleep", "1000"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("time limit of 6 s"), "{output:?}");
}

#[test]
fn nothing_is_left_when_the_program_is_interrupted_or_killed() {
    for signal in ["INT", "KILL"] {
        let folder = tempfile::tempdir().unwrap();
        let script = format!("touch {}/running; sleep 1000 & while :; do :; done", folder.path().display());
        let mut command = lab(&["--writable", folder.path().to_str().unwrap(), "--", "bash", "-c", &script]);
        // Its job folder is then the only one below.
        let jobs = tempfile::tempdir().unwrap();
        let mut program = command.env("TMPDIR", jobs.path()).spawn().unwrap();
        wait_for("the script runs", || folder.path().join("running").exists());
        let job = fs::read_dir(jobs.path()).unwrap().next().unwrap().unwrap().path();
        assert!(processes_with(job.to_str().unwrap()).len() > 3, "the guest has processes");

        let program_id = program.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &program_id]).status().unwrap().success());
        assert!(!program.wait().unwrap().success());
        if signal == "INT" {
            assert_nothing_left(job.to_str().unwrap());
        }
        // After a kill it is the guardian who clears away, and nobody waits for that.
        wait_for("nothing is left", || !job.exists() && processes_with(job.to_str().unwrap()).is_empty());
    }
}

#[test]
fn what_cannot_be_is_refused_before_anything_starts() {
    let error = Guest::uml().memory_mib(3).run("").unwrap_err();
    assert!(matches!(&error, Error::Asked(text) if text.contains("64")), "{error}");
    let error = Guest::uml().writable("/no/such/folder").run("").unwrap_err();
    assert!(matches!(&error, Error::Asked(text) if text.contains("/no/such/folder")), "{error}");
    let error = Guest::uml().memory_mib(u32::MAX).run("").unwrap_err();
    assert!(matches!(&error, Error::Asked(text) if text.contains("less memory")), "{error}");
}
