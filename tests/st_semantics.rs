//! `StNode` called directly: what the kernel's `st` does, case by case.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is for")]

#[path = "support/tape.rs"]
mod tape;

use std::time::Duration;

use nix::errno::Errno;
use proptest::prelude::*;
use sealtape::unit::st::{Activity, InUse, StNode, StOptions};
use sealtape_drivers::fuse::mtio::{MtOp, MtStatus, gstat};
use sealtape_drivers::fuse::{Access, OpenRequest, Opener, TapeNode};
use sealtape_drivers::medium::{DriveError, DriveErrorKind, Position, TapeDrive};
use sealtape_drivers::scsi::{AdditionalSense, Sense, SenseKey};
use tape::MemoryTape;

/// An error of Sealtape's with a given additional sense.
fn refusal(additional: AdditionalSense) -> DriveError {
    DriveError::new(DriveErrorKind::Security, "refused").with_sense(Sense::new(SenseKey::DATA_PROTECT, additional))
}

fn request(access: Access) -> OpenRequest {
    let opener = Opener { pid: 4711, uid: 0, gid: 0 };
    OpenRequest { opener, access, nonblocking: false, rewind_at_close: false }
}

fn node(tape: &MemoryTape) -> StNode {
    StNode::new("test", Box::new(tape.clone()), StOptions { ready_timeout: Duration::ZERO, partitions: false })
}

/// A tape and its node, open for reading and writing.
fn opened(capacity: u64) -> (MemoryTape, StNode) {
    let tape = MemoryTape::new(capacity);
    let node = node(&tape);
    node.open(&request(Access::ReadWrite)).unwrap();
    (tape, node)
}

/// A tape with the given files, each a list of record lengths, rewound and open for reading.
fn recorded(files: &[&[usize]]) -> (MemoryTape, StNode) {
    let (tape, node) = opened(1 << 30);
    for file in files {
        for length in *file {
            assert_eq!(node.write(&vec![*length as u8; *length]), Ok(*length));
        }
        node.mt_op(MtOp::MTWEOF, 1).unwrap();
    }
    node.mt_op(MtOp::MTREW, 1).unwrap();
    (tape, node)
}

fn read(node: &StNode, size: usize) -> Result<usize, Errno> {
    let mut buffer = vec![0xee; size];
    let length = node.read(&mut buffer)?;
    let variable = node.status().block_size == 0;
    assert!(!variable || buffer[length..].iter().all(|byte| *byte == 0xee), "bytes behind the record were touched");
    Ok(length)
}

/// File, block, and the bits of status that are not always on.
fn place(node: &StNode) -> (i32, i32, u32) {
    let MtStatus { fileno, blkno, gstat: bits, .. } = node.mt_get().unwrap();
    (fileno, blkno, bits & !(gstat::ONLINE | gstat::IM_REP_EN))
}

#[test]
fn records_filemarks_and_the_end_read_as_st_reads_them() {
    let (_tape, node) = recorded(&[&[10, 20], &[30]]);
    assert_eq!(place(&node), (0, 0, gstat::BOT));
    assert_eq!(read(&node, 100), Ok(10));
    assert_eq!(place(&node), (0, 1, 0));
    assert_eq!(read(&node, 19), Err(Errno::ENOMEM));
    assert_eq!(place(&node), (0, 2, 0), "the record that did not fit is skipped");
    assert_eq!(read(&node, 100), Ok(0));
    assert_eq!(place(&node), (1, 0, gstat::EOF));
    assert_eq!(read(&node, 30), Ok(30));
    assert_eq!(read(&node, 100), Ok(0));
    assert_eq!(place(&node), (2, 0, gstat::EOF));
    assert_eq!(read(&node, 100), Ok(0), "end of data behind a filemark: 0 once");
    assert_eq!(place(&node), (2, -1, gstat::EOD));
    assert_eq!(read(&node, 100), Err(Errno::EIO));
    assert_eq!(read(&node, 100), Err(Errno::EIO));
}

#[test]
fn a_blank_tape_is_an_io_error() {
    let (_tape, node) = opened(1 << 20);
    assert_eq!(read(&node, 100), Err(Errno::EIO));
}

