//! Amanda 3.5 on the sealed node, as its own user: `amlabel`, `amcheck`, `amdump`, `amcheckdump` and `amfetchdump`; one
//! file system as it is, one through `server_encrypt` with `sealtape-amcrypt`.
//!
//! Amanda's paths are compiled in: it is given a mount namespace in which they lead into the test's folder, and reaches
//! its one client, the same machine, without a network (`auth "local"`).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod e2e_support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use e2e_support::programs::{Ran, has, must, plant, shell};
use e2e_support::site::SiteOptions;
use e2e_support::{Site, ready};

const USER: &str = "backup";
/// Where the test's folder is seen in Amanda's namespace.
const THERE: &str = "/var/lib/amanda";

struct Amanda {
    site: Site,
    // Not in shared memory, which may not execute.
    folder: tempfile::TempDir,
}

fn amanda_is_here() -> bool {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: Amanda runs as a user of its own in a mount namespace, which needs root");
        return false;
    }
    if nix::unistd::User::from_name(USER).unwrap().is_none() {
        eprintln!("SKIPPED: there is no user {USER}");
        return false;
    }
    for folder in [THERE, "/etc/amanda", "/var/log/amanda"] {
        if !Path::new(folder).is_dir() {
            eprintln!("SKIPPED: {folder} is not there (Debian: amanda-server, amanda-client)");
            return false;
        }
    }
    ready()
        && ["amlabel", "amcheck", "amdump", "amfetchdump", "amcheckdump", "unshare", "runuser"].iter().all(|p| has(p))
}

