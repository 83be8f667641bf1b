//! What stands on the medium when real programs have written through the services: a label for whoever finds it and
//! no plaintext; and that token and image alone give the files back.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod e2e_support;

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use e2e_support::programs::{must, noise, plant};
use e2e_support::site::SiteOptions;
use e2e_support::{Site, ready};

const RUN: usize = 16;

/// Text of which no run of 16 bytes repeats, though it shrinks: 4 random bits in each byte.
fn text(seed: u64, length: usize) -> Vec<u8> {
    noise(seed, length / 2 + 1)
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| b"0123456789abcdef"[usize::from(digit)])
        .take(length)
        .collect()
}

/// How many places of `medium` begin a run of `RUN` bytes that `plain` has.
fn common(plain: &HashSet<u128>, medium: &[u8]) -> usize {
    windows(medium).filter(|run| plain.contains(run)).count()
}

/// All runs of 16 bytes, each as a number.
fn windows(bytes: &[u8]) -> impl Iterator<Item = u128> + '_ {
    bytes.windows(RUN).map(|run| run.try_into().map(u128::from_be_bytes).unwrap())
}

fn holds_no_plaintext(compression: &str) {
    if !ready() {
        return;
    }
    let pool = format!("\n[pool.suite]\ncompression = \"{compression}\"\n");
    let mut site = Site::with(&SiteOptions { configure: &|text| format!("{text}{pool}"), ..SiteOptions::default() });
    let cartridge = site.cartridge("SECRET.tape", "64M");
    site.load(0, &cartridge);
    site.sealtape(["volume", "label", "drive0", "SECRET", "--pool", "suite"]);
    let work = site.work();
    let sample = text(77, 3 << 20);
    fs::create_dir(work.join("in")).unwrap();
    fs::write(work.join("in/sample"), &sample).unwrap();
    let variables = [("N", &*site.nst(0))];
    must(&work, &variables, "tar -b 20 -cf $N in && tar -b 512 -cf $N in && dd if=in/sample of=$N bs=512 2>/dev/null");
    must(&work, &variables, "mt -f $N rewind && mt -f $N fsf 1 && tar -b 512 -xOf $N | cmp - in/sample");
    site.unload(0);
    site.stop();

    let medium = fs::read(&cartridge).unwrap();
    let written = 3 * sample.len();
    match compression {
        "none" => assert!(medium.len() > written, "{} bytes on the medium", medium.len()),
        _ => assert!(medium.len() < written * 2 / 3, "{} bytes on the medium", medium.len()),
    }
    let plain: HashSet<u128> = windows(&sample).collect();
    assert!(plain.len() > sample.len() * 99 / 100, "the sample repeats itself");
    assert_eq!(common(&plain, &medium), 0, "runs of plaintext on the medium");
    // The same search where there is something to find.
    let mut clear = medium[..1 << 20].to_vec();
    clear.extend_from_slice(&sample[1000..1000 + RUN]);
    assert_eq!(common(&plain, &clear), 1, "the search is blind");
    // Names neither: tar's headers are plaintext, too.
    for name in [&b"in/sample"[..], b"ustar"] {
        assert!(!medium.windows(name.len()).any(|run| run == name), "{} stands on the medium", name.escape_ascii());
    }
    let head = Command::new("head").args(["-n", "40"]).arg(&cartridge).output().unwrap().stdout;
    let head = String::from_utf8_lossy(&head).into_owned();
    for line in ["SEALTAPE VOLUME 1", "fields:", "kind: tape", "partitions: 1"] {
        assert!(head.contains(line), "`head` does not show {line:?}:\n{head}");
    }
    assert!(!head.contains("label: SECRET"), "the label stands on the medium against the pool's policy");
}

#[test]
fn an_uncompressed_medium_holds_no_plaintext() {
    holds_no_plaintext("none");
}