#[test]
fn closing_writes_one_filemark_and_only_after_writing() {
    let (tape, node) = opened(1 << 20);
    node.write(&[1; 10]).unwrap();
    node.flush().unwrap();
    assert_eq!(tape.layout(), "10", "FLUSH writes no filemark");
    node.flush().unwrap();
    assert_eq!(
        tape.controls().log.iter().filter(|command| *command == "sync").count(),
        1,
        "nothing new: no second synchronisation"
    );
    node.release();
    assert_eq!(tape.layout(), "10 |");
    node.open(&request(Access::Read)).unwrap();
    assert_eq!(place(&node), (1, 0, gstat::EOF));
    node.mt_op(MtOp::MTREW, 1).unwrap();
    assert_eq!(read(&node, 100), Ok(10));
    node.release();
    assert_eq!(tape.layout(), "10 |");
    node.open(&request(Access::ReadWrite)).unwrap();
    assert_eq!(place(&node), (0, 1, 0), "nst stays where it was");
    node.write(&[2; 11]).unwrap();
    node.mt_op(MtOp::MTWEOF, 2).unwrap();
    node.release();
    assert_eq!(tape.layout(), "10 11 | |", "MTWEOF took the place of the closing filemark");
}

#[test]
fn the_rewinding_node_rewinds_at_the_last_close() {
    let tape = MemoryTape::new(1 << 20);
    let node = node(&tape);
    let rewinding = OpenRequest { rewind_at_close: true, ..request(Access::Write) };
    node.open(&rewinding).unwrap();
    node.write(&[1; 10]).unwrap();
    node.flush().unwrap();
    node.release();
    assert_eq!(tape.layout(), "10 |");
    node.open(&request(Access::Read)).unwrap();
    assert_eq!(place(&node), (0, 0, gstat::BOT));
}

#[test]
fn motion_after_writing_ends_the_file_first() {
    for (op, count, layout, expected) in [
        (MtOp::MTREW, 1, "5 |", (0, 0, gstat::BOT)),
        (MtOp::MTSEEK, 0, "5 |", (0, 0, gstat::BOT)),
        (MtOp::MTBSFM, 0, "5 |", (1, 0, gstat::EOF)),
        // Without a filemark, as in st.
        (MtOp::MTBSR, 1, "5", (0, 0, gstat::BOT)),
    ] {
        let (tape, node) = opened(1 << 20);
        node.write(&[1; 5]).unwrap();
        node.mt_op(op, count).unwrap();
        assert_eq!(tape.layout(), layout, "{op:?}");
        assert_eq!(place(&node), expected, "{op:?}");
        node.release();
        assert_eq!(tape.layout(), layout, "{op:?}: no second filemark at close");
    }
}

#[test]
fn backward_over_files_counts_the_filemark_that_it_wrote() {
    let (tape, node) = recorded(&[&[1]]);
    node.mt_op(MtOp::MTEOM, 1).unwrap();
    node.write(&[2; 2]).unwrap();
    node.mt_op(MtOp::MTBSF, 1).unwrap();
    assert_eq!(tape.layout(), "1 | 2 |");
    assert_eq!(place(&node), (0, -1, 0), "before the filemark of file 0, as if none had been written");
    assert_eq!(read(&node, 10), Ok(0));
    assert_eq!(read(&node, 10), Ok(2));
}

#[test]
fn spacing_counts_and_stops_as_st_does() {
    let (_tape, node) = recorded(&[&[1, 2, 3], &[4, 5], &[6]]);
    node.mt_op(MtOp::MTFSF, 2).unwrap();
    assert_eq!(place(&node), (2, 0, gstat::EOF));
    node.mt_op(MtOp::MTBSF, 1).unwrap();
    assert_eq!(place(&node), (1, -1, 0));
    node.mt_op(MtOp::MTBSFM, 1).unwrap();
    assert_eq!(place(&node), (1, 0, gstat::EOF));
    assert_eq!(read(&node, 10), Ok(4));
    node.mt_op(MtOp::MTFSR, 1).unwrap();
    assert_eq!(place(&node), (1, 2, 0));
    assert_eq!(node.mt_op(MtOp::MTFSR, 1), Err(Errno::EIO), "a filemark stops it");
    assert_eq!(place(&node), (2, 0, gstat::EOF));
    assert_eq!(node.mt_op(MtOp::MTBSR, 1), Err(Errno::EIO));
    assert_eq!(place(&node), (1, -1, 0));
    node.mt_op(MtOp::MTREW, 1).unwrap();
    assert_eq!(node.mt_op(MtOp::MTBSR, 1), Err(Errno::EIO));
    assert_eq!(place(&node), (0, 0, gstat::BOT));
    assert_eq!(node.mt_op(MtOp::MTBSF, 5), Err(Errno::EIO));
    assert_eq!(place(&node), (0, 0, gstat::BOT));
    assert_eq!(node.mt_op(MtOp::MTFSF, 9), Err(Errno::EIO));
    assert_eq!(place(&node), (3, -1, gstat::EOD));
    node.mt_op(MtOp::MTREW, 1).unwrap();
    node.mt_op(MtOp::MTFSFM, 2).unwrap();
    assert_eq!(place(&node), (1, -1, 0));
    node.mt_op(MtOp::MTEOM, 1).unwrap();
    assert_eq!(place(&node), (3, -1, gstat::EOD));
}

