//! The job folder: what host and guest tell each other.
//!
//! | file | by | what |
//! |---|---|---|
//! | `init`, `lab.sh`, `job` | host | first process of the guest, functions for scripts, the script |
//! | `environment`, `modules`, `folders` | host | shell assignments; names and paths, one a line |
//! | `console` | the guest's kernel | its messages |
//! | `output` | guest | what the script prints, at once |
//! | `exit` | guest | the script's exit code |
//! | `failed` | guest | why the script was not started |

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::error::{Error, LastWords};

const INIT: &str = include_str!("../../guest/init.sh");
const PRELUDE: &str = include_str!("../../guest/lab.sh");

/// More than this of a file is not taken into memory.
const LONGEST_TEXT: u64 = 64 << 20;

pub(super) struct JobFolder {
    folder: tempfile::TempDir,
}

impl JobFolder {
    pub(super) fn new() -> Result<Self, Error> {
        let parent = std::env::temp_dir();
        let folder = tempfile::Builder::new()
            .prefix("sealtape-lab-")
            .tempdir_in(&parent)
            .map_err(Error::host(format_args!("making a job folder in {} (TMPDIR says where)", parent.display())))?;
        check_path(folder.path())?;
        Ok(Self { folder })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Writes what the guest reads.
    pub(super) fn fill(
        &self,
        script: &str,
        environment: &[(String, String)],
        modules: &[String],
        folders: &[PathBuf],
    ) -> Result<(), Error> {
        let mut assignments = String::new();
        for (name, value) in environment {
            if !is_name(name) {
                return Err(Error::Asked(format!("{name:?} is no name for an environment variable of a shell")));
            }
            if value.contains('\0') {
                return Err(Error::Asked(format!("the environment variable {name} holds a NUL")));
            }
            assignments.push_str(&format!("export {name}='{}'\n", value.replace('\'', r"'\''")));
        }
        for folder in folders {
            check_path(folder)?;
            if !folder.is_absolute() || !folder.is_dir() {
                return Err(Error::Asked(format!("{} is no folder with an absolute path", folder.display())));
            }
        }
        let lines = |items: &mut dyn Iterator<Item = String>| items.fold(String::new(), |all, item| all + &item + "\n");
        let texts = [
            ("init", INIT.to_owned()),
            ("lab.sh", PRELUDE.to_owned()),
            ("job", script.to_owned()),
            ("environment", assignments),
            ("modules", lines(&mut modules.iter().cloned())),
            ("folders", lines(&mut folders.iter().map(|folder| folder.display().to_string()))),
            ("output", String::new()),
        ];
        for (name, text) in texts {
            let path = self.file(name);
            fs::write(&path, text).map_err(Error::path(path))?;
        }
        let init = self.file("init");
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).map_err(Error::path(init))
    }

    pub(super) fn create(&self, name: &str) -> Result<File, Error> {
        let path = self.file(name);
        File::create(&path).map_err(Error::path(path))
    }

    /// The text of a file, `None` if there is none.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Error> {
        let path = self.file(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::path(path)(error)),
        };
        let mut bytes = Vec::new();
        file.take(LONGEST_TEXT).read_to_end(&mut bytes).map_err(Error::path(path))?;
        let mut text = String::from_utf8_lossy(&bytes).into_owned();
        if bytes.len() as u64 == LONGEST_TEXT {
            text.push_str("\n[cut here]\n");
        }
        Ok(Some(text))
    }

    pub(super) fn last_words(&self) -> Result<LastWords, Error> {
        Ok(LastWords {
            output: self.text("output")?.unwrap_or_default(),
            console: self.text("console")?.unwrap_or_default(),
        })
    }

    /// Removes it; a drop would keep silent about an error.
    pub(super) fn remove(self) -> Result<(), Error> {
        let path = self.path().to_owned();
        self.folder.close().map_err(Error::path(path))
    }
}

/// Paths go through the kernel's command line and mount options, which know no quotes.
fn check_path(path: &Path) -> Result<(), Error> {
    let fits = path.to_str().is_some_and(|path| !path.contains(|c: char| c.is_whitespace() || c == ',' || c == '"'));
    if fits {
        return Ok(());
    }
    Err(Error::Asked(format!("the path {path:?} has a space, a comma or a quote in it, which a guest cannot take")))
}

fn is_name(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}
