//! What every kind of drive has to pass behind its nodes, with real programs.
//!
//! `node_suite!(module, make)` makes one test per scenario in a module of that name.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::programs::{has, must, noise, plant, shell};
use super::{MakeDrive, Station, fuse_is_here};

const PLENTY: u64 = 256 << 20;

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        /// Every scenario, by name.
        #[allow(unused_macros, reason = "a test file may run the suite by other means")]
        macro_rules! node_suite {
            ($module:ident, $make:expr) => {
                mod $module {
                    $(
                        #[test]
                        fn $name() {
                            $crate::support::suite::run($crate::support::suite::$name, &$make);
                        }
                    )*
                }
            };
        }
    };
}

scenarios! {
    several_archives_with_tar,
    tar_appends_compares_and_verifies,
    tar_goes_on_to_the_next_volume,
    dd_keeps_every_block_size,
    cpio_dump_and_mbuffer_restore,
    mt_tells_and_moves,
    write_rewind_read_without_a_pause,
    shared_descriptors_are_one_open,
    threads_share_a_descriptor_record_by_record,
    a_killed_writer_leaves_a_usable_tape,
    a_second_opener_is_refused,
    records_are_never_cut,
    the_end_of_the_tape_is_told_twice,
    fixed_blocks_from_the_shell,
    bacula_passes_its_own_tape_test,
    amanda_labels_dumps_and_restores,
}
/// One scenario, where FUSE is there.
pub(crate) fn run(scenario: fn(&MakeDrive), make: &MakeDrive) {
    if fuse_is_here() {
        scenario(make);
    }
}

pub(crate) fn several_archives_with_tar(make: &MakeDrive) {
    let station = Station::new(make, 1, PLENTY);
    let (work, node) = (station.work(), station.nst(0));
    for (number, blocking) in [(0, 20), (1, 512), (2, 1)] {
        plant(&work.join(format!("in{number}")), number, 700_000);
        must(&work, &[("N", &node)], &format!("tar -b {blocking} -cf $N in{number}"));
    }
    // In any order, forward and backward.
    for (number, blocking) in [(2, 1), (0, 20), (1, 512)] {
        let script = format!(
            "mt -f $N rewind && mt -f $N fsf {number} && mkdir out && tar -b {blocking} -xf $N -C out && \
             diff -r --no-dereference in{number} out/in{number} && rm -r out"
        );
        must(&work, &[("N", &node)], &script);
    }
    // By backward motion: at the end, back over two filemarks and forward over one, as mt bsfm does.
    let names = must(&work, &[("N", &node)], "mt -f $N eod && mt -f $N bsfm 2 && tar -b 1 -tf $N");
    assert!(names.starts_with("in2/"), "{names}");
    station.stop().unwrap();
}

pub(crate) fn tar_appends_compares_and_verifies(make: &MakeDrive) {
    let station = Station::new(make, 1, PLENTY);
    let (work, node) = (station.work(), station.nst(0));
    plant(&work.join("first"), 1, 300_000);
    plant(&work.join("second"), 2, 200_000);
    let variables = [("N", &*node), ("S", &*station.st(0))];
    must(&work, &variables, "tar -cf $S first && tar -rf $S second && tar -tf $S | grep ^second/large >/dev/null");
    must(&work, &variables, "tar -df $S");
    must(
        &work,
        &variables,
        "mkdir out && tar -xf $S -C out && diff -r --no-dereference first out/first && diff -r --no-dereference second out/second",
    );
    // A difference is found, too.
    let ran = shell(&work, &variables, "echo changed >> first/one; tar -df $S");
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stdout.contains("first/one"), "{}", ran.stdout);
    // Verify after writing: tar goes back by itself.
    must(&work, &variables, "mt -f $N rewind && tar -cWf $N first second && mt -f $N rewind && tar -df $N");
    must(
        &work,
        &variables,
        "mt -f $N rewind && tar -b 512 -cWf $N first second && mt -f $N rewind && tar -b 512 -df $N",
    );
    station.stop().unwrap();
}