#[test]
fn end_of_data_is_found_with_the_file_number() {
    let (_tape, node) = recorded(&[&[1], &[2], &[3]]);
    node.mt_op(MtOp::MTEOM, 1).unwrap();
    assert_eq!(place(&node), (3, -1, gstat::EOD));
    assert_eq!(node.mt_pos(), Ok(6));
    assert_eq!(read(&node, 10), Err(Errno::EIO));
    node.mt_op(MtOp::MTSEEK, 2).unwrap();
    assert_eq!(place(&node), (-1, -1, 0));
    assert_eq!(read(&node, 10), Ok(2));
    assert_eq!(node.mt_op(MtOp::MTSEEK, 99), Err(Errno::EIO));
    node.mt_op(MtOp::MTSEEK, 0).unwrap();
    assert_eq!(place(&node), (0, 0, gstat::BOT));
}

#[test]
fn early_warning_refuses_every_second_write_until_the_end() {
    let (tape, node) = opened(100_000);
    let mut results = Vec::new();
    for _ in 0..60 {
        results.push(node.write(&[7; 4096]).map_err(|errno| errno as i32));
    }
    let first = results.iter().position(Result::is_err).unwrap();
    let enospc = Err(Errno::ENOSPC as i32);
    assert_eq!(results[first..first + 5], [enospc, Ok(4096), enospc, Ok(4096), enospc]);
    let accepted = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(accepted, 100_000 / 4096, "everything up to the end of the medium");
    assert_eq!(results[50..], [enospc; 10]);
    assert_ne!(place(&node).2 & (gstat::EOT | gstat::EOD), 0);
    let blocks = tape.layout().split(' ').count();
    assert_eq!(blocks, accepted, "what was refused was not written");
    // A filemark at early warning is accepted without a word.
    let (_tape, node) = opened(100_000);
    while node.write(&[7; 4096]).is_ok() {}
    node.mt_op(MtOp::MTWEOF, 1).unwrap();
    assert_eq!(node.write(&[7; 4096]), Ok(4096), "the trailer");
}

#[test]
fn write_protection_refuses_at_open_or_at_the_write() {
    let (tape, node) = recorded(&[&[1]]);
    node.release();
    tape.controls().write_protected = true;
    assert_eq!(node.open(&request(Access::ReadWrite)), Err(Errno::EROFS));
    assert_eq!(node.open(&request(Access::Write)), Err(Errno::EROFS));
    node.open(&OpenRequest { nonblocking: true, ..request(Access::ReadWrite) }).unwrap();
    assert_eq!(node.write(&[1]), Err(Errno::EACCES));
    assert_eq!(node.mt_op(MtOp::MTWEOF, 1), Err(Errno::EACCES));
    assert_eq!(node.mt_op(MtOp::MTERASE, 1), Err(Errno::EACCES));
    assert_ne!(place(&node).2 & gstat::WR_PROT, 0);
    node.release();
    node.open(&request(Access::Read)).unwrap();
    assert_eq!(read(&node, 10), Ok(1));
    assert_eq!(node.write(&[1]), Err(Errno::EACCES));
}

