//! Destruction, end to end with the product's programs: a tape written through both services is shredded by two persons, and neither
//! loading, nor restoring from the medium, nor an older backup of the catalogue opens it any more.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod e2e_support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use e2e_support::persons::{Person, json, text};
use e2e_support::programs::{must, noise};
use e2e_support::site::SiteOptions;
use e2e_support::{Site, ready};

/// Folder for backups, on what stands for another medium; a configuration that names it.
struct Usb(tempfile::TempDir);

impl Usb {
    fn configure(&self, text: &str) -> String {
        let folder = self.0.path().display();
        text.replacen("[keyd]\n", &format!("[keyd]\nbackup_folder = \"{folder}\"\n"), 1)
    }

    fn backups(&self) -> Vec<PathBuf> {
        fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

fn written(site: &Site, label: &str, pool: &str) -> PathBuf {
    let cartridge = site.cartridge(&format!("{label}.tape"), "16M");
    site.load(0, &cartridge);
    site.sealtape(["volume", "label", "drive0", label, "--pool", pool]);
    must(&site.work(), &[("N", &*site.nst(0))], "tar -b 512 -cf $N in");
    site.unload(0);
    cartridge
}

/// Whether what tar wrote comes back from the medium by the token alone.
fn restored(site: &Site, cartridge: &Path, out: &str) -> Result<(), (i32, String)> {
    let to = site.work().join(out);
    let output = site.command().arg("restore").arg(cartridge).arg("--out").arg(&to).output().unwrap();
    if !output.status.success() {
        return Err((output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    must(
        &site.work(),
        &[],
        &format!("mkdir {out}.x && tar -b 512 -xf {out}/file-00000 -C {out}.x && diff -r in {out}.x/in"),
    );
    Ok(())
}

/// A verifier on a machine without an installation: the file and the public key.
fn verify(file: &Path, key: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sealtape"));
    command.args(["--home", "/nonexistent", "certificate", "verify"]).arg(file).args(["--key", key]).output().unwrap()
}

#[test]
fn a_volume_is_shredded_by_two_persons_and_nothing_opens_it_any_more() {
    if !ready() {
        return;
    }
    let usb = Usb(tempfile::tempdir().unwrap());
    let mut site = Site::with(&SiteOptions { configure: &|text| usb.configure(text), ..SiteOptions::default() });
    let work = site.work();
    let at = |name: &str| work.join(name).display().to_string();
    fs::create_dir(work.join("in")).unwrap();
    fs::write(work.join("in/noise"), noise(7, 1 << 20)).unwrap();
    // The only volume of its pool: the copy of the key on the medium goes with the pool's key-encryption key.
    site.sealtape(["pool", "create", "burn", "--key-on-medium", "yes"]);
    let (doomed, kept) = (written(&site, "DOOMED", "burn"), written(&site, "KEPT", "default"));
    site.sealtape(["catalogue", "backup", &at("old"), "--place", "the safe"]);
    restored(&site, &doomed, "before").unwrap();
    let (alice, bob) = (Person::register(&site, "alice", "ed25519"), Person::register(&site, "bob", "ecdsa"));

    // What makes no sense, or may not be.
    let shred = |more: &[&'static str]| [&["volume", "shred", "DOOMED", "--hsm-backups", "none"], more].concat();
    let reason = ["--reason", "end of retention"];
    let refused = |arguments: &[&str], code: i32, part: &str| {
        let (got, said) = site.refused(arguments);
        assert!(got == code && said.contains(part), "{arguments:?}: {got} {said}");
    };
    refused(&["volume", "shred", "DOOMED", "--reason", "x"], 2, "--hsm-backups");
    refused(&["volume", "shred", "--hsm-backups", "none", "--reason", "x"], 2, "VOLUMES");
    refused(&["volume", "shred", "NONE", "--hsm-backups", "none", "--reason", "x"], 10, "NONE");
    refused(&["volume", "shred", "--request", "1234"], 2, "1234");
    refused(&["volume", "shred", "--request", "00000000-0000-0000-0000-000000000000"], 2, "no destruction");
    refused(&shred(&reason), 3, "within the 30 days of pool burn");
    refused(&["pool", "set", "burn", "--in-use-days", "0"], 2, "in use of 0 days");
    site.sealtape(["pool", "set", "burn", "--in-use-days", "7"]);
    refused(&shred(&reason), 3, "within the 7 days of pool burn");
    let ask = shred(&["--even-active", reason[0], reason[1]]);
    site.sealtape(["volume", "hold", "DOOMED", "--reason", "inquiry 7"]);
    refused(&ask, 3, "inquiry 7");
    refused(&["volume", "hold", "DOOMED", "--reason", "again"], 3, "held");
    assert!(site.sealtape(["volume", "hold"]).contains("inquiry 7"));
    site.sealtape(["volume", "release", "DOOMED", "--reason", "closed"]);

    // Told before; asked; approved by two, not by one twice; carried out.
    let plan = site.sealtape(shred(&["--even-active", "--plan"]));
    assert!(plan.contains("the safe: destroyed") && plan.contains("none will be left"), "{plan}");
    let asked = json(&site, ask.iter().copied());
    let (batch, request) = (text(&asked, "batch"), text(&asked, "request"));
    let carry_out = ["volume", "shred", "--request", &request];
    refused(&carry_out, 3, "0 of 2 approvals");
    alice.approve(&site, &request);
    let again = alice.approval(&request);
    refused(&again.each_ref().map(String::as_str), 3, "has approved");
    refused(&carry_out, 3, "1 of 2 approvals");
    refused(&["certificate", "show", &batch], 6, "is not done");
    site.load(0, &doomed);
    site.unload(0);
    bob.approve(&site, &request);
    let done = json(&site, carry_out);
    assert_eq!((done["state"].as_str(), text(&done, "batch")), (Some("done"), batch.clone()));
    let [new] = usb.backups().try_into().unwrap();
    assert!(text(&done, "backup").contains(&new.display().to_string()), "{done}");
    assert!(site.sealtape(["certificate", "list"]).contains(&batch));
    assert!(!site.sealtape(["hsm", "status"]).contains("catalogue backup"));

    // The certificate, on a machine without an installation.
    let file = work.join("certificate");
    site.sealtape(["certificate", "show", &request, "--out", &at("certificate")]);
    let key = site.sealtape(["audit", "key"]).trim().to_owned();
    let verified = verify(&file, &key);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let words = fs::read_to_string(&file).unwrap();
    for part in [
        "none is left",
        "label \"DOOMED\"",
        "backups of the HSM, as stated by the operator: none",
        &*new.to_string_lossy(),
    ] {
        assert!(words.contains(part), "no {part:?} in {words}");
    }
    fs::write(work.join("forged"), words.replace("DOOMED", "DOOMEE")).unwrap();
    assert_eq!(verify(&work.join("forged"), &key).status.code(), Some(4));
    assert_eq!(verify(&work.join("missing"), &key).status.code(), Some(10));

    // Neither the services, nor the medium with the token.
    let opens_by_loading = |site: &Site, cartridge: &Path| {
        site.load(0, cartridge);
        let node = site.nst(0);
        let read = Command::new("tar").args(["-b", "512", "-tf"]).arg(&node).output().unwrap();
        let status = site.status(0).to_string();
        site.unload(0);
        (read.status.success(), status)
    };
    let (opens, said) = opens_by_loading(&site, &doomed);
    assert!(!opens && said.contains("destroyed"), "{said}");
    assert!(opens_by_loading(&site, &kept).0);
    let (code, said) = restored(&site, &doomed, "after").unwrap_err();
    assert_eq!(code, 3, "{said}");
    restored(&site, &kept, "kept").unwrap();
    site.stop();

    // Nor a catalogue from before; the one that the destruction made opens the rest.
    let token = site.home().join("keyd").display().to_string();
    let restore = |backup: &str, to: &str| {
        ["catalogue", "restore", backup, "--to", &at(to), "--token-from", &token].map(str::to_owned)
    };
    let (code, said) = site.refused(restore(&at("old"), "then"));
    assert!(code == 3 && said.contains("destroyed with a batch of keys"), "{code} {said}");
    site.sealtape(restore(&new.display().to_string(), "now"));
    fs::rename(site.home().join("keyd"), site.folder().join("lost")).unwrap();
    fs::rename(work.join("now"), site.home().join("keyd")).unwrap();
    site.start();
    let (opens, said) = opens_by_loading(&site, &doomed);
    assert!(!opens && said.contains("destroyed"), "{said}");
    assert!(opens_by_loading(&site, &kept).0);
    site.stop();
}