pub(crate) fn tar_goes_on_to_the_next_volume(make: &MakeDrive) {
    let station = Station::new(make, 3, 4 << 20);
    let work = station.work();
    plant(&work.join("in"), 3, 8 << 20);
    let (first, second, third) = (station.st(0), station.st(1), station.st(2));
    let variables = [("A", &*first), ("B", &*second), ("C", &*third)];
    must(&work, &variables, "tar -cMf $A -f $B -f $C in");
    must(&work, &variables, "mkdir out && tar -xMf $A -f $B -f $C -C out && diff -r --no-dereference in out/in");
    // All three were needed.
    must(
        &work,
        &variables,
        "for v in $A $B $C; do dd if=$v of=/dev/null bs=10240 2>log && ! grep -q '^0+0 records in' log || exit 1; done",
    );
    station.stop().unwrap();
}

pub(crate) fn dd_keeps_every_block_size(make: &MakeDrive) {
    let station = Station::new(make, 1, PLENTY);
    let (work, node) = (station.work(), station.nst(0));
    let longest = station.mounted().limit().max_record() as usize;
    let sizes: Vec<usize> = [512, 513, 1000, 4096, 10_240, 65_536, 262_144, 524_288, 1 << 20]
        .into_iter()
        .filter(|size| *size <= longest)
        .collect();
    for size in &sizes {
        let blocks = (2_000_000 / size).clamp(3, 200);
        fs::write(work.join(format!("in{size}")), noise(*size as u64, size * blocks)).unwrap();
        must(&work, &[("N", &node)], &format!("dd if=in{size} of=$N bs={size} 2>/dev/null"));
    }
    must(&work, &[("N", &node)], "mt -f $N rewind");
    for size in &sizes {
        // The buffer is longer than the record: one read, one record.
        let buffer = (size * 2).min(longest);
        let script = format!("dd if=$N of=out bs={buffer} 2>log && cmp in{size} out && cat log");
        let log = must(&work, &[("N", &node)], &script);
        let blocks = (2_000_000 / size).clamp(3, 200);
        let full = if buffer == *size { format!("{blocks}+0 records in") } else { format!("0+{blocks} records in") };
        assert!(log.contains(&full), "block size {size}: {log}");
        // dd stopped at the filemark; the next dd begins behind it.
    }
    station.stop().unwrap();
}

pub(crate) fn cpio_dump_and_mbuffer_restore(make: &MakeDrive) {
    let station = Station::new(make, 1, PLENTY);
    let (work, node) = (station.work(), station.nst(0));
    let variables = [("N", &*node)];
    plant(&work.join("in"), 5, 900_000);
    if has("cpio") {
        must(&work, &variables, "find in | cpio -o -H newc --quiet > $N && mt -f $N rewind");
        must(
            &work,
            &variables,
            "mkdir out && cd out && cpio -id --quiet < $N && cd .. && diff -r --no-dereference in out/in && rm -r out && mt -f $N rewind",
        );
        must(&work, &variables, "find in | cpio -o -H newc -C 65536 --quiet > $N && mt -f $N rewind");
        must(
            &work,
            &variables,
            "mkdir out && cd out && cpio -id -C 65536 --quiet < $N && cd .. && diff -r --no-dereference in out/in && rm -r out && mt -f $N rewind",
        );
    }
    if has("mbuffer") {
        must(&work, &variables, "mbuffer -q -s 64k -m 1M -f -i in/large -o $N && mt -f $N rewind");
        must(&work, &variables, "mbuffer -q -s 64k -m 1M -i $N -o large && cmp in/large large && mt -f $N rewind");
    }
    // dump takes a file for a folder of the file system around it, unless no table of mounts says so:
    // it is given an /etc of its own, for which one has to be root.
    if nix::unistd::geteuid().is_root() && has("dump") && has("restore") && has("mke2fs") && has("unshare") {
        must(
            &work,
            &variables,
            "mkdir etc && cp /etc/passwd /etc/group etc && touch etc/fstab etc/mtab && mke2fs -q -t ext2 -d in image 8M",
        );
        must(&work, &variables, "unshare -m bash -c 'mount --bind etc /etc && dump -0 -a -f $N image'");
        must(&work, &variables, "mt -f $N rewind && mkdir out && cd out && restore -r -f $N");
        must(&work, &variables, "rm out/restoresymtable && rmdir out/lost+found && diff -r --no-dereference in out");
    }
    station.stop().unwrap();
}

