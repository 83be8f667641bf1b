//! A partner restores a tape from its medium and a package alone, end to end with the product's programs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod e2e_support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use e2e_support::persons::{Person, json, text};
use e2e_support::programs::{must, noise};
use e2e_support::{Site, ready};
use sealtape_kms::age::{Identity, Kind};

fn keep(file: &Path, identity: &Identity) {
    fs::write(file, identity.to_text().as_bytes()).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

/// At the partner's: no installation, no token.
fn partner(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sealtape"));
    command.args(["--home", "/nonexistent", "restore"]).args(arguments).output().unwrap()
}

#[test]
fn a_partner_restores_from_medium_and_package_alone() {
    if !ready() {
        return;
    }
    let mut site = Site::new();
    let work = site.work();
    let at = |name: &str| work.join(name).display().to_string();
    fs::create_dir(work.join("in")).unwrap();
    fs::write(work.join("in/noise"), noise(9, 2 << 20)).unwrap();
    fs::write(work.join("in/text"), "x".repeat(70_000)).unwrap();
    let write = |label: &str| {
        let cartridge = site.volume(0, label, "16M");
        must(&work, &[("N", &*site.nst(0))], "tar -b 512 -cf $N in");
        site.unload(0);
        cartridge.display().to_string()
    };
    let (sent, other) = (write("SENT01"), write("OTHER1"));
    let (alice, bob) = (Person::register(&site, "alice", "ed25519"), Person::register(&site, "bob", "ed25519"));
    let (theirs, stranger) = (Identity::generate(Kind::Hybrid).unwrap(), Identity::generate(Kind::Hybrid).unwrap());
    keep(&work.join("identity"), &theirs);
    keep(&work.join("stranger"), &stranger);
    fs::write(work.join("recipient"), format!("# theirs\n{}\n", theirs.recipient().unwrap())).unwrap();

    let until = must(&work, &[], "date -u -d '+30 days' +%F").trim().to_owned();
    let ask = |volume: &str, expires: &str| {
        ["exchange", "ask", volume, "--partner", "Partner & Co", "--to", &at("recipient"), "--expires", expires]
            .map(str::to_owned)
    };
    let (code, said) = site.refused(ask("NONE01", &until));
    assert!(code == 10 && said.contains("NONE01"), "{code} {said}");
    let (code, said) = site.refused(ask("SENT01", "2020-01-01"));
    assert!(code == 2 && said.contains("is past"), "{code} {said}");
    let asked = ask("SENT01", &until);
    let request = text(&json(&site, asked.iter().map(String::as_str)), "request");
    let export = ["exchange", "export", &at("package"), "--request", &request].map(str::to_owned);
    let (code, said) = site.refused(&export);
    assert!(code == 3 && said.contains("0 of 2 approvals"), "{code} {said}");
    assert!(!work.join("package").exists());
    alice.approve(&site, &request);
    bob.approve(&site, &request);
    site.sealtape(&export);
    let key = site.sealtape(["audit", "key"]).trim().to_owned();
    let entries = site.sealtape(["audit", "show"]);
    assert!(entries.contains("export.made"), "{entries}");
    site.stop();
    let away = site.folder().join("away");
    fs::rename(site.home(), &away).unwrap();

    let (package, identity) = (at("package"), at("identity"));
    let with = |source: &str, package: &str, identity: &str, key: &str, out: &str| {
        partner(&[source, "--out", &at(out), "--package", package, "--identity", identity, "--site-key", key])
    };
    let done = with(&sent, &package, &identity, &key, "out");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    must(&work, &[], "mkdir out.x && tar -b 512 -xf out/file-00000 -C out.x && diff -r in out.x/in");

    // What does not fit is named, and nothing is written.
    let text = fs::read_to_string(&package).unwrap();
    fs::write(work.join("edited"), text.replace("Partner & Co", "Partner & Cx")).unwrap();
    fs::write(work.join("cut"), &text[..text.len() / 2]).unwrap();
    let (edited, cut) = (at("edited"), at("cut"));
    fs::copy(&identity, at("open")).unwrap();
    fs::set_permissions(at("open"), fs::Permissions::from_mode(0o644)).unwrap();
    let foreign = Site::founded(&Default::default());
    let foreign_key = fs::read_to_string(foreign.home().join("custody.pub")).unwrap().trim().to_owned();
    for (source, package, identity, key, code, part) in [
        (&other, &package, &identity, &key, 3, "has no key for generation"),
        (&sent, &package, &at("stranger"), &key, 3, "is for the recipient"),
        (&sent, &package, &at("open"), &key, 3, "others may read the identity"),
        (&sent, &package, &identity, &foreign_key, 3, "the site key given is that of"),
        (&sent, &package, &identity, &"nonsense".to_owned(), 10, "nonsense"),
        (&sent, &edited, &identity, &key, 4, "was changed"),
        (&sent, &cut, &identity, &key, 2, "cut"),
        (&sent, &at("missing"), &identity, &key, 10, "missing"),
    ] {
        let output = with(source, package, identity, key, "never");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(code) && said.contains(part), "{part}: {:?} {said}", output.status.code());
        assert!(!work.join("never").exists() || fs::read_dir(work.join("never")).unwrap().next().is_none(), "{part}");
    }
    fs::rename(&away, site.home()).unwrap();
}
