//! A program that has a tape node open, as backup programs do: several steps over one descriptor.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;

use crate::sequence::{block, fingerprint};
use crate::sys;

/// One step.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Open,
    Close,
    Read(usize),
    Write(usize, u64),
    /// `mt_op` and `mt_count`.
    Operation(i16, i32),
}

impl Step {
    fn parse(line: &str) -> Result<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        Ok(match *words {
            ["open"] => Self::Open,
            ["close"] => Self::Close,
            ["read", length] => Self::Read(length.parse()?),
            ["write", length, seed] => Self::Write(length.parse()?, seed.parse()?),
            ["op", operation, count] => Self::Operation(operation.parse()?, count.parse()?),
            _ => bail!("no such step"),
        })
    }
}

/// A node, and the descriptor if it is open.
pub(crate) struct Tape {
    path: PathBuf,
    node: Option<File>,
    number: u32,
}

impl Tape {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), node: None, number: 0 }
    }

    /// Does a step, and prints what came of it and where the drive stands according to `st`.
    pub(crate) fn step(&mut self, step: Step) {
        let result = match self.perform(step) {
            Ok(text) => text,
            Err(errno) => format!("{errno:?}"),
        };
        let stand = self.node.as_ref().map_or(String::new(), |node| match sys::status(node.as_fd()) {
            Ok(status) => format!(
                " | file {} block {} status {:x} density {:x} residue {} at {:?}",
                status.file,
                status.block,
                status.general,
                status.density,
                status.residue,
                sys::position(node.as_fd())
            ),
            Err(errno) => format!(" | {errno:?}"),
        });
        println!("{} {step:?} = {result}{stand}", self.number);
        self.number += 1;
    }

    fn perform(&mut self, step: Step) -> nix::Result<String> {
        let io = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(0));
        let node = self.node.as_mut().ok_or(Errno::EBADF);
        match step {
            Step::Open => {
                self.node = Some(OpenOptions::new().read(true).write(true).open(&self.path).map_err(io)?);
                Ok("open".into())
            }
            Step::Close => {
                // What close says is lost by the standard library: the next step shows it.
                self.node = None;
                Ok("closed".into())
            }
            Step::Read(length) => {
                let mut buffer = vec![0; length];
                let length = node?.read(&mut buffer).map_err(io)?;
                Ok(format!("{length} {:016x}", fingerprint(buffer.get(..length).unwrap_or_default())))
            }
            Step::Write(length, seed) => Ok(node?.write(&block(seed, length)).map_err(io)?.to_string()),
            Step::Operation(operation, count) => sys::operate(node?.as_fd(), operation, count).map(|()| "done".into()),
        }
    }
}

pub(crate) fn from_script(node: &Path, script: impl BufRead) -> Result<()> {
    let mut tape = Tape::new(node);
    for line in script.lines() {
        let line = line?;
        let text = line.split('#').next().unwrap_or_default().trim();
        if !text.is_empty() {
            tape.step(Step::parse(text).with_context(|| line.clone())?);
        }
    }
    Ok(())
}