pub(crate) fn mt_tells_and_moves(make: &MakeDrive) {
    let station = Station::new(make, 1, PLENTY);
    let (work, node) = (station.work(), station.nst(0));
    let variables = [("N", &*node), ("S", &*station.st(0))];
    let status = |what: &str| must(&work, &variables, &format!("{what} && mt -f $N status"));
    assert!(status("true").contains("BOT ONLINE"), "{}", status("true"));
    must(
        &work,
        &variables,
        "for i in 1 2 3; do head -c 30000 /dev/zero | dd of=$N bs=10000 iflag=fullblock 2>/dev/null; done",
    );
    let told = status("true");
    assert!(told.contains("File number=3, block number=0, partition=0") && told.contains("EOF ONLINE"), "{told}");
    let told = status("mt -f $N bsf 2");
    assert!(told.contains("File number=1, block number=-1"), "{told}");
    let told = status("mt -f $N fsf 1");
    assert!(told.contains("File number=2, block number=0"), "{told}");
    let told = status("mt -f $N fsr 2");
    assert!(told.contains("File number=2, block number=2"), "{told}");
    let told = status("mt -f $N asf 1");
    assert!(told.contains("File number=1, block number=0"), "{told}");
    let told = status("mt -f $N eod");
    assert!(told.contains("File number=3") && told.contains("EOD ONLINE"), "{told}");
    assert_eq!(must(&work, &variables, "mt -f $N tell").trim(), "At block 12.");
    must(&work, &variables, "mt -f $N seek 5");
    assert_eq!(must(&work, &variables, "mt -f $N tell").trim(), "At block 5.");
    assert_eq!(shell(&work, &variables, "mt -f $N seek 500").code, Some(2));
    let told = status("mt -f $N rewind && mt -f $S fsf 2");
    assert!(told.contains("BOT ONLINE"), "the rewinding node rewinds at its close: {told}");
    must(
        &work,
        &variables,
        "mt -f $N setblk 4096 && mt -f $N status | grep 'Tape block size 4096' >/dev/null && mt -f $N setblk 0",
    );
    must(
        &work,
        &variables,
        "mt -f $N compression 1 && mt -f $N lock && mt -f $N unlock && mt -f $N retension && mt -f $N weof 2",
    );
    let told = status("true");
    assert!(told.contains("File number=2, block number=0"), "{told}");
    must(&work, &variables, "mt -f $N rewind && mt -f $N erase && mt -f $N offline");
    assert_eq!(shell(&work, &variables, "dd if=$N of=/dev/null bs=64k").code, Some(1), "no medium");
    assert!(status("true").contains("DR_OPEN"));
    must(&work, &variables, "mt -f $N load && tar -cf $N -C / etc/hostname");
    station.stop().unwrap();
}

pub(crate) fn write_rewind_read_without_a_pause(make: &MakeDrive) {
    let station = Station::new(make, 1, PLENTY);
    let (work, node) = (station.work(), station.nst(0));
    let rounds = if std::env::var_os("SEALTAPE_LONG").is_some() { 10_000 } else { 1_000 };
    for file in 0..10 {
        fs::write(work.join(format!("file{file}")), noise(file, 3_000 * file as usize)).unwrap();
    }
    let script = format!(
        "for ((i = 0; i < {rounds}; i++)); do f=file$((i % 10)); tar cf $N $f && mt -f $N rewind && t=$(tar tf $N) && [ $t = $f ] && mt -f $N rewind || {{ echo \"round $i: '$t'\" >&2; exit 1; }}; done"
    );
    must(&work, &[("N", &node)], &script);
    assert_eq!(station.node(0).status().counters.opened, rounds * 4);
    station.stop().unwrap();
}

pub(crate) fn shared_descriptors_are_one_open(make: &MakeDrive) {
    let station = Station::new(make, 1, PLENTY);
    let (work, node) = (station.work(), station.nst(0));
    // dup: closing one leaves the other open, and writes no filemark.
    let mut one = OpenOptions::new().write(true).open(&node).unwrap();
    let mut other = one.try_clone().unwrap();
    one.write_all(b"first").unwrap();
    drop(one);
    let refused = File::open(&node).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(Errno::EBUSY as i32));
    other.write_all(b"second").unwrap();
    drop(other);
    // fork: children write through the descriptor of their parent.
    must(
        &work,
        &[("N", &node)],
        "exec 3>$N; printf aaa >&3; (printf bbbb >&3); (printf ccccc >&3; exec 3>&-); sh -c 'printf dddddd >&3'; exec 3>&-",
    );
    must(&work, &[("N", &node)], "mt -f $N rewind");
    let mut tape = File::open(&node).unwrap();
    let mut record = |expected: &[u8]| {
        let mut buffer = [0; 100];
        let length = tape.read(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], expected);
    };
    for expected in ["first", "second", "", "aaa", "bbbb", "ccccc", "dddddd", "", ""] {
        record(expected.as_bytes());
    }
    drop(tape);
    station.stop().unwrap();
}

