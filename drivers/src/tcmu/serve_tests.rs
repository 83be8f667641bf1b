//! Unit and ring together, over memory of our own.

use std::sync::{Arc, Mutex};

use super::super::ring::tests::{Answer, Kernel, new};
use super::*;
use crate::scsi::{FieldPointer, SenseFlags};

/// What a unit was asked, and what it answers.
#[derive(Default)]
struct Script {
    asked: Vec<(Vec<u8>, Vec<u8>, usize)>,
    resets: usize,
    give: Vec<u8>,
    completion: Option<Completion>,
    panic: bool,
}

struct Scripted(Arc<Mutex<Script>>);

impl LogicalUnit for Scripted {
    fn execute(&mut self, cdb: &[u8], data_out: &[u8], data_in: &mut DataIn<'_>) -> Completion {
        let mut script = self.0.lock().unwrap();
        script.asked.push((cdb.to_vec(), data_out.to_vec(), data_in.room()));
        let (give, completion, panic) = (script.give.clone(), script.completion, script.panic);
        drop(script);
        data_in.put(&give, usize::MAX);
        assert!(!panic, "a bug in the unit");
        completion.unwrap_or(Completion::GOOD)
    }

    fn reset(&mut self) {
        self.0.lock().unwrap().resets += 1;
    }
}

struct Bench {
    attendant: Attendant,
    kernel: Kernel,
    script: Arc<Mutex<Script>>,
}

impl Bench {
    fn new() -> Self {
        let script = Arc::new(Mutex::new(Script::default()));
        let (ring, kernel) = new(4096);
        let unit = GuardedUnit::new("bench".into(), Box::new(Scripted(Arc::clone(&script))));
        // No room beforehand: the buffer grows with what comes.
        Self { attendant: Attendant::new(ring, unit, 0), kernel, script }
    }

    fn run(&mut self, cdb: &[u8], data: &[(usize, usize)]) -> Answer {
        self.kernel.command(&mut self.attendant.ring, cdb, data).unwrap();
        assert_eq!(self.attendant.step(), Ok(true));
        let answer = self.kernel.answer(&self.attendant.ring).unwrap();
        assert_eq!(self.attendant.step(), Ok(false));
        answer
    }

    fn asked(&self) -> (Vec<u8>, Vec<u8>, usize) {
        self.script.lock().unwrap().asked.last().unwrap().clone()
    }
}

const READ: [u8; 6] = [0x08, 0, 0, 0, 8, 0];
const WRITE: [u8; 6] = [0x0a, 0, 0, 0, 8, 0];

#[test]
fn data_go_the_way_of_the_operation() {
    let mut bench = Bench::new();
    bench.kernel.write_data(&mut bench.attendant.ring, 0, b"abcd");
    bench.kernel.write_data(&mut bench.attendant.ring, 8192, b"efgh");
    assert_eq!(bench.run(&WRITE, &[(0, 4), (8192, 4)]).status, 0);
    assert_eq!(bench.asked(), (WRITE.to_vec(), b"abcdefgh".to_vec(), 0));
    bench.script.lock().unwrap().give = b"12345678".to_vec();
    let answer = bench.run(&READ, &[(0, 4), (8192, 4)]);
    assert_eq!((answer.status, answer.uflags, answer.read_length), (0, 2, 8));
    assert_eq!(bench.asked(), (READ.to_vec(), Vec::new(), 8));
    assert_eq!(bench.kernel.read_data(&bench.attendant.ring, 8192, 4), b"5678");
}

#[test]
fn a_short_read_tells_its_length_with_whatever_status() {
    let mut bench = Bench::new();
    let mut sense = Sense::new(SenseKey::NO_SENSE, AdditionalSense::NONE);
    sense.flags.incorrect_length = true;
    sense.information = Some(5);
    {
        let mut script = bench.script.lock().unwrap();
        script.give = b"123".to_vec();
        script.completion = Some(Completion::check(sense));
    }
    let answer = bench.run(&READ, &[(0, 8)]);
    assert_eq!((answer.status, answer.uflags, answer.read_length), (2, 2, 3));
    assert_eq!(answer.sense[..8], [0xf0, 0, 0x20, 0, 0, 0, 5, 10]);
}

#[test]
fn nothing_read_leaves_nothing_of_an_older_command() {
    let mut bench = Bench::new();
    bench.kernel.write_data(&mut bench.attendant.ring, 0, b"secret!!");
    let answer = bench.run(&READ, &[(0, 8)]);
    assert_eq!((answer.uflags, answer.read_length), (0, 0));
    assert_eq!(bench.kernel.read_data(&bench.attendant.ring, 0, 8), [0; 8]);
}

#[test]
fn a_unit_that_panics_is_dead_and_the_kernel_is_answered() {
    let mut bench = Bench::new();
    bench.script.lock().unwrap().panic = true;
    bench.script.lock().unwrap().give = b"half".to_vec();
    for _ in 0..2 {
        let answer = bench.run(&READ, &[(0, 8)]);
        assert_eq!((answer.status, answer.read_length), (2, 0));
        assert_eq!((answer.sense[2], answer.sense[12], answer.sense[13]), (4, 0x44, 0));
    }
    assert_eq!(bench.script.lock().unwrap().asked.len(), 1, "it is not asked again");
    bench.kernel.task_management(&mut bench.attendant.ring, 5);
    assert_eq!(bench.attendant.step(), Ok(true));
    assert_eq!(bench.script.lock().unwrap().resets, 0, "nor reset");
}

#[test]
fn resets_reach_the_unit_and_aborts_do_not() {
    let mut bench = Bench::new();
    for (function, resets) in [(1, 0), (5, 1), (2, 1), (128, 1), (6, 2), (7, 3)] {
        assert!(bench.kernel.task_management(&mut bench.attendant.ring, function));
        assert_eq!(bench.attendant.step(), Ok(true));
        assert_eq!(bench.script.lock().unwrap().resets, resets, "{function}");
    }
}

#[test]
fn a_check_condition_without_sense_is_the_units_fault() {
    let mut bench = Bench::new();
    bench.script.lock().unwrap().completion = Some(Completion { status: Status::CHECK_CONDITION, sense: None });
    let answer = bench.run(&READ, &[(0, 8)]);
    assert_eq!((answer.sense[0], answer.sense[2], answer.sense[12]), (0x70, 4, 0x44));
}

#[test]
fn sense_in_fixed_form() {
    let sense = Sense {
        key: SenseKey::ILLEGAL_REQUEST,
        additional: AdditionalSense::INVALID_FIELD_IN_CDB,
        flags: SenseFlags { filemark: true, end_of_medium: true, incorrect_length: false, deferred: true },
        information: Some(-2),
        field: Some(FieldPointer { in_cdb: true, byte: 4, bit: Some(3) }),
    };
    let expected = [0xf1, 0, 0xc5, 0xff, 0xff, 0xff, 0xfe, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xcb, 0, 4].to_vec();
    assert_eq!(fixed_sense(&sense), expected);
}

#[test]
fn verify_sends_data_only_where_it_compares() {
    assert!(sends_data(&[0x13, 0x02, 0, 0, 1, 0]) && !sends_data(&[0x13, 0x05 & 0x01, 0, 0, 1, 0]));
    assert!(!sends_data(&[]) && !sends_data(&READ) && sends_data(&WRITE));
}
