//! The main job with real programs: through the node, sealed, with both services and a token. Every restore is
//! compared byte for byte.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod e2e_support;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use e2e_support::programs::{has, must, noise, plant, shell};
use e2e_support::{Site, ready};
use nix::errno::Errno;

/// A site with one labelled cartridge of 1 GiB in its drive.
fn loaded() -> Option<Site> {
    ready().then(|| {
        let site = Site::new();
        site.volume(0, "FIRST", "1G");
        site
    })
}

/// Unloads and stops; the services have to end cleanly.
fn finish(mut site: Site) {
    site.unload(0);
    site.stop();
}

#[test]
fn archives_with_tar_forward_and_backward() {
    let Some(site) = loaded() else { return };
    let (work, node) = (site.work(), site.nst(0));
    // tar's own 10 KiB, 256 KiB, and one block of 512 bytes.
    for (number, blocking) in [(0, 20), (1, 512), (2, 1)] {
        plant(&work.join(format!("in{number}")), number, 700_000);
        must(&work, &[("N", &node)], &format!("tar -b {blocking} -cf $N in{number}"));
    }
    for (number, blocking) in [(2, 1), (0, 20), (1, 512)] {
        let script = format!(
            "mt -f $N rewind && mt -f $N fsf {number} && mkdir out && tar -b {blocking} -xf $N -C out && \
             diff -r --no-dereference in{number} out/in{number} && rm -r out"
        );
        must(&work, &[("N", &node)], &script);
    }
    let names = must(&work, &[("N", &node)], "mt -f $N eod && mt -f $N bsfm 2 && tar -b 1 -tf $N");
    assert!(names.starts_with("in2/"), "{names}");
    // The service's own look at all of it.
    site.sealtape(["volume", "verify", "drive0"]);
    finish(site);
}

#[test]
fn tar_appends_compares_and_verifies() {
    let Some(site) = loaded() else { return };
    let work = site.work();
    plant(&work.join("first"), 1, 300_000);
    plant(&work.join("second"), 2, 200_000);
    let variables = [("N", &*site.nst(0)), ("S", &*site.st(0))];
    for blocking in [20, 512] {
        let script = format!(
            "tar -b {blocking} -cf $S first && tar -b {blocking} -rf $S second && \
             tar -b {blocking} -tf $S | grep ^second/large >/dev/null && tar -b {blocking} -df $S && \
             mkdir out && tar -b {blocking} -xf $S -C out && diff -r --no-dereference first out/first && \
             diff -r --no-dereference second out/second && rm -r out && \
             mt -f $N rewind && tar -b {blocking} -cWf $N first second && mt -f $N rewind && tar -b {blocking} -df $N && \
             mt -f $N rewind"
        );
        must(&work, &variables, &script);
    }
    let ran = shell(&work, &variables, "echo changed >> first/one; tar -b 512 -df $S");
    assert_eq!(ran.code, Some(1), "a difference is found, too: {}", ran.stderr);
    assert!(ran.stdout.contains("first/one"), "{}", ran.stdout);
    finish(site);
}

#[test]
fn tar_goes_on_over_three_cartridges() {
    if !ready() {
        return;
    }
    let mut site = Site::new();
    for label in ["SPAN-3", "SPAN-2", "SPAN-1"] {
        site.volume(0, label, "4M");
        site.unload(0);
    }
    site.load(0, &site.folder().join("SPAN-1.tape"));
    let work = site.work();
    plant(&work.join("in"), 3, 8 << 20);
    // What an operator does when tar asks for the next volume.
    let script = work.join("next-volume");
    let text = format!(
        "#!/bin/sh -e\nexec >>{work}/changes 2>&1\nset -x\n{sealtape} --home {home} volume unload drive0\n\
         {sealtape} --home {home} volume load drive0 {folder}/SPAN-$TAR_VOLUME.tape\n",
        work = work.display(),
        sealtape = env!("CARGO_BIN_EXE_sealtape"),
        home = site.home().display(),
        folder = site.folder().display(),
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let said = || fs::read_to_string(work.join("changes")).unwrap_or_default();
    let variables = [("N", &*site.nst(0)), ("V", &*script)];
    let ran = shell(&work, &variables, "tar -cMf $N --new-volume-script=$V in");
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stderr, said());
    site.unload(0);
    site.load(0, &site.folder().join("SPAN-1.tape"));
    let restore = "mkdir out && tar -xMf $N --new-volume-script=$V -C out && diff -r --no-dereference in out/in";
    let ran = shell(&work, &variables, restore);
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stderr, said());
    // Two changes for writing, two for reading: all three were needed.
    assert_eq!(said().matches("unload drive0").count(), 4);
    site.unload(0);
    site.stop();
}