pub(crate) fn threads_share_a_descriptor_record_by_record(make: &MakeDrive) {
    let station = Station::new(make, 1, PLENTY);
    let node = station.nst(0);
    let tape = OpenOptions::new().write(true).open(&node).unwrap();
    // Every record has a length of its own, which is its name.
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let mut tape = &tape;
            scope.spawn(move || {
                for number in 0..50 {
                    let length = 1000 * (1 + number) + thread;
                    assert_eq!(tape.write(&noise(length as u64, length)).unwrap(), length);
                }
            });
        }
    });
    drop(tape);
    must(&station.work(), &[("N", &node)], "mt -f $N rewind");
    let tape = File::open(&node).unwrap();
    let found = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut buffer = vec![0; 65_536];
                while let Ok(length @ 1..) = (&tape).read(&mut buffer) {
                    assert_eq!(buffer[..length], noise(length as u64, length));
                    found.lock().unwrap().push(length);
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap();
    found.sort_unstable();
    let mut expected: Vec<usize> = (0..200).map(|record| 1000 * (1 + record / 4) + record % 4).collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
    drop(tape);
    station.stop().unwrap();
}

pub(crate) fn a_killed_writer_leaves_a_usable_tape(make: &MakeDrive) {
    let station = Station::new(make, 1, PLENTY);
    let (work, node) = (station.work(), station.nst(0));
    for _ in 0..5 {
        let output = OpenOptions::new().write(true).open(&node).unwrap();
        let mut writer = Command::new("dd")
            .args(["if=/dev/zero", "bs=64k", "count=3000"])
            .stdout(output)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while station.node(0).status().counters.bytes_written < 1 << 20 {
            assert!(Instant::now() < deadline, "nothing is written");
            std::thread::sleep(Duration::from_millis(2));
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        // Its file was closed for it: a filemark, and the node is free.
        must(
            &work,
            &[("N", &node)],
            "mt -f $N rewind && dd if=$N of=/dev/null bs=64k 2>log && ! grep -q '^0+0' log && mt -f $N rewind",
        );
        must(
            &work,
            &[("N", &node)],
            "tar -cf $N -C / etc/hostname && mt -f $N rewind && tar -tf $N && mt -f $N rewind",
        );
    }
    station.stop().unwrap();
}

pub(crate) fn a_second_opener_is_refused(make: &MakeDrive) {
    let station = Station::new(make, 2, PLENTY);
    let holder = File::open(station.nst(0)).unwrap();
    for node in [station.nst(0), station.st(0)] {
        for options in [
            OpenOptions::new().read(true),
            OpenOptions::new().write(true),
            OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK),
        ] {
            assert_eq!(options.open(&node).unwrap_err().raw_os_error(), Some(Errno::EBUSY as i32));
        }
    }
    File::open(station.nst(1)).unwrap();
    assert!(station.node(0).with_idle_drive(|_| ()).is_err());
    drop(holder);
    File::open(station.st(0)).unwrap();
    station.stop().unwrap();
}

