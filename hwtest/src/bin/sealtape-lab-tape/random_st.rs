//! What programs might do to a tape node, by a seed: reads, writes and motions in every order, over one descriptor and over several.

use std::path::Path;

use anyhow::Result;

use crate::sequence::Sequence;
use crate::st::{Step, Tape};

const LARGEST: u32 = 65536;
// `mt_op` of `<linux/mtio.h>`.
const FORWARD_FILE: i16 = 1;
const BACKWARD_FILE: i16 = 2;
const FORWARD_RECORD: i16 = 3;
const BACKWARD_RECORD: i16 = 4;
const FILEMARKS: i16 = 5;
const REWIND: i16 = 6;
const NOTHING: i16 = 8;
const BACKWARD_FILE_BEHIND: i16 = 10;
const FORWARD_FILE_BEFORE: i16 = 11;
const END_OF_DATA: i16 = 12;
const BLOCK_LENGTH: i16 = 20;
const SEEK: i16 = 22;

pub(crate) fn run(node: &Path, seed: u64, steps: u32) -> Result<()> {
    let mut tape = Tape::new(node);
    let mut sequence = Sequence::new(seed);
    tape.step(Step::Open);
    for _ in 0..steps {
        for step in next(&mut sequence) {
            tape.step(step);
        }
    }
    tape.step(Step::Operation(BLOCK_LENGTH, 0));
    tape.step(Step::Close);
    Ok(())
}

fn next(sequence: &mut Sequence) -> Vec<Step> {
    let few = i32::try_from(1 + sequence.below(3)).unwrap_or(1);
    let length = sequence.block_length(LARGEST) as usize;
    let operation = |number, count| vec![Step::Operation(number, count)];
    match sequence.below(100) {
        0..28 => vec![Step::Read(if sequence.chance(1, 2) { LARGEST as usize } else { length })],
        28..52 => {
            let seed = sequence.next();
            // Each write ends the tape behind it: most append, so that there is something to move over.
            let mut steps = vec![Step::Operation(END_OF_DATA, 1)];
            if sequence.chance(1, 5) {
                steps.clear();
            }
            steps.push(Step::Write(length, seed));
            steps
        }
        52..60 => operation(FILEMARKS, few - 1),
        60..66 => operation(FORWARD_FILE, few),
        66..72 => operation(BACKWARD_FILE, few),
        72..76 => operation(FORWARD_RECORD, few),
        76..80 => operation(BACKWARD_RECORD, few),
        80..82 => operation(BACKWARD_FILE_BEHIND, few),
        82..84 => operation(FORWARD_FILE_BEFORE, few),
        84..88 => operation(SEEK, i32::try_from(sequence.below(30)).unwrap_or(0)),
        88..91 => operation(END_OF_DATA, 1),
        91..93 => operation(REWIND, 1),
        93..95 => operation(BLOCK_LENGTH, sequence.one_of(0, &[512, 1000, 4096, 0, 0])),
        95..96 => operation(NOTHING, 1),
        _ => vec![Step::Close, Step::Open],
    }
}
