//! `seal` and `open`: filters from stdin to stdout. `sealtape-amcrypt` is the same for Amanda.

use std::fs::File;
use std::io::{IsTerminal, Read, Write, stdin, stdout};
use std::os::fd::AsFd;

use clap::Args;
use sealtape_kms::client::{CALL_TIMEOUT, StreamClient};
use sealtape_kms::protocol::GenerationRef;

use super::failure::{Exit, Failure};
use super::output::Output;
use super::progress::Bar;
use crate::control::{Progress, ProgressUnit};
use crate::filter::{Behind, FilterError, NewStream, OpenedStream, SealedStream, open_before, seal, threads};
use crate::seal::{Compression, GenerationKeys, GenerationRecord, GenerationScope, Stanza, Suite};
use crate::service::daemon::no_core_dumps;
use crate::service::home::Home;

/// Seal stdin to stdout.
#[derive(Debug, Args)]
pub(super) struct Seal {
    /// The pool whose policy and keys are used [default: the default pool]
    #[arg(long)]
    pool: Option<String>,
}

/// Open a sealed stream: stdin to stdout.
#[derive(Debug, Args)]
pub(super) struct Open {}

impl Seal {
    pub(super) fn run(self, home: &Home, output: &Output) -> Result<(), Failure> {
        if stdout().is_terminal() {
            return Err(Failure::new(
                Exit::Usage,
                "seal writes ciphertext to standard output, which is a terminal",
                "send it to a file or a program: sealtape seal < FILE > SEALED",
            ));
        }
        let mut bar = Bar::new(output, "sealing");
        let sealed =
            seal_pipe(home, self.pool.as_deref(), &mut unbuffered(stdin())?, &mut unbuffered(stdout())?, |done| {
                show(&mut bar, done)
            })?;
        drop(bar);
        output.note(&format!(
            "stream {}: sealed {} bytes into {}",
            sealed.volume, sealed.plain_bytes, sealed.stream_bytes
        ));
        Ok(())
    }
}

impl Open {
    pub(super) fn run(self, home: &Home, output: &Output) -> Result<(), Failure> {
        if stdin().is_terminal() {
            return Err(Failure::new(
                Exit::Usage,
                "open reads ciphertext from standard input, which is a terminal",
                "give it a file or a program's output: sealtape open < SEALED > FILE",
            ));
        }
        let mut bar = Bar::new(output, "opening");
        let opened = open_pipe(home, &mut unbuffered(stdin())?, &mut unbuffered(stdout())?, Behind::Nothing, |done| {
            show(&mut bar, done)
        })?;
        drop(bar);
        output.note(&format!("stream {}: opened {} bytes; its end is authentic", opened.volume, opened.plain_bytes));
        Ok(())
    }
}

/// Standard input or output without the buffer of the standard library, which copies, and breaks records up at line ends.
pub(super) fn unbuffered(stream: impl AsFd) -> Result<File, Failure> {
    let own = stream.as_fd().try_clone_to_owned();
    own.map(File::from).map_err(|e| {
        Failure::new(
            Exit::Failed,
            format!("standard input or output cannot be used: {e}"),
            "check how this was started",
        )
    })
}

fn show(bar: &mut Bar, done: u64) {
    bar.show(&Progress { stage: "stream".into(), done, total: None, unit: ProgressUnit::Bytes });
}

/// Seals `input` under a new key of the pool.
pub(super) fn seal_pipe(
    home: &Home,
    pool: Option<&str>,
    input: &mut impl Read,
    output: &mut (impl Write + Send),
    progress: impl FnMut(u64),
) -> Result<SealedStream, Failure> {
    no_core_dumps()?;
    let keyd = StreamClient::new(home.stream_socket(), CALL_TIMEOUT);
    let (generation, data_key) = keyd.create_stream(pool)?;
    let stream = NewStream {
        keys: GenerationKeys::new(data_key, scope(&generation.at, generation.suite)),
        key_id: generation.at.key_id,
        session_ordinal: generation.first_ordinal,
        stanzas: generation.stanzas.into_iter().map(|s| Stanza { kind: s.kind, body: s.body.0 }).collect(),
        compression: Compression(generation.compression),
        threads: threads(),
    };
    let sealed = seal(&stream, input, output, progress)?;
    // The stream proves its own end: that the catalogue does not have it yet is no reason to call a backup failed.
    if let Err(e) = keyd.finish_stream(sealed.volume, sealed.records, &sealed.last_tag) {
        tracing::warn!(volume = %sealed.volume, error = %e, "the stream is whole, but its end could not be recorded in the catalogue");
    }
    Ok(sealed)
}

/// Opens the sealed stream `input`.
pub(super) fn open_pipe(
    home: &Home,
    input: &mut (impl Read + Send),
    output: &mut impl Write,
    behind: Behind,
    progress: impl FnMut(u64),
) -> Result<OpenedStream, Failure> {
    no_core_dumps()?;
    let keyd = StreamClient::new(home.stream_socket(), CALL_TIMEOUT);
    let keys = |_: &_, record: &GenerationRecord| {
        let at = GenerationRef {
            volume: record.scope.volume,
            partition: record.scope.partition,
            generation: record.scope.generation,
            key_id: record.key_id,
        };
        let (_, data_key) = keyd.load_stream(at)?;
        Ok::<_, Failure>(GenerationKeys::opening(data_key, record.scope))
    };
    open_before(input, output, behind, keys, progress)
}

fn scope(at: &GenerationRef, suite: u8) -> GenerationScope {
    GenerationScope { volume: at.volume, partition: at.partition, generation: at.generation, suite: Suite(suite) }
}

impl From<FilterError> for Failure {
    fn from(error: FilterError) -> Self {
        let message = error.to_string();
        match error {
            FilterError::Write(e) => Self::stdout(&e),
            FilterError::Read(_) => {
                Self::new(Exit::Drive, message, "mend the program or file that the data comes from")
            }
            FilterError::Refused { .. } => Self::new(
                Exit::Integrity,
                message,
                "what was written before is authentic; take the stream again from its source, or from another copy",
            ),
            FilterError::TooLong => Self::new(Exit::Failed, message, ""),
            FilterError::System(_) | FilterError::Head(_) => {
                Self::new(Exit::Failed, message, "check the limits of this user and machine")
            }
        }
    }
}
