//! Disaster, end to end with the product's programs: a tape written through both services by GNU tar comes back from medium and shares
//! alone, from a partner's package alone, and the catalogue from its backup.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod e2e_support;

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e_support::programs::{must, noise};
use e2e_support::{Site, ready};

fn same(site: &Site, out: &str) {
    // Tape file 0 is what tar wrote.
    must(
        &site.work(),
        &[],
        &format!("mkdir {out}.x && tar -b 512 -xf {out}/file-00000 -C {out}.x && diff -r in {out}.x/in"),
    );
}

#[test]
fn a_tape_comes_back_from_shares_alone_and_the_catalogue_from_its_backup() {
    if !ready() {
        return;
    }
    let mut site = Site::new();
    let work = site.work();
    let at = |name: &str| work.join(name).display().to_string();
    site.sealtape(["recovery", "init", "--shares", "3", "--threshold", "2", "--dir", &at("sheets")]);
    let shown = site.sealtape(["recovery", "install", &at("sheets/recovery-public.json")]);
    assert!(shown.contains("any 2 of 3"), "{shown}");

    let cartridge = site.cartridge("REC001.tape", "64M");
    site.load(0, &cartridge);
    site.label(0, "REC001");
    fs::create_dir(work.join("in")).unwrap();
    fs::write(work.join("in/noise"), noise(5, 3 << 20)).unwrap();
    fs::write(work.join("in/text"), "x".repeat(100_000)).unwrap();
    must(&work, &[("N", &*site.nst(0))], "tar -b 512 -cf $N in");
    site.unload(0);

    // A drill, with its canary and its report as files.
    site.sealtape(["recovery", "canary", &at("canary")]);
    let share = |n: u8| at(&format!("sheets/share-{n}-of-3.txt"));
    site.sealtape([
        "recovery",
        "drill",
        &at("canary"),
        "--share",
        &share(1),
        "--share",
        &share(3),
        "--report",
        &at("report"),
    ]);
    site.sealtape(["recovery", "drill", "--enter", &at("report")]);
    let (code, said) = site.refused(["recovery", "drill", "--enter", &at("report")]);
    assert!(code == 2 && said.contains("was entered on"), "{code} {said}");
    let listed = site.sealtape(["recovery", "list"]);
    assert!(listed.contains("1 of 1 data keys") || listed.contains("2 of 2 data keys"), "{listed}");
    site.sealtape(["catalogue", "backup", &at("backup")]);
    site.stop();

    // The home folder is out of reach: medium and shares.
    let away = site.folder().join("away");
    let home = site.home();
    fs::rename(&home, &away).unwrap();
    let cartridge = if cartridge.exists() { cartridge } else { away.join(cartridge.strip_prefix(&home).unwrap()) };
    let image = cartridge.display().to_string();
    site.sealtape(["restore", &image, "--out", &at("out"), "--share", &share(2), "--share", &share(3)]);
    same(&site, "out");
    for (arguments, what) in [(vec![share(1)], "1 of 2 shares"), (vec![share(1), share(1)], "same share")] {
        let mut command = vec!["restore".to_owned(), image.clone(), "--out".into(), at("never")];
        arguments.iter().for_each(|s| command.extend(["--share".to_owned(), s.clone()]));
        let (code, said) = site.refused(&command);
        assert!(code == 3 && said.contains(what), "{code} {said}");
    }
    let sheet = fs::read_to_string(share(1)).unwrap();
    fs::write(at("damaged"), sheet.replacen("sealtape-share1qy", "sealtape-share1qq", 1).replacen('q', "p", 3))
        .unwrap();
    let (code, said) =
        site.refused(["restore", &image, "--out", &at("never"), "--share", &at("damaged"), "--share", &share(2)]);
    assert!(code == 4 && said.contains("damaged is damaged"), "{code} {said}");

    // The catalogue on a new machine, with the old token.
    let (restored, token) = (at("restored"), away.join("keyd").display().to_string());
    site.sealtape(["catalogue", "restore", &at("backup"), "--to", &restored, "--token-from", &token]);
    fs::rename(&away, &home).unwrap();
    fs::rename(home.join("keyd"), site.folder().join("lost")).unwrap();
    fs::rename(&restored, home.join("keyd")).unwrap();
    site.start();
    site.load(0, &cartridge_at(&home, &away, &cartridge));
    must(&work, &[("N", &*site.nst(0))], "mkdir back && tar -b 512 -xf $N -C back && diff -r in back/in");
    site.unload(0);
    let log = at("log.jsonl");
    site.sealtape(["audit", "export", &log]);
    let key = site.sealtape(["audit", "key"]);
    site.sealtape(["audit", "verify", &log, "--key", key.trim()]);
    site.stop();
}

fn cartridge_at(home: &Path, away: &Path, cartridge: &Path) -> std::path::PathBuf {
    cartridge.strip_prefix(away).map_or_else(|_| cartridge.to_owned(), |inside| home.join(inside))
}

/// What a stranger's program makes of our shares and files is held in `kms/tests/recovery.rs`; here, that no secret is in arguments.
#[test]
fn sheets_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("sheets");
    let made = Command::new(env!("CARGO_BIN_EXE_sealtape"))
        .args(["--json", "recovery", "init", "--shares", "2", "--threshold", "2", "--dir"])
        .arg(&dir)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let said = [made.stdout, made.stderr].concat();
    assert!(!String::from_utf8_lossy(&said).contains("sealtape-share1"));
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!fs::read_to_string(&path).unwrap().contains("AGE-SECRET-KEY"));
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 3);
}
