//! The arrows of the house: which crate may know which, which module may touch the world, where
//! `unsafe` stands. The sources are read as tokens, so comments and strings never count.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

const LONGEST_FILE: usize = 800;
const LONG_FILE: usize = 600;

/// What each crate of the workspace may depend on inside it, tests and build scripts included.
const ARROWS: &[(&str, &[&str])] = &[
    // Those of the lab are for tests only.
    ("sealtape", &["sealtape-drivers", "sealtape-kms", "sealtape-lab-witness", "sealtape-siv"]),
    ("sealtape-drivers", &[]),
    ("sealtape-kms", &["sealtape-lab-witness", "sealtape-pkcs11-shim"]),
    ("sealtape-lab-witness", &["sealtape-kms"]),
    ("sealtape-pkcs11-shim", &[]),
    ("sealtape-hwtest", &["sealtape", "sealtape-drivers", "sealtape-kms", "sealtape-uml-xstate"]),
    ("sealtape-siv", &[]),
    ("sealtape-uml-xstate", &[]),
    ("xtask", &[]),
];

/// Crates that handle keys. A back end or a front end that needed one would be handling keys.
const KEY_CRATES: &[&str] = &[
    "aes",
    "aes-gcm",
    "aes-gcm-siv",
    "aes-kw",
    "chacha20poly1305",
    "cryptoki",
    "cryptoki-sys",
    "ed25519-dalek",
    "hkdf",
    "hmac",
    "rusqlite",
    "sealtape-siv",
];

/// Names that belong above the drives.
const KEY_NAMES: &[&str] = &["DataKey", "RecordKey", "KeySource", "PlainRecord", "SealedRecord", "Kek", "Dek"];

/// Paths that reach the outer world. Modules without I/O and clock name none of them.
const WORLD: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::time::UNIX_EPOCH",
    "crossbeam_channel",
    "fuser",
    "libc",
    "nix",
    "rusqlite",
    "sealtape_kms",
    "tokio",
];

/// Exceptions to [`WORLD`]: values without effect, and key material, which is made elsewhere and wipes itself.
const HARMLESS: &[&str] = &["std::io::Error", "std::io::ErrorKind", "std::io::Cursor", "sealtape_kms::secret"];

/// What the pure modules may not know of their own crate.
const SEAL_KNOWS_NOT: &[&str] = &[
    "crate::volume",
    "crate::unit",
    "crate::pipeline",
    "crate::control",
    "crate::service",
    "crate::cli",
    "sealtape_drivers",
];
const VOLUME_KNOWS_NOT: &[&str] = &["crate::unit", "crate::pipeline", "crate::control", "crate::service", "crate::cli"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below `folder` (relative to the workspace), in a stable order.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    found.sort();
    found
}