pub(crate) fn records_are_never_cut(make: &MakeDrive) {
    let station = Station::new(make, 1, PLENTY);
    let node = station.nst(0);
    let longest = station.mounted().limit().max_record() as usize;
    let memory = noise(9, longest + 3 * 4096);
    let mut tape = OpenOptions::new().read(true).write(true).open(&node).unwrap();
    // Buffers that begin anywhere in a page.
    let offsets = [0, 1, 7, 511, 2048, 4095];
    let lengths = [1, 4095, 4096, 4097, 65_536, longest - 4096, longest - 1, longest];
    let mut written = Vec::new();
    for offset in offsets {
        for length in lengths {
            assert_eq!(tape.write(&memory[offset..offset + length]).unwrap(), length, "{length} bytes from {offset}");
            written.push((offset, length));
        }
        for length in [longest + 1, longest + 4096] {
            let refused = tape.write(&memory[offset..offset + length]).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(Errno::EINVAL as i32), "{length} bytes from {offset}");
        }
    }
    drop(tape);
    let mut tape = OpenOptions::new().read(true).open(&node).unwrap();
    station_rewinds(&station, &node, &mut tape);
    let mut buffer = vec![0; longest + 3 * 4096];
    for (index, (offset, length)) in written.iter().enumerate() {
        // Read into a buffer that begins anywhere, too; exactly as long as the record, and longer.
        let start = offsets[(index * 5) % offsets.len()];
        let room = if index % 2 == 0 { *length } else { longest };
        let got = tape.read(&mut buffer[start..start + room]).unwrap();
        assert_eq!(got, *length, "record {index}");
        assert_eq!(buffer[start..start + got], memory[*offset..offset + length], "record {index}");
    }
    assert_eq!(tape.read(&mut buffer[..longest]).unwrap(), 0);
    let refused = tape.read(&mut buffer[..longest + 1]).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(Errno::EINVAL as i32), "a read that could swallow two records");
    drop(tape);
    station.stop().unwrap();
}

/// Rewinds with `mt`, which needs the node for itself.
fn station_rewinds(station: &Station, node: &std::path::Path, tape: &mut File) {
    *tape = File::open("/dev/null").unwrap();
    must(&station.work(), &[("N", node)], "mt -f $N rewind");
    *tape = File::open(node).unwrap();
}

pub(crate) fn the_end_of_the_tape_is_told_twice(make: &MakeDrive) {
    let station = Station::new(make, 1, 4 << 20);
    let (work, node) = (station.work(), station.nst(0));
    let mut tape = OpenOptions::new().write(true).open(&node).unwrap();
    let record = noise(4, 65_536);
    let mut accepted = 0_u64;
    let warning = loop {
        match tape.write(&record) {
            Ok(length) => {
                assert_eq!(length, record.len());
                accepted += 1;
            }
            Err(error) => break error,
        }
        assert!(accepted < 200, "a tape of 4 MiB took {accepted} records of 64 KiB");
    };
    assert_eq!(warning.raw_os_error(), Some(Errno::ENOSPC as i32));
    assert_eq!(tape.write(b"trailer").unwrap(), 7, "the trailer fits");
    let mut refused = 0;
    let mut more = 0_u64;
    while refused < 3 {
        match tape.write(&record) {
            Ok(length) => {
                assert_eq!(length, record.len());
                (refused, more) = (0, more + 1);
                assert!(more < 200, "the tape has no end");
            }
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(Errno::ENOSPC as i32));
                refused += 1;
            }
        }
    }
    drop(tape);
    let script = "mt -f $N rewind && dd if=$N of=all bs=128k 2>log && cat log";
    let log = must(&work, &[("N", &node)], script);
    assert!(log.contains(&format!("0+{} records in", accepted + more + 1)), "everything accepted is there: {log}");
    let all = fs::read(work.join("all")).unwrap();
    assert!(all.starts_with(&record) && all[accepted as usize * record.len()..].starts_with(b"trailer"));
    station.stop().unwrap();
}

pub(crate) fn fixed_blocks_from_the_shell(make: &MakeDrive) {
    let station = Station::new(make, 1, PLENTY);
    let (work, node) = (station.work(), station.nst(0));
    fs::write(work.join("in"), noise(6, 1024 * 100)).unwrap();
    let variables = [("N", &*node)];
    must(&work, &variables, "mt -f $N setblk 1024 && dd if=in of=$N bs=10240 2>/dev/null && mt -f $N rewind");
    must(&work, &variables, "mt -f $N fsr 60 && mt -f $N tell | grep 'At block 60' >/dev/null && mt -f $N rewind");
    must(&work, &variables, "dd if=$N of=out bs=20480 2>/dev/null && cmp in out && mt -f $N rewind");
    must(
        &work,
        &variables,
        "mt -f $N setblk 0 && dd if=$N of=out bs=20480 2>log && cmp in out && grep -q '0+100 records in' log",
    );
    let ran = shell(&work, &variables, "mt -f $N setblk 1024 && dd if=in of=$N bs=1000 count=1");
    assert!(ran.stderr.contains("Invalid argument"), "{}", ran.stderr);
    station.stop().unwrap();
}