#[test]
fn a_compressed_medium_holds_no_plaintext() {
    holds_no_plaintext("zstd");
}

/// Another machine: one binary elsewhere, the token's folder and the image; neither services, catalogue, custody log
/// nor configuration.
#[test]
fn token_and_image_alone_give_the_files_back() {
    if !ready() {
        return;
    }
    let mut site = Site::new();
    let cartridge = site.volume(0, "RESCUE", "256M");
    let work = site.work();
    plant(&work.join("in"), 8, 5_000_000);
    plant(&work.join("second"), 9, 100_000);
    let variables = [("N", &*site.nst(0))];
    must(&work, &variables, "tar -b 512 -cf $N in && tar -cf $N second");
    site.unload(0);
    site.stop();

    let elsewhere = tempfile::tempdir().unwrap();
    let there = elsewhere.path();
    let token = must(Path::new("/"), &[("H", &site.home())], "grep ^token $H/sealtape.toml | cut -d'\"' -f2");
    let keyd = site.home().join("keyd");
    must(there, &[("K", &keyd)], "mkdir token bin && cp -r $K/tokens token/ && install -m 600 $K/user.pin pin");
    fs::copy(env!("CARGO_BIN_EXE_sealtape"), there.join("bin/sealtape")).unwrap();
    fs::copy(&cartridge, there.join("image")).unwrap();
    drop(site);
    let mut conf = fs::File::create(there.join("softhsm2.conf")).unwrap();
    writeln!(conf, "directories.tokendir = {}\nobjectstore.backend = file", there.join("token/tokens").display())
        .unwrap();

    let restore = |arguments: &[&str]| {
        let mut command = Command::new(there.join("bin/sealtape"));
        command
            .env_clear()
            .env("SOFTHSM2_CONF", there.join("softhsm2.conf"))
            .env("XDG_STATE_HOME", there.join("state"));
        command.env("HOME", there).current_dir(there);
        command.args(["restore", "image", "--module", "/usr/lib/softhsm/libsofthsm2.so", "--token", token.trim()]);
        command.args(["--pin-file", "pin"]).args(arguments);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
        (output.stdout, said)
    };
    // To files.
    let (report, _) = restore(&["--out", "out"]);
    let report = String::from_utf8(report).unwrap();
    assert!(report.contains("end not proven"), "{report}");
    must(there, &[], "mkdir x && for f in out/*; do tar -xf $f -C x; done && ls out | wc -l | grep -qx 2");
    for (name, seed, bytes) in [("in", 8, 5_000_000), ("second", 9, 100_000)] {
        plant(&there.join("again").join(name), seed, bytes);
        must(there, &[], &format!("diff -r --no-dereference again/{name} x/{name}"));
    }
    // To a pipe, one tape file.
    let (archive, said) = restore(&["--stdout", "--file", "1"]);
    assert!(said.contains("end not proven"), "{said}");
    fs::write(there.join("second.tar"), archive).unwrap();
    must(there, &[], "mkdir y && tar -xf second.tar -C y && diff -r --no-dereference again/second y/second");
    // Machines are told the same.
    let (report, _) = restore(&["--out", "out2", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["end_proven"], false, "{report}");

    // Without the token's PIN there is nothing to be had.
    fs::write(there.join("pin"), "0000000000").unwrap();
    fs::set_permissions(there.join("pin"), fs::Permissions::from_mode(0o600)).unwrap();
    let refused = Command::new(there.join("bin/sealtape"))
        .env("SOFTHSM2_CONF", there.join("softhsm2.conf"))
        .env("XDG_STATE_HOME", there.join("state"))
        .current_dir(there)
        .args(["restore", "image", "--module", "/usr/lib/softhsm/libsofthsm2.so", "--token", token.trim()])
        .args(["--pin-file", "pin", "--stdout"])
        .output()
        .unwrap();
    assert!(!refused.status.success() && refused.stdout.is_empty(), "{refused:?}");
}
