//! A configuration that is refused: the file, the place in it, and the mend.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why the configuration is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// There is none.
    #[error("{} does not exist; create the home folder with: sealtape --home {} init", path.display(), folder(path).display())]
    Missing {
        /// The file or folder.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("{} cannot be read ({source}); run this as its owner, or correct its permissions", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A folder, device or pipe stands in its place.
    #[error("{} is not a file; put the configuration file in its place", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Others than the owner may read or write it.
    #[error("{} has mode {mode:04o}, so others than its owner may use it; correct it with: chmod {mend} {}", path.display(), path.display())]
    OpenToOthers {
        /// The file or folder.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// What to give to chmod.
        mend: &'static str,
    },
    /// Someone else owns it.
    #[error("{} belongs to user {owner}, not to root or to user {user} who is to use it; correct it with: chown {user} {}", path.display(), path.display())]
    ForeignOwner {
        /// The file.
        path: PathBuf,
        /// Who owns it.
        owner: u32,
        /// Who reads it.
        user: u32,
    },
    /// It is longer than any configuration is.
    #[error("{} is longer than {limit} bytes; this is no configuration file", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// Something in it is wrong.
    #[error("{}: {what}", Place(path, *line))]
    Content {
        /// The file.
        path: PathBuf,
        /// The line, from 1, where it is known.
        line: Option<usize>,
        /// What is wrong, and what to write.
        what: String,
    },
}

struct Place<'a>(&'a Path, Option<usize>);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(line) => write!(f, "{}, line {line}", self.0.display()),
            None => write!(f, "{}", self.0.display()),
        }
    }
}

fn folder(file: &Path) -> &Path {
    match file.extension() {
        Some(_) => file.parent().unwrap_or(file),
        None => file,
    }
}

impl ConfigError {
    /// The file or folder that this is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::Missing { path }
            | Self::Unreadable { path, .. }
            | Self::NotAFile { path }
            | Self::OpenToOthers { path, .. }
            | Self::ForeignOwner { path, .. }
            | Self::TooLong { path, .. }
            | Self::Content { path, .. } => path,
        }
    }

    pub(super) fn unreadable(path: &Path, source: std::io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            std::io::ErrorKind::NotFound => Self::Missing { path },
            std::io::ErrorKind::InvalidData => {
                Self::Content { path, line: None, what: "this is not UTF-8 text; write it anew".to_owned() }
            }
            _ => Self::Unreadable { path, source },
        }
    }

    pub(super) fn value(path: &Path, text: &str, span: Range<usize>, what: String) -> Self {
        Self::Content { path: path.to_path_buf(), line: Some(line_of(text, span.start)), what }
    }

    pub(super) fn from_toml(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let message = error.message().trim_end().replace('\n', "; ");
        let what = match suggestion(&message) {
            Some(known) => format!("{message}; did you mean `{known}`?"),
            None => message,
        };
        Self::Content { path: path.to_path_buf(), line: error.span().map(|span| line_of(text, span.start)), what }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// The nearest name that serde offers in "unknown field `x`, expected one of `y`, `z`" (or variant).
fn suggestion(message: &str) -> Option<&str> {
    if !message.starts_with("unknown field") && !message.starts_with("unknown variant") {
        return None;
    }
    let mut names = message.split('`').skip(1).step_by(2);
    let unknown = names.next()?;
    nearest(unknown, names)
}

/// The candidate that the fewest edits away from `name`, if it is near enough to be meant.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (edits(name, candidate), candidate))
        .min()
        .filter(|(edits, candidate)| *edits <= 1 + candidate.len() / 3)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance, in one row. Keys are short.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (from, to, distance) in
            [("", "", 0), ("abc", "abc", 0), ("kitten", "sitting", 3), ("", "abc", 3), ("ab", "b", 1)]
        {
            assert_eq!(edits(from, to), distance, "{from} {to}");
        }
    }

    #[test]
    fn only_a_near_name_is_offered() {
        assert_eq!(nearest("seal_thread", ["nodes", "seal_threads", "window_bytes"].into_iter()), Some("seal_threads"));
        assert_eq!(nearest("colour", ["nodes", "seal_threads"].into_iter()), None);
    }
}