/// `btape test`: writing, reading back, repositioning, appending, spacing, as Bacula needs them.
pub(crate) fn bacula_passes_its_own_tape_test(make: &MakeDrive) {
    if !has("btape") {
        return;
    }
    let station = Station::new(make, 1, 1 << 30);
    let (work, node) = (station.work(), station.nst(0));
    // Small blocks: the test writes 20 000 of them.
    let configuration = format!(
        r#"Storage {{ Name = "sd"; WorkingDirectory = "{work}"; PidDirectory = "{work}"; }}
Director {{ Name = "dir"; Password = "x"; }}
Messages {{ Name = "Standard"; director = dir = all; }}
Device {{
  Name = "T"; Media Type = "T"; Device Type = Tape; Archive Device = "{node}";
  AutomaticMount = yes; AlwaysOpen = yes; RemovableMedia = yes; RandomAccess = no;
  Maximum Block Size = 8192;
}}
"#,
        work = work.display(),
        node = node.display()
    );
    fs::write(work.join("sd.conf"), configuration).unwrap();
    let said = must(&work, &[], "printf 'test\nquit\n' | timeout 120 btape -c $PWD/sd.conf T 2>&1");
    for step in [
        "Test Succeeded. End Write, rewind, and re-read",
        "Block re-read correct. Test succeeded!",
        "I am at file 5. This is correct!",
    ] {
        assert!(said.contains(step), "{step}\n{said}");
    }
    let (_, appended) = said.split_once("Doing Bacula scan of blocks:").unwrap();
    let (scan, _) = appended.split_once("End scanning the tape.").unwrap();
    assert!(scan.contains("Total files=4, blocks=7"), "{said}");
    assert!(!said.contains("NOT correct") && !said.contains("ERROR"), "{said}");
    station.stop().unwrap();
}

/// Amanda as its own user. Its programs know one place for configurations, so that they are given an
/// `/etc/amanda` of their own, for which one has to be root.
pub(crate) fn amanda_labels_dumps_and_restores(make: &MakeDrive) {
    if !nix::unistd::geteuid().is_root()
        || !["amlabel", "amdump", "setpriv", "unshare"].iter().all(|program| has(program))
    {
        return;
    }
    let station = Station::for_everybody(make, PLENTY);
    let (work, node) = (station.work(), station.nst(0));
    plant(&work.join("data"), 8, 3_000_000);
    fs::create_dir_all(work.join("etc/seal")).unwrap();
    let configuration = format!(
        r#"org "seal"
mailto ""
dumpuser "backup"
inparallel 1
dumpcycle 0
runspercycle 1
tapecycle 2
runtapes 1
labelstr "^SEAL-[0-9]+$"
tapedev "tape:{node}"
tapetype T
logdir "{work}/log"
infofile "{work}/info"
indexdir "{work}/index"
tapelist "{work}/tapelist"
diskfile "{work}/etc/seal/disklist"
define tapetype T {{
  length 200 mbytes
  filemark 0 kbytes
}}
define dumptype D {{
  auth "local"
  program "GNUTAR"
  compress none
  index no
  holdingdisk never
}}
"#,
        node = node.display(),
        work = work.display()
    );
    fs::write(work.join("etc/seal/amanda.conf"), configuration).unwrap();
    fs::write(work.join("etc/seal/disklist"), format!("localhost {}/data D\n", work.display())).unwrap();
    must(&work, &[], "mkdir log info index out && touch tapelist && chown -R backup:backup .");
    let as_amanda = "as() { timeout 120 setpriv --reuid=backup --regid=backup --init-groups env HOME=/var/backups PATH=/usr/sbin:/usr/bin:/sbin:/bin \"$@\"; }; mount --bind etc /etc/amanda";
    let amanda = |script: &str| {
        fs::write(work.join("script"), format!("set -e\n{as_amanda}\n{script}\n")).unwrap();
        must(&work, &[("N", &node)], "unshare -m bash script 2>&1 || { cat log/amdump.1; false; }")
    };
    let said = amanda("as amlabel seal SEAL-1");
    assert!(said.contains("Success"), "{said}");
    let said = amanda("as amcheck -s seal || true");
    assert!(said.contains("Will write to volume 'SEAL-1'"), "{said}");
    amanda("as amdump seal");
    amanda("as amfetchdump -a -p -d tape:$N seal localhost > out/dump.tar < /dev/null");
    must(&work, &[], "mkdir out/data && tar -xf out/dump.tar -C out/data && diff -r --no-dereference data out/data");
    station.stop().unwrap();
}
