//! What the documents say can be followed: links lead somewhere, and commands are commands.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Markdown files of the checkout, without what builds leave behind.
fn documents() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                walk(&path, found);
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(root(), &mut found);
    assert!(found.len() >= 10, "{found:?}");
    found
}

/// Targets of `[text](target)` in a text.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
}

#[test]
fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for link in links(&text).filter(|link| !link.starts_with("http") && !link.starts_with('#')) {
            let target = link.split('#').next().unwrap();
            if !document.parent().unwrap().join(target).exists() {
                wrong.push(format!("{}: {link}", document.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn commands_in_the_documents_are_commands() {
    let mut tried = 0;
    let mut wrong = Vec::new();
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for line in text.lines().filter(|line| line.starts_with("    sealtape ")) {
            let typed = line.split(" #").next().unwrap().split_whitespace();
            tried += 1;
            if let Err(error) = sealtape::cli::grammar().try_get_matches_from(typed)
                && error.use_stderr()
            {
                let what = error.to_string();
                let what = what.lines().next().unwrap_or_default();
                wrong.push(format!("{}: {}: {what}", document.strip_prefix(root()).unwrap().display(), line.trim()));
            }
        }
    }
    assert!(tried >= 5, "only {tried} commands found");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
