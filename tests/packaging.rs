//! What gets installed: units, users and folders. The guide's scores, and names that have to agree.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const UNITS: [&str; 2] = ["sealtape-keyd.service", "sealtaped.service"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Values of `key=` in a unit, in order.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

/// The unit in `folder`, starting the binaries of this build.
fn unit_of_this_build(folder: &Path, name: &str) -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_sealtaped")).parent().unwrap();
    let text = read(&format!("systemd/{name}"));
    assert!(values(&text, "ExecStart")[0].starts_with("/usr/bin/sealtape"), "{name}");
    let path = folder.join(name);
    std::fs::write(&path, text.replace("ExecStart=/usr/bin", &format!("ExecStart={}", built.display()))).unwrap();
    path
}

fn systemd_analyze(arguments: &[&str], unit: &Path) -> Output {
    let mut command = Command::new("systemd-analyze");
    command.args(arguments).arg(unit);
    command.output().unwrap_or_else(|error| panic!("systemd-analyze: {error}; `cargo xtask setup test` installs it"))
}

#[test]
fn systemd_finds_no_fault_with_the_units() {
    let folder = tempfile::tempdir().unwrap();
    // Both first: one names the other.
    let units = UNITS.map(|name| unit_of_this_build(folder.path(), name));
    for unit in units {
        let output = systemd_analyze(&["verify", "--man=no", "--recursive-errors=no"], &unit);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{}: {said}", unit.display());
    }
}

#[test]
fn sandboxes_are_as_tight_as_the_guide_says() {
    let folder = tempfile::tempdir().unwrap();
    let guide = read("docs/operating.md");
    for name in UNITS {
        let row = guide.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).unwrap();
        let told: f64 = row.split('|').nth(2).unwrap().trim().parse().unwrap();
        let unit = unit_of_this_build(folder.path(), name);
        let output = systemd_analyze(&["security", "--offline=true", "--no-pager"], &unit);
        let said = String::from_utf8_lossy(&output.stdout);
        let overall = said.lines().find(|line| line.contains("Overall exposure level")).unwrap();
        let score: f64 = overall.split(": ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        // Versions of systemd weigh a little differently.
        assert!((score - told).abs() <= 0.5, "{name}: {score}, and docs/operating.md says {told}");
    }
}

#[test]
fn every_user_and_group_is_made() {
    let sysusers = read("systemd/sysusers.d/sealtape.conf");
    let mut known = BTreeSet::from(["root", "tape"]);
    known.extend(
        sysusers.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_whitespace().nth(1)),
    );

    for name in UNITS {
        let unit = read(&format!("systemd/{name}"));
        for key in ["User", "Group", "SupplementaryGroups"] {
            let named = values(&unit, key);
            assert_eq!(named.len(), 1, "{key}= in {name}");
            assert!(known.contains(named[0]), "{name}: {key}={} is made nowhere", named[0]);
        }
    }
    let tmpfiles = read("systemd/tmpfiles.d/sealtape.conf");
    for line in tmpfiles.lines().filter(|line| line.starts_with('d')) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        assert!(known.contains(fields[3]) && known.contains(fields[4]), "tmpfiles.d: {line}");
    }
}

#[test]
fn the_two_services_share_no_user_and_no_state() {
    let [keyd, data] = UNITS.map(|name| read(&format!("systemd/{name}")));
    for key in ["User", "Group", "StateDirectory"] {
        assert_ne!(values(&keyd, key), values(&data, key), "{key}=");
    }
    let pin = |unit: &str| values(unit, "LoadCredential").iter().any(|value| value.starts_with("hsm-pin:"));
    assert!(pin(&keyd) && !pin(&data), "the PIN goes to the key authority only");
    for unit in [&keyd, &data] {
        assert_eq!(values(unit, "LimitCORE"), ["0"]);
        assert_eq!(values(unit, "StateDirectoryMode"), ["0700"]);
        assert_eq!(values(unit, "Type"), ["notify"]);
    }
}

