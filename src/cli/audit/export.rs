//! `audit export`.

use std::fs::File;
use std::io::{BufWriter, Write, stdout};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use sealtape_kms::client::{ClientError, ControlClient};
use sealtape_kms::protocol::{CheckpointView, EntryFilter, ExportOrder, ExportScope};

use super::show::Filter;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::table::fields;

/// Write the custody log, or what is chosen of it, into a new file.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The file (JSON Lines unless --csv is given), or - for standard output
    file: PathBuf,
    /// Write CSV; it verifies as well
    #[arg(long)]
    csv: bool,
    #[command(flatten)]
    filter: Filter,
}

impl Export {
    pub(super) fn run(self, keyd: &ControlClient, output: &Output) -> Result<(), Failure> {
        let filter = self.filter.into_filter();
        // Everything, and everything of a tenant, can be proven to be complete; of anything else only that it is in the log.
        let rest = EntryFilter { tenant: None, ..filter.clone() };
        let scope = match &filter.tenant {
            None if filter == EntryFilter::default() => ExportScope::Full,
            Some(tenant) if rest == EntryFilter::default() => ExportScope::Tenant(tenant.clone()),
            _ => ExportScope::Selection(filter),
        };
        export(keyd, &self.file, &ExportOrder { scope, csv: self.csv }, output)
    }
}

fn export(keyd: &ControlClient, file: &Path, order: &ExportOrder, output: &Output) -> Result<(), Failure> {
    if file == Path::new("-") {
        let mut out = BufWriter::new(stdout().lock());
        keyd.audit_export_as(order, &mut out)?;
        return out.flush().map_err(|e| Failure::stdout(&e));
    }
    let failed = |e: std::io::Error| Failure::file("writing the export", file, &e);
    let created = File::options().write(true).create_new(true).mode(0o600).open(file).map_err(failed)?;
    let mut out = BufWriter::new(created);
    let written = keyd.audit_export_as(order, &mut out).map_err(|e| match e {
        ClientError::Output(e) => failed(e),
        other => other.into(),
    });
    let checkpoint = written.and_then(|checkpoint| {
        out.into_inner().map_err(|e| failed(e.into_error()))?.sync_all().map_err(failed)?;
        Ok(checkpoint)
    });
    let checkpoint = checkpoint.inspect_err(|_| {
        // Half an export would not verify; the error that is told is the first one.
        if let Err(e) = std::fs::remove_file(file) {
            tracing::warn!(file = %file.display(), error = %e, "the unfinished export could not be removed");
        }
    })?;
    output.value(&checkpoint, |checkpoint: &CheckpointView| {
        fields(&[
            ("export", file.display().to_string()),
            ("entries", checkpoint.size.to_string()),
            ("root", checkpoint.root.to_string()),
        ])
    })
}