impl Amanda {
    fn new() -> Self {
        let site = Site::with(&SiteOptions {
            configure: &|text| {
                text.replace(
                    "\n[data_path]\n",
                    &format!(
                        "stream_group = \"{USER}\"\n\n[data_path]\nnode_owner = \"{USER}\"\nnode_group = \"tape\"\n"
                    ),
                )
            },
            ..SiteOptions::default()
        });
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        fs::set_permissions(here, fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["etc/test", "log", "tmp", "state/info", "state/log", "state/index", "gnutar-lists"] {
            fs::create_dir_all(here.join(name)).unwrap();
        }
        plant(&here.join("data/plain"), 21, 3_000_000);
        plant(&here.join("data/crypted"), 22, 2_000_000);
        fs::copy(env!("CARGO_BIN_EXE_sealtape-amcrypt"), here.join("sealtape-amcrypt")).unwrap();
        // Amanda's environment is its own: the filter is told its home folder by a script (or /etc/sealtape/amcrypt.conf).
        let filter =
            format!("#!/bin/sh\nSEALTAPE_HOME={} exec {THERE}/sealtape-amcrypt \"$@\"\n", site.home().display());
        fs::write(here.join("amcrypt"), filter).unwrap();
        fs::set_permissions(here.join("amcrypt"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(here.join("etc/test/amanda.conf"), configuration(&site.nst(0))).unwrap();
        let disks = format!("localhost {THERE}/data/plain plain\nlocalhost {THERE}/data/crypted crypted\n");
        fs::write(here.join("etc/test/disklist"), disks).unwrap();
        fs::write(here.join("state/tapelist"), "").unwrap();
        fs::write(here.join(".amandahosts"), format!("localhost {USER} amdump\n")).unwrap();
        must(here, &[], &format!("chmod 600 .amandahosts && chown -R {USER}:{USER} ."));
        Self { site, folder }
    }

    /// Runs a script as Amanda's user, in its namespace.
    fn run_as(&self, user: &str, script: &str) -> Ran {
        let here = self.folder.path();
        fs::write(here.join("script"), format!("set -e -o pipefail; cd {THERE}/tmp\n{script}\n")).unwrap();
        // /tmp is Amanda's too, unless the site stands there.
        let enter = format!(
            "mount --bind $H {THERE} && mount --bind {THERE}/etc /etc/amanda && mount --bind {THERE}/log /var/log/amanda && \
             case $S in /tmp/*) ;; *) mount --bind {THERE}/tmp /tmp;; esac && \
             exec timeout 150 runuser -u {user} -- env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME={THERE} \
             bash {THERE}/script"
        );
        let variables = [("H", here), ("S", self.site.folder()), ("E", Path::new(&enter))];
        shell(Path::new("/"), &variables, "unshare -m --propagation private bash -c \"$E\" 2>&1")
    }

    #[track_caller]
    fn run(&self, script: &str) -> String {
        let ran = self.run_as(USER, script);
        assert_eq!(ran.code, Some(0), "{script}\n{}\n{}\n{}", ran.stdout, ran.stderr, self.logs());
        ran.stdout
    }

    /// Amanda's own account of its runs.
    fn logs(&self) -> String {
        must(self.folder.path(), &[], "cat state/log/log.* 2>/dev/null || true")
    }

    /// Fetches what the run onto `label` saved, from the volume in the drive, and compares.
    #[track_caller]
    fn fetch_and_compare(&self, label: &str) {
        self.run(&format!(
            "rm -rf got; mkdir got; cd got\n\
             run=$(awk '$2 == \"{label}\" {{print $1}}' {THERE}/state/tapelist)\n\
             for d in plain crypted; do amfetchdump -a -p test localhost {THERE}/data/$d $run > $d.tar; mkdir $d; \
             tar -xf $d.tar -C $d; diff -r --no-dereference {THERE}/data/$d $d; done"
        ));
    }
}

fn configuration(node: &Path) -> String {
    format!(
        r#"org "sealtape"
mailto ""
dumpuser "{USER}"
inparallel 1
dumpcycle 0
runspercycle 1
tapecycle 3 tapes
runtapes 1
tpchanger "chg-single:tape:{node}"
tapetype SEALED
labelstr "^DAILY-[0-9]+$"
infofile "{THERE}/state/info"
logdir "{THERE}/state/log"
indexdir "{THERE}/state/index"
tapelist "{THERE}/state/tapelist"
etimeout 60
dtimeout 60
ctimeout 30
define tapetype SEALED {{
  length 900 mbytes
  filemark 0 kbytes
  blocksize 256 kbytes
}}
define dumptype plain {{
  auth "local"
  program "GNUTAR"
  compress none
  index yes
  holdingdisk never
}}
define dumptype crypted {{
  plain
  encrypt server
  server_encrypt "{THERE}/amcrypt"
  server_decrypt_option "-d"
}}
"#,
        node = node.display()
    )
}

#[test]
fn amanda_labels_dumps_and_restores() {
    if !amanda_is_here() {
        return;
    }
    let amanda = Amanda::new();
    let site = &amanda.site;
    let first = site.volume(0, "FIRST", "1G");

    let said = amanda.run("amlabel test DAILY-1");
    assert!(said.contains("Found an empty tape.") && said.contains("Success!"), "{said}");
    let said = amanda.run("amcheck test");
    assert!(
        said.contains("volume 'DAILY-1'") && said.contains("0 problems found") && !said.contains("ERROR"),
        "{said}"
    );
    amanda.run("amdump test");
    let log = amanda.logs();
    assert_eq!(log.matches("\nSUCCESS dumper localhost").count(), 2, "{log}");
    assert!(!log.contains("\nFAIL") && !log.contains("\nSTRANGE") && !log.contains("\nERROR"), "{log}");
    let said = amanda.run("amcheckdump test");
    assert!(said.contains("All images (2) successfully validated"), "{said}");
    amanda.fetch_and_compare("DAILY-1");

    // What Amanda put on its tape for the second file system is a sealed stream, known to the key authority.
    let streams = site.sealtape(["volume", "list", "--streams", "--json"]);
    assert!(streams.contains("stream"), "{streams}");
    let files = must(
        Path::new("/"),
        &[("N", &site.nst(0))],
        "mt -f $N rewind; for f in 1 2; do mt -f $N asf $f; dd if=$N bs=256k skip=1 count=1 2>/dev/null | head -c 17 | tr '\\0' _; echo; done",
    );
    assert_eq!(files.matches("SEALTAPE VOLUME 1").count(), 1, "{files}");

    // Another cartridge, and the first again.
    site.unload(0);
    site.volume(0, "SECOND", "1G");
    amanda.run("amlabel test DAILY-2");
    fs::write(amanda.folder.path().join("data/plain/one"), "changed").unwrap();
    amanda.run("amdump test");
    let log = amanda.logs();
    assert_eq!(log.matches("\nSUCCESS dumper localhost").count(), 4, "{log}");
    amanda.fetch_and_compare("DAILY-2");
    site.unload(0);
    site.load(0, &first);
    let said = amanda.run("amtape test current");
    assert!(said.contains("DAILY-1"), "{said}");
    fs::write(amanda.folder.path().join("data/plain/one"), "1").unwrap();
    amanda.fetch_and_compare("DAILY-1");

    // Whoever is neither the owner nor in the groups gets nothing, of the node or of the filter.
    let ran = amanda.run_as("nobody", &format!("head -c 1 {} ", site.nst(0).display()));
    assert!(ran.code != Some(0) && ran.stdout.contains("Permission denied"), "{} {}", ran.stdout, ran.stderr);
    let ran = amanda.run_as("nobody", &format!("echo secret | {THERE}/amcrypt | wc -c"));
    assert_ne!(ran.code, Some(0), "{} {}", ran.stdout, ran.stderr);

    let mut site = amanda.site;
    site.unload(0);
    site.stop();
}