#[test]
fn an_empty_drive_opens_only_without_waiting() {
    let tape = MemoryTape::new(1 << 20);
    tape.controls().loaded = false;
    let node = node(&tape);
    assert_eq!(node.open(&request(Access::Read)), Err(Errno::ENOMEDIUM));
    node.open(&OpenRequest { nonblocking: true, ..request(Access::Read) }).unwrap();
    let status = node.mt_get().unwrap();
    assert_eq!((status.fileno, status.blkno), (-1, -1));
    assert_eq!(status.gstat & (gstat::ONLINE | gstat::DR_OPEN), gstat::DR_OPEN);
    assert_eq!(read(&node, 10), Err(Errno::ENOMEDIUM));
    assert_eq!(node.mt_op(MtOp::MTREW, 1), Err(Errno::ENOMEDIUM));
    node.mt_op(MtOp::MTLOAD, 1).unwrap();
    assert_eq!(place(&node), (0, 0, gstat::BOT));
    node.mt_op(MtOp::MTOFFL, 1).unwrap();
    assert_eq!(node.mt_op(MtOp::MTOFFL, 1), Err(Errno::ENOMEDIUM));
}

#[test]
fn a_drive_that_becomes_ready_is_waited_for() {
    let tape = MemoryTape::new(1 << 20);
    tape.controls().loaded = false;
    tape.controls().becoming_ready = true;
    let patient = StNode::new("test", Box::new(tape.clone()), StOptions::default());
    let helper = tape.clone();
    let loader = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(600));
        helper.controls().loaded = true;
    });
    patient.open(&request(Access::Read)).unwrap();
    loader.join().unwrap();
    patient.release();
    tape.controls().loaded = false;
    patient.interrupt();
    assert_eq!(patient.open(&request(Access::Read)), Err(Errno::EIO), "a stopping service ends the wait");
}

#[test]
fn after_a_reset_only_motion_to_a_known_place_helps() {
    let (tape, node) = recorded(&[&[1, 2], &[3]]);
    assert_eq!(read(&node, 10), Ok(1));
    tape.controls().attentions.push(DriveErrorKind::Reset);
    assert_eq!(read(&node, 10), Err(Errno::EIO));
    assert_eq!(place(&node), (-1, -1, 0), "status is still told");
    assert_eq!(read(&node, 10), Err(Errno::EIO));
    assert_eq!(node.write(&[1]), Err(Errno::EIO));
    assert_eq!(node.mt_pos(), Err(Errno::EIO));
    for op in [MtOp::MTFSF, MtOp::MTBSR, MtOp::MTWEOF, MtOp::MTNOP, MtOp::MTSETBLK] {
        assert_eq!(node.mt_op(op, 1), Err(Errno::EIO), "{op:?}");
    }
    node.mt_op(MtOp::MTREW, 1).unwrap();
    assert_eq!(read(&node, 10), Ok(1));
}

#[test]
fn records_lost_in_a_reset_are_reported_at_close() {
    let (tape, node) = opened(1 << 20);
    node.write(&[1; 10]).unwrap();
    tape.controls().attentions.push(DriveErrorKind::Reset);
    assert_eq!(node.write(&[1; 10]), Err(Errno::EIO));
    assert_eq!(node.flush(), Err(Errno::EIO));
    node.release();
    assert_eq!(tape.layout(), "10", "no filemark at an unknown place");
    assert_eq!(node.open(&request(Access::Read)), Err(Errno::EIO), "the next opener hears of it");
    node.open(&request(Access::Read)).unwrap();
    assert_eq!(read(&node, 10), Err(Errno::EIO), "and still has to move the tape");
    node.mt_op(MtOp::MTREW, 1).unwrap();
    assert_eq!(read(&node, 10), Ok(10));
}

#[test]
fn a_failed_closing_filemark_is_the_next_openers_error() {
    let (tape, node) = opened(1 << 20);
    node.write(&[1; 10]).unwrap();
    node.flush().unwrap();
    tape.controls().fail_filemark = Some(DriveError::new(DriveErrorKind::Medium, "worn out"));
    node.release();
    assert_eq!(node.open(&request(Access::Read)), Err(Errno::EIO));
    assert!(node.last_error().unwrap().contains("worn out"), "{:?}", node.last_error());
    node.open(&request(Access::Read)).unwrap();
}

#[test]
fn flush_reports_what_could_not_be_synchronised() {
    let (tape, node) = opened(1 << 20);
    node.write(&[1; 10]).unwrap();
    tape.controls().fail_sync = Some(DriveError::new(DriveErrorKind::Hardware, "head fell off"));
    assert_eq!(node.flush(), Err(Errno::EIO));
    assert_eq!(node.flush(), Ok(()), "tried again at the next close");
}