fn tokens(file: &Path) -> TokenStream {
    let text = std::fs::read_to_string(file).unwrap();
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn shown(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}

/// Calls `see` with every identifier, at any depth.
fn identifiers(stream: TokenStream, see: &mut impl FnMut(&str)) {
    for tree in stream {
        match tree {
            TokenTree::Group(group) => identifiers(group.stream(), see),
            TokenTree::Ident(ident) => see(&ident.to_string()),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// The stream without the items under `#[cfg(test)]` (or `#[test]`), at any depth.
fn without_tests(stream: TokenStream) -> Vec<TokenTree> {
    let mut kept: Vec<TokenTree> = Vec::new();
    let mut trees = stream.into_iter().peekable();
    while let Some(tree) = trees.next() {
        let attribute = match (&tree, trees.peek()) {
            (TokenTree::Punct(hash), Some(TokenTree::Group(group)))
                if hash.as_char() == '#' && group.delimiter() == Delimiter::Bracket =>
            {
                Some(group.stream())
            }
            _ => None,
        };
        if attribute.is_some_and(is_test_attribute) {
            trees.next();
            // The item ends with its first braces or with a semicolon, whichever comes first.
            for rest in trees.by_ref() {
                match rest {
                    TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => break,
                    TokenTree::Punct(punct) if punct.as_char() == ';' => break,
                    _ => {}
                }
            }
            continue;
        }
        kept.push(match tree {
            TokenTree::Group(group) => {
                let inner = without_tests(group.stream()).into_iter().collect();
                TokenTree::Group(proc_macro2::Group::new(group.delimiter(), inner))
            }
            other => other,
        });
    }
    kept
}

fn is_test_attribute(attribute: TokenStream) -> bool {
    let mut names = Vec::new();
    identifiers(attribute, &mut |name| names.push(name.to_owned()));
    let first = names.first().map(String::as_str);
    first == Some("test")
        || (first == Some("cfg") && names.iter().any(|n| n == "test") && !names.iter().any(|n| n == "not"))
}

/// Every path that the trees name: `a::b::c` in expressions and types, and `use` trees spelled out.
fn paths(trees: &[TokenTree], prefix: &[String], found: &mut BTreeSet<String>) {
    let mut at = 0;
    while at < trees.len() {
        let TokenTree::Ident(first) = &trees[at] else {
            if let TokenTree::Group(group) = &trees[at] {
                paths(&group.stream().into_iter().collect::<Vec<_>>(), prefix, found);
            }
            at += 1;
            continue;
        };
        let mut path = prefix.to_vec();
        path.push(first.to_string());
        at += 1;
        while is_double_colon(trees, at) {
            match trees.get(at + 2) {
                Some(TokenTree::Ident(next)) => path.push(next.to_string()),
                Some(TokenTree::Group(group)) => {
                    // Branches of a `use` tree: each one continues this path.
                    paths(&group.stream().into_iter().collect::<Vec<_>>(), &path, found);
                }
                _ => break,
            }
            at += 3;
        }
        found.insert(path.join("::"));
    }
}

fn is_double_colon(trees: &[TokenTree], at: usize) -> bool {
    let colon = |tree: Option<&TokenTree>| matches!(tree, Some(TokenTree::Punct(p)) if p.as_char() == ':');
    colon(trees.get(at)) && colon(trees.get(at + 1))
}

/// `super::…` and `self::…` in the module `module` (as `["crate", "seal", "envelope"]`), spelled out.
fn absolute(path: &str, module: &[String]) -> String {
    let mut parts: Vec<&str> = path.split("::").collect();
    let mut depth = module.len();
    if parts[0] == "self" {
        parts.remove(0);
    } else if parts[0] == "super" {
        while parts.first() == Some(&"super") {
            depth = depth.saturating_sub(1).max(1);
            parts.remove(0);
        }
    } else {
        return path.to_owned();
    }
    module[..depth].iter().map(String::as_str).chain(parts).collect::<Vec<_>>().join("::")
}

fn module_of(file: &Path) -> Vec<String> {
    let inside = file.strip_prefix(root().join("src")).unwrap().with_extension("");
    let mut module: Vec<String> = vec!["crate".to_owned()];
    module.extend(inside.iter().map(|part| part.to_string_lossy().into_owned()));
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

fn is_under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// What `source`, standing in `module`, names of `forbidden`.
fn trespasses(source: TokenStream, module: &[String], forbidden: &[&str]) -> Vec<String> {
    let mut named = BTreeSet::new();
    paths(&without_tests(source), &[], &mut named);
    named
        .into_iter()
        .map(|path| absolute(&path, module))
        .filter(|path| !HARMLESS.iter().any(|harmless| is_under(path, harmless)))
        .filter(|path| forbidden.iter().any(|prefix| is_under(path, prefix)))
        .collect()
}

fn is_test_file(file: &Path) -> bool {
    file.iter().any(|part| part == "tests" || part == "tests.rs")
}

fn assert_pure(folder: &str, forbidden: &[&str]) {
    let files: Vec<PathBuf> = rust_files(folder).into_iter().filter(|file| !is_test_file(file)).collect();
    assert!(!files.is_empty(), "{folder} holds no Rust file; has it moved?");
    let forbidden: Vec<&str> = WORLD.iter().chain(forbidden).copied().collect();
    let mut wrong = Vec::new();
    for file in files {
        for path in trespasses(tokens(&file), &module_of(&file), &forbidden) {
            wrong.push(format!("{} names {path}", shown(&file)));
        }
    }
    assert!(wrong.is_empty(), "{folder} has to do without I/O, clock and what stands above it:\n{}", wrong.join("\n"));
}

fn metadata() -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Direct dependencies (of every kind) of each crate of the workspace.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap();
            let names = dependencies.iter().map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect();
            (package["name"].as_str().unwrap().to_owned(), names)
        })
        .collect()
}

#[test]
fn crates_know_only_what_the_design_allows() {
    let dependencies = dependencies();
    let known: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    let found: BTreeSet<&str> = dependencies.keys().map(String::as_str).collect();
    assert_eq!(found, known, "crates of the workspace and crates in ARROWS");
    for (name, allowed) in ARROWS {
        let inside: BTreeSet<&str> =
            dependencies[*name].iter().map(String::as_str).filter(|dependency| known.contains(dependency)).collect();
        let excess: Vec<_> = inside.iter().filter(|dependency| !allowed.contains(dependency)).collect();
        assert!(excess.is_empty(), "{name} may not depend on {excess:?}");
    }
}

#[test]
fn drives_know_no_keys() {
    let dependencies = &dependencies()["sealtape-drivers"];
    let wrong: Vec<_> = KEY_CRATES.iter().filter(|name| dependencies.contains(**name)).collect();
    assert!(wrong.is_empty(), "sealtape-drivers depends on {wrong:?}: keys stay above the drives");

    let mut wrong = BTreeSet::new();
    for file in rust_files("drivers") {
        identifiers(tokens(&file), &mut |name| {
            if KEY_NAMES.contains(&name) {
                wrong.insert(format!("{} names {name}", shown(&file)));
            }
        });
    }
    assert!(wrong.is_empty(), "drives carry ciphertext only: {wrong:#?}");
}

#[test]
fn unsafe_stands_only_in_sys_files() {
    let mut wrong = BTreeSet::new();
    for folder in ["src", "drivers", "kms", "hwtest", "siv", "xtask", "tests", "bench/benches", "bench/src"] {
        for file in rust_files(folder) {
            let is_sys = file.file_name().is_some_and(|name| name == "sys.rs");
            identifiers(tokens(&file), &mut |name| {
                if name == "unsafe" && (!is_sys || folder == "src") {
                    wrong.insert(shown(&file));
                }
            });
        }
    }
    assert!(wrong.is_empty(), "`unsafe` belongs into a file sys.rs of drivers, kms, hwtest or siv: {wrong:#?}");
}

#[test]
fn seal_touches_nothing() {
    assert_pure("src/seal", SEAL_KNOWS_NOT);
}

#[test]
fn volume_touches_nothing() {
    assert_pure("src/volume", VOLUME_KNOWS_NOT);
}

#[test]
fn files_stay_readable() {
    let mut wrong = Vec::new();
    for folder in ["src", "drivers", "kms", "hwtest", "siv", "xtask", "tests", "bench/benches", "bench/src", "fuzz"] {
        for file in rust_files(folder) {
            let lines = std::fs::read_to_string(&file).unwrap().lines().count();
            if lines > LONGEST_FILE {
                wrong.push(format!("{}: {lines} lines", shown(&file)));
            } else if lines > LONG_FILE {
                println!("{}: {lines} lines; look for the second idea", shown(&file));
            }
        }
    }
    assert!(wrong.is_empty(), "more than {LONGEST_FILE} lines: {wrong:#?}");
}

/// The checks above are worth as much as this reader of sources: what it has to find, and what not.
#[test]
fn the_reader_finds_what_it_looks_for() {
    let module: Vec<String> = ["crate", "seal", "envelope"].map(String::from).to_vec();
    let found = |source: &str| trespasses(source.parse().unwrap(), &module, &[WORLD, SEAL_KNOWS_NOT].concat());

    for source in [
        "use std::fs;",
        "use std::{collections::BTreeMap, io::Write};",
        "use std::{fmt, time::{Duration, Instant}};",
        "fn f() { let _ = std::fs::read(\"x\"); }",
        "mod inner { fn f() -> std::time::SystemTime { todo!() } }",
        "use super::super::volume::Volume;",
        "use crate::{seal::Suite, volume};",
        "#[cfg(not(test))] use std::fs;",
        "#[cfg(test)] mod tests {} use std::fs;",
    ] {
        assert_eq!(found(source).len(), 1, "{source}: {:?}", found(source));
    }
    for source in [
        "// use std::fs;\nconst HELP: &str = \"std::fs\";",
        "use std::{fmt, io::ErrorKind, time::Duration};",
        "use super::nonce; use self::volume::Thing; use crate::seal::volume;",
        "#[cfg(test)] mod tests { use std::fs; }",
        "#[cfg(test)] use std::fs;",
        "#[test] fn f() { std::fs::read(\"x\"); }",
        "fn f() { match a { b => c::d, _ => e } }",
    ] {
        assert!(found(source).is_empty(), "{source}: {:?}", found(source));
    }

    let mut names = Vec::new();
    identifiers(
        "fn f() { g(|| unsafe { h() }) } // unsafe\n const S: &str = \"unsafe\";".parse().unwrap(),
        &mut |name| {
            names.push(name.to_owned());
        },
    );
    assert_eq!(names.iter().filter(|name| *name == "unsafe").count(), 1);
}