#[test]
fn dd_keeps_every_block_size() {
    let Some(site) = loaded() else { return };
    let (work, node) = (site.work(), site.nst(0));
    // The longest record depends on the machine's FUSE pages: the service says which it is.
    let longest = longest_block(&node);
    let sizes: Vec<usize> = [512, 513, 1000, 4096, 10_240, 65_536, 262_144, 524_288, 1 << 20]
        .into_iter()
        .filter(|size| *size <= longest)
        .collect();
    assert!(sizes.len() >= 8, "blocks up to {longest} bytes only");
    let blocks = |size: usize| (2_000_000 / size).clamp(3, 200);
    for size in &sizes {
        fs::write(work.join(format!("in{size}")), noise(*size as u64, size * blocks(*size))).unwrap();
        must(&work, &[("N", &node)], &format!("dd if=in{size} of=$N bs={size} 2>/dev/null"));
    }
    must(&work, &[("N", &node)], "mt -f $N rewind");
    for size in &sizes {
        // The buffer is longer than the record: one read, one record.
        let buffer = (size * 2).min(longest);
        let script = format!("dd if=$N of=out bs={buffer} 2>log && cmp in{size} out && cat log");
        let log = must(&work, &[("N", &node)], &script);
        let count = blocks(*size);
        let full = if buffer == *size { format!("{count}+0 records in") } else { format!("0+{count} records in") };
        assert!(log.contains(&full), "block size {size}: {log}");
    }
    finish(site);
}

/// The longest write that the node takes; leaves the tape at its beginning.
fn longest_block(node: &Path) -> usize {
    let mut tape = OpenOptions::new().write(true).open(node).unwrap();
    let record = noise(1, 1 << 20);
    let longest =
        [1 << 20, (1 << 20) - 4096].into_iter().find(|length| tape.write(&record[..*length]).is_ok()).unwrap();
    drop(tape);
    must(Path::new("/"), &[("N", node)], "mt -f $N rewind");
    longest
}

#[test]
fn cpio_dump_and_mbuffer_restore() {
    let Some(site) = loaded() else { return };
    let (work, node) = (site.work(), site.nst(0));
    let variables = [("N", &*node)];
    plant(&work.join("in"), 5, 900_000);
    if has("cpio") {
        for block in [512, 65_536, 262_144] {
            let script = format!(
                "find in | cpio -o -H newc -C {block} --quiet > $N && mt -f $N rewind && mkdir out && cd out && \
                 cpio -id -C {block} --quiet < $N && cd .. && diff -r --no-dereference in out/in && rm -r out && mt -f $N rewind"
            );
            must(&work, &variables, &script);
        }
    }
    if has("mbuffer") {
        must(&work, &variables, "mbuffer -q -s 64k -m 1M -f -i in/large -o $N && mt -f $N rewind");
        must(&work, &variables, "mbuffer -q -s 64k -m 1M -i $N -o large && cmp in/large large && mt -f $N rewind");
    }
    // dump takes a file for a folder of the file system around it, unless no table of mounts says so:
    // it is given an /etc of its own, for which one has to be root.
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: dump needs root here");
    } else if has("dump") && has("restore") && has("mke2fs") && has("unshare") {
        must(
            &work,
            &variables,
            "mkdir etc && cp /etc/passwd /etc/group etc && touch etc/fstab etc/mtab && mke2fs -q -t ext2 -d in image 8M",
        );
        must(&work, &variables, "unshare -m bash -c 'mount --bind etc /etc && dump -0 -a -f $N image'");
        must(&work, &variables, "mt -f $N rewind && mkdir out && cd out && restore -r -f $N");
        must(&work, &variables, "rm out/restoresymtable && rmdir out/lost+found && diff -r --no-dereference in out");
    }
    finish(site);
}

#[test]
fn write_rewind_read_without_a_pause() {
    let Some(site) = loaded() else { return };
    let (work, node) = (site.work(), site.nst(0));
    let rounds = if std::env::var_os("SEALTAPE_LONG").is_some() { 10_000 } else { 200 };
    for file in 0..10 {
        fs::write(work.join(format!("file{file}")), noise(file, 3_000 * file as usize)).unwrap();
    }
    let script = format!(
        "for ((i = 0; i < {rounds}; i++)); do f=file$((i % 10)); tar cf $N $f && mt -f $N rewind && t=$(tar tf $N) && \
         [ $t = $f ] && mt -f $N rewind || {{ echo \"round $i: '$t'\" >&2; exit 1; }}; done; \
         tar xOf $N | cmp - file9"
    );
    let begun = Instant::now();
    must(&work, &[("N", &node)], &script);
    println!("{rounds} rounds in {:.1} s", begun.elapsed().as_secs_f64());
    // Each round wrote at the beginning: a generation of its own, but for the first, which used the label's.
    assert_eq!(site.status(0)["volume"]["generation"].as_u64(), Some(rounds));
    finish(site);
}

