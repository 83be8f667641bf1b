//! Bacula's own test of a tape drive, `btape`, on the sealed node, as the user that its storage daemon has.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod e2e_support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use e2e_support::programs::{has, must};
use e2e_support::site::SiteOptions;
use e2e_support::{Site, ready};

/// A site for Bacula's user, with a labelled cartridge, and a storage daemon's configuration.
struct Bacula {
    site: Site,
    /// `None` when this is not root: then everything runs as this user.
    user: Option<&'static str>,
    folder: PathBuf,
}

impl Bacula {
    fn new(capacity: &str) -> Option<Self> {
        if !ready() || !has("btape") {
            return None;
        }
        let root = nix::unistd::geteuid().is_root();
        let user = (root && nix::unistd::User::from_name("bacula").unwrap().is_some()).then_some("bacula");
        let site = Site::with(&SiteOptions {
            configure: &|text| match user {
                None => text.to_owned(),
                Some(user) => text.replace(
                    "[data_path]\n",
                    &format!("[data_path]\nnode_owner = \"{user}\"\nnode_group = \"tape\"\n"),
                ),
            },
            ..SiteOptions::default()
        });
        site.volume(0, "BACULA", capacity);
        let folder = site.folder().join("bacula");
        fs::create_dir(&folder).unwrap();
        let text = format!(
            "Storage {{\n Name = test-sd\n WorkingDirectory = \"{folder}\"\n Pid Directory = \"{folder}\"\n}}\n\
             Director {{\n Name = test-dir\n Password = \"unused\"\n}}\n\
             Device {{\n Name = Sealed\n Media Type = LTO\n Archive Device = {node}\n Device Type = Tape\n \
             AutomaticMount = yes\n AlwaysOpen = no\n RemovableMedia = yes\n RandomAccess = no\n \
             Maximum Block Size = 262144\n}}\n\
             Messages {{\n Name = Standard\n director = test-dir = all\n}}\n",
            folder = folder.display(),
            node = site.nst(0).display(),
        );
        fs::write(folder.join("sd.conf"), text).unwrap();
        if let Some(user) = user {
            let user = nix::unistd::User::from_name(user).unwrap().unwrap();
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
            for path in [folder.clone(), folder.join("sd.conf")] {
                chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
            }
        }
        Some(Self { site, user, folder })
    }

    /// Gives `btape` its answers on standard input; gives what it says.
    fn btape(&self, answers: &str) -> String {
        let mut command = Command::new("timeout");
        command.arg("170");
        if let Some(user) = self.user {
            command.args(["runuser", "-u", user, "--"]);
        }
        command.args(["btape", "-c"]).arg(self.folder.join("sd.conf")).arg("Sealed");
        command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(answers.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "btape: {}\n{said}", output.status);
        said
    }

    fn finish(mut self) {
        self.site.unload(0);
        self.site.stop();
    }
}

/// 10 000 blocks written and re-read by seeking, appending after a move to the end, backing over a filemark, and
/// forward spacing.
#[test]
fn btape_test_succeeds() {
    let Some(bacula) = Bacula::new("2G") else { return };
    let said = bacula.btape("test\nquit\n");
    for line in [
        "=== Test Succeeded. End Write, rewind, and re-read test ===",
        "We should be in file 3. I am at file 3. This is correct!",
        "Total files=4, blocks=7, bytes = 1,834,560",
        "We should be in file 4. I am at file 4. This is correct!",
        "Block re-read correct. Test succeeded!",
        "We should be in file 1. I am at file 1. This is correct!",
        "We should be in file 5. I am at file 5. This is correct!",
        "=== End Forward space files test ===",
    ] {
        assert!(said.contains(line), "btape did not say {line:?}:\n{said}");
    }
    assert!(!said.contains("This is NOT correct") && !said.to_lowercase().contains("failed"), "{said}");
    bacula.finish();
}

/// Bacula's label, and a cartridge filled to its end: the last block before the end of the medium is there.
#[test]
fn btape_labels_and_fills_a_cartridge() {
    let Some(bacula) = Bacula::new("64M") else { return };
    let said = bacula.btape("label\nTestVol1\nreadlabel\nquit\n");
    assert!(
        said.contains("Wrote Volume label for volume \"TestVol1\"") && said.contains("Volume label read correctly"),
        "{said}"
    );
    assert!(said.contains("VolName           : TestVol1"), "{said}");
    let said = bacula.btape("fill\ns\n\nquit\n");
    for line in ["Re-read of last block succeeded.", "The last block on the tape matches. Test succeeded."] {
        assert!(said.contains(line), "btape did not say {line:?}:\n{said}");
    }
    // Bacula's text is not on the medium.
    let image = bacula.site.folder().join("BACULA.tape");
    let found = must(Path::new("/"), &[("I", &image)], "grep -a -c -e 'Bacula 1.0 immortal' -e TestVolume1 $I || true");
    assert_eq!(found.trim(), "0", "Bacula's label stands on the medium");
    bacula.finish();
}