#[test]
fn the_sample_configuration_is_valid() {
    use sealtape::service::config::{Config, PinSource};
    use sealtape::service::home::Home;

    let home = Home::find(Some(Path::new("/var/lib/sealtape"))).unwrap();
    let file = root().join("systemd/sealtape.toml");
    // Users and groups are looked up, and those of an installation are not on this machine.
    let mut text = read("systemd/sealtape.toml");
    let sysusers = read("systemd/sysusers.d/sealtape.conf");
    for name in ["sealtape-operators", "sealtape"] {
        let quoted = format!("\"{name}\"");
        assert!(text.contains(&quoted) && sysusers.split_whitespace().any(|word| word == name), "{name}");
        text = text.replace(&quoted, "\"root\"");
    }
    let config = Config::parse(home, file, &text).unwrap();
    let tmpfiles = read("systemd/tmpfiles.d/sealtape.conf");
    for folder in [config.nodes(), config.home.run()] {
        assert!(tmpfiles.contains(&format!(" {} ", folder.display())), "{} is made nowhere", folder.display());
    }
    for (unit, state) in UNITS.iter().zip([config.keyd_state(), config.data_path_state()]) {
        let folder = values(&read(&format!("systemd/{unit}")), "StateDirectory")[0].to_owned();
        assert_eq!(Path::new("/var/lib").join(folder), state, "{unit}");
    }
    let PinSource::Credential(name) = config.keyd.pin else { panic!("the PIN comes as a credential") };
    let keyd = read("systemd/sealtape-keyd.service");
    assert!(values(&keyd, "LoadCredential").iter().any(|value| value.starts_with(&format!("{name}:"))), "{name}");
}

/// Two users, their groups and folders, credentials, and the capabilities that the units leave them.
#[test]
fn services_run_as_users_of_their_own() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root, to become other users");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let binaries = Path::new(env!("CARGO_BIN_EXE_sealtaped")).parent().unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "bash"])
        .arg(root().join("tests/packaging_support/two_users.sh"))
        .args([binaries, folder.path()])
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && said.contains("all as it should be"), "{said}");
}

const RULES: &str = "systemd/60-sealtape.rules";

#[test]
fn udev_rules_name_what_the_virtual_drive_says() {
    let rules = read(RULES);
    // The designator is vendor, 8 characters, and the mark; its third word is the name.
    let said = format!("{:8}{}", "SEALTAPE", sealtape_drivers::sg::VIRTUAL_DRIVE_MARK);
    assert!(rules.contains(&format!("'{said}[A-Za-z0-9._-]*'")), "the rules look for something else than {said:?}");
    assert_eq!(said.split_whitespace().count(), 2);
    // Names of the same devices that others give are replaced, so it has to be later.
    assert!(Path::new(RULES).file_name().unwrap() > std::ffi::OsStr::new("60-persistent-storage-tape.rules"));
    let sysusers = read("systemd/sysusers.d/sealtape.conf");
    for key in ["OWNER", "GROUP"] {
        let name = rules.split(&format!("{key}=\"")).nth(1).unwrap().split('"').next().unwrap();
        assert!(sysusers.lines().any(|line| line.split_whitespace().nth(1) == Some(name)), "{key} {name}");
    }
    assert!(read("systemd/sealtaped.service").contains("User=sealtape\n") && rules.contains("OWNER=\"sealtape\""));
}

#[test]
fn udev_finds_no_fault_with_the_rules() {
    let known = Command::new("udevadm").args(["verify", "--help"]).output();
    if !known.is_ok_and(|output| output.status.success()) {
        println!("skipped: udevadm cannot verify rules before systemd 254; the guest lab runs them in udev");
        return;
    }
    let output = Command::new("udevadm").args(["verify", "--resolve-names=never"]).arg(root().join(RULES)).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