#[test]
fn shared_descriptors_are_one_open_and_a_second_opener_is_refused() {
    let Some(site) = loaded() else { return };
    let (work, node) = (site.work(), site.nst(0));
    let mut one = OpenOptions::new().write(true).open(&node).unwrap();
    let mut other = one.try_clone().unwrap();
    one.write_all(b"first").unwrap();
    drop(one);
    for second in [&node, &site.st(0)] {
        for options in [
            OpenOptions::new().read(true),
            OpenOptions::new().write(true),
            OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK),
        ] {
            assert_eq!(options.open(second).unwrap_err().raw_os_error(), Some(Errno::EBUSY as i32));
        }
    }
    // An operator is refused too, by the name of who is in the way.
    let (_, said) = site.refused(["volume", "unload", "drive0"]);
    assert!(said.contains(&std::process::id().to_string()), "{said}");
    other.write_all(b"second").unwrap();
    drop(other);
    must(
        &work,
        &[("N", &node)],
        "exec 3>$N; printf aaa >&3; (printf bbbb >&3); (printf ccccc >&3; exec 3>&-); sh -c 'printf dddddd >&3'; exec 3>&-",
    );
    must(&work, &[("N", &node)], "mt -f $N rewind");
    let mut tape = File::open(&node).unwrap();
    for expected in ["first", "second", "", "aaa", "bbbb", "ccccc", "dddddd", "", ""] {
        let mut buffer = [0; 100];
        let length = tape.read(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], expected.as_bytes());
    }
    drop(tape);
    finish(site);
}

#[test]
fn a_killed_writer_leaves_a_usable_tape() {
    let Some(site) = loaded() else { return };
    let (work, node) = (site.work(), site.nst(0));
    for _ in 0..3 {
        let before = site.status(0)["counters"]["host_bytes_written"].as_u64().unwrap();
        let output = OpenOptions::new().write(true).open(&node).unwrap();
        let mut writer = Command::new("dd")
            .args(["if=/dev/zero", "bs=64k", "count=8000"])
            .stdout(output)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while site.status(0)["counters"]["host_bytes_written"].as_u64().unwrap() < before + (1 << 20) {
            assert!(Instant::now() < deadline, "nothing is written");
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        // Its file was closed for it: whole records of what it wrote, a filemark, and the node is free.
        must(
            &work,
            &[("N", &node)],
            "mt -f $N rewind && dd if=$N of=got bs=64k 2>log && ! grep -q '^0+0' log && \
             [ $(tr -d '\\0' < got | wc -c) = 0 ] && [ $(($(stat -c %s got) % 65536)) = 0 ] && mt -f $N rewind",
        );
        must(
            &work,
            &[("N", &node)],
            "tar -cf $N -C / etc/hostname && mt -f $N rewind && tar -xOf $N | cmp - /etc/hostname && mt -f $N rewind",
        );
    }
    finish(site);
}

#[test]
fn records_of_a_compressible_and_of_a_random_file_read_with_short_buffers() {
    let Some(site) = loaded() else { return };
    let (work, node) = (site.work(), site.nst(0));
    fs::write(work.join("zeros"), vec![0; 1 << 20]).unwrap();
    fs::write(work.join("noise"), noise(11, 1 << 20)).unwrap();
    let variables = [("N", &*node)];
    for name in ["zeros", "noise"] {
        must(
            &work,
            &variables,
            &format!("mt -f $N rewind && dd if={name} of=$N bs=256k 2>/dev/null && mt -f $N rewind"),
        );
        // Too short a buffer is told by the plain length, whatever stands on the medium; the position is behind it.
        let ran = shell(&work, &variables, "dd if=$N of=/dev/null bs=128k count=1");
        assert!(ran.stderr.contains("Cannot allocate memory"), "{name}: {}", ran.stderr);
        must(&work, &variables, &format!("dd if=$N of=out bs=512k 2>/dev/null && tail -c 786432 {name} | cmp - out"));
    }
    finish(site);
}

/// The kernel tells the last close a little later: an operator's command that comes right behind a program waits for it.
#[test]
fn an_operator_s_command_right_behind_a_program_is_served() {
    let Some(site) = loaded() else { return };
    let (work, node) = (site.work(), site.nst(0));
    fs::write(work.join("in"), noise(12, 100_000)).unwrap();
    let (sealtape, home, tape) = (env!("CARGO_BIN_EXE_sealtape"), site.home(), site.folder().join("FIRST.tape"));
    let variables = [("N", &*node), ("S", &*site.st(0)), ("X", Path::new(sealtape)), ("H", &*home), ("T", &*tape)];
    must(
        &work,
        &variables,
        "for ((i = 0; i < 40; i++)); do tar -cf $S in && $X --home $H -q volume unload drive0 && $X --home $H -q volume load drive0 $T && \
         dd if=$N bs=10k count=3 of=/dev/null 2>/dev/null && $X --home $H -q volume unload drive0 && $X --home $H -q volume load drive0 $T || exit 1; done",
    );
    must(&work, &variables, "tar -xOf $S | cmp - in");
    finish(site);
}