#[test]
fn refusals_look_neither_blank_nor_full() {
    let (tape, node) = recorded(&[&[1, 2, 3]]);
    tape.controls().fail_read = Some(refusal(AdditionalSense::CRYPTOGRAPHIC_INTEGRITY_VALIDATION_FAILED));
    assert_eq!(read(&node, 10), Err(Errno::EBADMSG));
    assert_eq!(read(&node, 10), Ok(2), "what follows can be read");
    tape.controls().fail_read = Some(refusal(AdditionalSense::INCORRECT_DATA_ENCRYPTION_KEY));
    assert_eq!(read(&node, 10), Err(Errno::EACCES));
    tape.controls().fail_write = Some(refusal(AdditionalSense::SECURITY_ERROR));
    assert_eq!(node.write(&[1]), Err(Errno::EACCES));
    node.release();
    tape.controls().attentions.push(DriveErrorKind::Security);
    assert!(matches!(node.open(&request(Access::Read)), Err(Errno::EIO | Errno::EACCES)));
    tape.controls().attentions.push(DriveErrorKind::Security);
    assert_eq!(node.open(&request(Access::Read)), Err(Errno::EACCES));
}

#[test]
fn a_changed_medium_starts_anew_at_the_next_open() {
    let (tape, node) = recorded(&[&[1], &[2]]);
    node.mt_op(MtOp::MTFSF, 1).unwrap();
    node.release();
    // Somebody changes the cartridge; the drive says so at the next command.
    tape.clone().rewind().unwrap();
    tape.controls().attentions.push(DriveErrorKind::UnitAttention);
    node.open(&request(Access::ReadWrite)).unwrap();
    assert_eq!(place(&node), (0, 0, gstat::BOT));
    assert_eq!(node.with_idle_drive(|_| ()), Err(InUse { pid: 4711 }));
    // Or in the middle of things: nothing goes on until the program has moved the tape.
    tape.controls().attentions.push(DriveErrorKind::UnitAttention);
    assert_eq!(node.write(&[1]), Err(Errno::EIO));
    assert_eq!(node.write(&[1]), Err(Errno::EIO));
    node.mt_op(MtOp::MTREW, 1).unwrap();
    assert_eq!(read(&node, 10), Ok(1));
}

#[test]
fn the_service_loads_another_medium_between_programs() {
    let (tape, node) = recorded(&[&[1], &[2]]);
    tape.controls().attentions.push(DriveErrorKind::Reset);
    assert_eq!(read(&node, 10), Err(Errno::EIO));
    node.release();
    node.with_idle_drive(|drive| drive.unload().and_then(|()| drive.load())).unwrap().unwrap();
    node.open(&request(Access::ReadWrite)).unwrap();
    assert_eq!(place(&node), (0, 0, gstat::BOT), "what became of the place on the other medium does not matter");
    assert_eq!(read(&node, 10), Ok(1));
}

#[test]
fn the_service_puts_the_tape_back_where_it_stood() {
    let (tape, node) = recorded(&[&[1], &[2], &[3]]);
    node.mt_op(MtOp::MTFSF, 2).unwrap();
    node.release();
    let verified = node.with_idle_medium(|drive| {
        drive.rewind().unwrap();
        node.status().activity
    });
    assert_eq!(verified, Ok(Activity::Service));
    node.open(&request(Access::ReadWrite)).unwrap();
    assert_eq!(place(&node), (2, 0, gstat::EOF), "the program goes on where it was");
    node.release();
    // Where that is impossible, the program has to say where it wants to go.
    let lost = node.with_idle_medium(|drive| {
        drive.rewind().unwrap();
        drive.erase(false).unwrap();
    });
    assert_eq!(lost, Ok(()));
    node.open(&request(Access::ReadWrite)).unwrap();
    assert_eq!(node.write(&[9]), Err(Errno::EIO));
    node.mt_op(MtOp::MTREW, 1).unwrap();
    assert_eq!(node.write(&[9]), Ok(1));
    assert_eq!(tape.layout(), "1");
}

#[test]
fn a_tape_moved_behind_our_back_is_found_where_it_is() {
    let (tape, node) = recorded(&[&[1], &[2], &[3]]);
    node.release();
    tape.clone().locate(Position { partition: 0, object: 3 }).unwrap();
    node.open(&request(Access::Read)).unwrap();
    assert_eq!(place(&node), (1, -1, 0));
    node.release();
    tape.clone().rewind().unwrap();
    node.open(&request(Access::Read)).unwrap();
    assert_eq!(place(&node), (0, 0, gstat::BOT));
}

