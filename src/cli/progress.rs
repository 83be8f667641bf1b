//! Progress bars on stderr, when it is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::Output;
use crate::control::{Progress, ProgressUnit};

/// A bar that follows the reports of an operation; draws nothing where that is not wanted.
pub(super) struct Bar {
    bar: ProgressBar,
    shape: Option<(ProgressUnit, bool)>,
}

impl Bar {
    pub(super) fn new(output: &Output, stage: &str) -> Self {
        let target = match output.draws_progress() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(None, target).with_message(stage.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, shape: None }
    }

    /// Shows a report.
    pub(super) fn show(&mut self, progress: &Progress) {
        let shape = Some((progress.unit, progress.total.is_some()));
        if self.shape != shape {
            self.shape = shape;
            // The templates are constants of this file: a test parses each.
            if let Ok(style) = ProgressStyle::with_template(template(progress.unit, progress.total.is_some())) {
                self.bar.set_style(style.progress_chars("=> "));
            }
        }
        match progress.total {
            Some(total) => self.bar.set_length(total),
            None => self.bar.unset_length(),
        }
        self.bar.set_message(progress.stage.clone());
        self.bar.set_position(progress.done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn template(unit: ProgressUnit, total: bool) -> &'static str {
    match (unit, total) {
        (ProgressUnit::Bytes, true) => {
            "{msg} [{bar:30}] {percent}% {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left"
        }
        (ProgressUnit::Bytes, false) => "{spinner} {msg}: {binary_bytes}, {binary_bytes_per_sec}, {elapsed}",
        (ProgressUnit::Records | ProgressUnit::Steps, true) => {
            "{msg} [{bar:30}] {percent}% {human_pos} of {human_len}, {eta} left"
        }
        (ProgressUnit::Records | ProgressUnit::Steps, false) => "{spinner} {msg}: {human_pos}, {elapsed}",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_parse() {
        for unit in [ProgressUnit::Bytes, ProgressUnit::Records, ProgressUnit::Steps] {
            for total in [true, false] {
                ProgressStyle::with_template(template(unit, total)).unwrap();
            }
        }
    }
}