#[test]
fn fixed_blocks_read_and_write_in_multiples() {
    let (tape, node) = opened(1 << 20);
    node.mt_op(MtOp::MTSETBLK, 512).unwrap();
    assert_eq!(node.mt_get().unwrap().dsreg, 512);
    assert_eq!(node.write(&[1; 700]), Err(Errno::EINVAL));
    assert_eq!(node.write(&[1; 2048]), Ok(2048));
    node.mt_op(MtOp::MTWEOF, 1).unwrap();
    assert_eq!(node.write(&[2; 512]), Ok(512));
    node.mt_op(MtOp::MTREW, 1).unwrap();
    assert_eq!(tape.layout(), "512 512 512 512 | 512 |");
    assert_eq!(read(&node, 1024), Ok(1024));
    assert_eq!(place(&node), (0, 2, 0));
    assert_eq!(read(&node, 4096), Ok(1024), "up to the filemark");
    assert_eq!(read(&node, 4096), Ok(0));
    assert_eq!(place(&node), (1, 0, gstat::EOF));
    assert_eq!(read(&node, 100), Ok(100), "part of a block");
    assert_eq!(read(&node, 600), Ok(412), "its rest");
    assert_eq!(read(&node, 600), Ok(0));
    node.mt_op(MtOp::MTSETBLK, 0).unwrap();
    node.mt_op(MtOp::MTREW, 1).unwrap();
    assert_eq!(read(&node, 4096), Ok(512), "variable again");
}

#[test]
fn closing_at_a_filemark_met_behind_blocks_steps_back_over_it() {
    let (_tape, node) = recorded(&[&[512, 512], &[512]]);
    node.mt_op(MtOp::MTSETBLK, 512).unwrap();
    assert_eq!(read(&node, 4096), Ok(1024));
    node.release();
    node.open(&request(Access::Read)).unwrap();
    assert_eq!(read(&node, 4096), Ok(0), "the filemark is still to be read");
    assert_eq!(read(&node, 4096), Ok(512));
    node.mt_op(MtOp::MTREW, 1).unwrap();
    assert_eq!(read(&node, 4096), Ok(1024));
    node.mt_op(MtOp::MTFSF, 1).unwrap();
    assert_eq!(place(&node), (1, 0, gstat::EOF), "the filemark that was met is the one that is passed");
    assert_eq!(read(&node, 512), Ok(512));
}

#[test]
fn blocks_of_another_length_are_refused_and_kept() {
    let (_tape, node) = recorded(&[&[512, 100]]);
    node.mt_op(MtOp::MTSETBLK, 512).unwrap();
    assert_eq!(read(&node, 1024), Ok(512));
    assert_eq!(read(&node, 1024), Err(Errno::EIO));
    assert_eq!(place(&node), (0, 1, 0));
    node.mt_op(MtOp::MTSETBLK, 0).unwrap();
    assert_eq!(read(&node, 1024), Ok(100));
}

#[test]
fn fixed_blocks_before_an_error_are_delivered() {
    let (tape, node) = recorded(&[&[512, 512, 512]]);
    node.mt_op(MtOp::MTSETBLK, 512).unwrap();
    assert_eq!(read(&node, 512), Ok(512));
    tape.controls().fail_read = Some(DriveError::new(DriveErrorKind::Medium, "scratch"));
    assert_eq!(read(&node, 1024), Err(Errno::EIO));
    assert_eq!(read(&node, 1024), Ok(512));
}

#[test]
fn partitions_need_permission() {
    let (_tape, node) = opened(1 << 30);
    assert_eq!(node.mt_op(MtOp::MTMKPART, 10), Err(Errno::EINVAL));
    assert_eq!(node.mt_op(MtOp::MTSETPART, 0), Err(Errno::EINVAL));
    node.mt_op(MtOp::MTSETDRVBUFFER, 0x3000_0400).unwrap();
    node.mt_op(MtOp::MTMKPART, 10).unwrap();
    node.write(&[1; 10]).unwrap();
    node.mt_op(MtOp::MTWEOF, 1).unwrap();
    node.mt_op(MtOp::MTSETPART, 1).unwrap();
    assert_eq!(node.write(&[2; 20]), Ok(20));
    node.mt_op(MtOp::MTREW, 1).unwrap();
    assert_eq!(node.mt_get().unwrap().resid, 1);
    assert_eq!(read(&node, 100), Ok(20));
    node.mt_op(MtOp::MTSETPART, 0).unwrap();
    assert_eq!(node.mt_pos(), Ok(2), "back where partition 0 was left");
    assert_eq!(node.mt_op(MtOp::MTSETPART, 2), Err(Errno::EINVAL));
}

#[test]
fn odd_requests_are_refused() {
    let (_tape, node) = opened(1 << 20);
    assert_eq!(node.mt_op(MtOp(77), 1), Err(Errno::ENOSYS));
    assert_eq!(node.mt_op(MtOp::MTFSS, 1), Err(Errno::EIO));
    assert_eq!(node.mt_op(MtOp::MTSETDENSITY, 0x5a), Err(Errno::EINVAL));
    assert_eq!(node.mt_op(MtOp::MTSETDENSITY, 0), Ok(()));
    assert_eq!(node.mt_op(MtOp::MTSETBLK, 9 << 20), Err(Errno::EINVAL));
    assert_eq!(node.write(&vec![0; 9 << 20]), Err(Errno::EINVAL), "longer than the drive's limit");
    assert_eq!(node.mt_op(MtOp::MTWEOF, -1), Err(Errno::EINVAL));
    for op in [MtOp::MTNOP, MtOp::MTCOMPRESSION, MtOp::MTLOCK, MtOp::MTUNLOCK, MtOp::MTRETEN, MtOp::MTERASE] {
        node.mt_op(op, 1).unwrap();
    }
    node.release();
    let user = OpenRequest { opener: Opener { pid: 1, uid: 1000, gid: 1000 }, ..request(Access::ReadWrite) };
    node.open(&user).unwrap();
    assert_eq!(node.mt_op(MtOp::MTSETDRVBUFFER, 1), Err(Errno::EPERM));
    assert_eq!(node.open(&user), Err(Errno::EBUSY));
    node.release();
    assert_eq!(node.write(&[1]), Err(Errno::EBADF));
}

#[test]
fn status_is_told_while_the_drive_is_busy() {
    let (tape, node) = recorded(&[&[10, 20]]);
    assert_eq!(read(&node, 100), Ok(10));
    let status = node.status();
    assert_eq!((status.activity, status.file, status.block), (Activity::Reading, Some(0), Some(1)));
    assert_eq!((status.counters.records_written, status.counters.bytes_written), (2, 30));
    assert_eq!((status.counters.records_read, status.counters.bytes_read), (1, 10));
    assert_eq!(status.opener.unwrap().pid, 4711);
    tape.controls().motion = Duration::from_millis(500);
    std::thread::scope(|scope| {
        scope.spawn(|| node.mt_op(MtOp::MTREW, 1).unwrap());
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(node.status().activity, Activity::Moving);
    });
    node.release();
    assert_eq!(node.status().activity, Activity::Idle);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever a program does, the counted place is the true one or is said to be unknown.
    #[test]
    fn the_counted_place_is_never_wrong(steps in proptest::collection::vec((0_u8..12, 0_i32..4), 1..60)) {
        let (tape, node) = opened(1 << 30);
        for (step, count) in steps {
            let op = match step {
                0..=2 => { let _ = node.write(&vec![1; 16 + count as usize]); continue; }
                3 | 4 => { let _ = node.read(&mut [0; 18]); continue; }
                5 => MtOp::MTWEOF,
                6 => MtOp::MTFSF,
                7 => MtOp::MTBSF,
                8 => MtOp::MTFSR,
                9 => MtOp::MTBSR,
                10 => MtOp::MTEOM,
                _ => MtOp::MTREW,
            };
            let _ = node.mt_op(op, count);
            let (file, block, bits) = place(&node);
            let object = node.mt_pos().unwrap();
            let layout = tape.layout();
            let before: Vec<&str> = layout.split(' ').filter(|word| !word.is_empty()).take(object as usize).collect();
            prop_assert_eq!(before.len() as u64, object);
            let files = before.iter().filter(|word| **word == "|").count() as i32;
            let blocks = before.iter().rev().take_while(|word| **word != "|").count() as i32;
            prop_assert!(file == -1 || file == files, "{:?} {}: file {} but {} at {} of {}", op, count, file, files, object, layout);
            prop_assert!(block == -1 || block == blocks, "{:?} {}: block {} but {} at {} of {}", op, count, block, blocks, object, layout);
            prop_assert_eq!(bits & gstat::BOT != 0, object == 0 && file == 0 && block == 0);
        }
    }
}
