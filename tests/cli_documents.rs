//! `docs/cli.md` is true: every command, exit code and configuration key stands in it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::Path;

fn page() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md")).unwrap()
}

fn commands(of: &clap::Command, before: &str, found: &mut Vec<String>) {
    for command in of.get_subcommands().filter(|command| command.get_name() != "help") {
        let name = format!("{before} {}", command.get_name());
        match command.has_subcommands() {
            true => commands(command, &name, found),
            false => found.push(name),
        }
    }
}

#[test]
fn every_command_is_described() {
    let (page, mut found) = (page(), Vec::new());
    commands(&sealtape::cli::grammar(), "sealtape", &mut found);
    assert!(found.len() > 20);
    let missing: Vec<_> = found.iter().filter(|name| !page.contains(&format!("`{name}"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_exit_code_is_described() {
    use sealtape::cli::failure::Exit;
    let page = page();
    for exit in [
        Exit::Failed,
        Exit::Usage,
        Exit::Refused,
        Exit::Integrity,
        Exit::NotRunning,
        Exit::Busy,
        Exit::Configuration,
        Exit::Medium,
        Exit::Drive,
        Exit::Unknown,
        Exit::NotPermitted,
        Exit::Stopped,
        Exit::BrokenPipe,
    ] {
        let name = serde_json::to_value(exit).unwrap();
        let row = format!("| {} | `{}` |", exit.code(), name.as_str().unwrap());
        assert!(page.contains(&row), "{row}");
    }
}

#[test]
fn every_key_is_described() {
    let page = page();
    // A key that is not known makes the parser list those that it knows.
    let home = sealtape::service::home::Home::find(Some(Path::new("/srv/t"))).unwrap();
    for table in ["[keyd]", "[keyd.anchoring]", "[[keyd.anchor]]", "[data_path]", "[[drive]]", "[pool.x]"] {
        let mut text = "[keyd]\nmodule = \"m\"\ntoken = \"pkcs11:token=t\"\npin = \"prompt\"\n".to_owned();
        text = match table {
            "[keyd]" => text + "nonsense = 1\n",
            other => format!("{text}{other}\nnonsense = 1\n"),
        };
        let refusal =
            sealtape::service::config::Config::parse(home.clone(), "f".into(), &text).unwrap_err().to_string();
        let keys: Vec<&str> = refusal.split('`').skip(3).step_by(2).collect();
        assert!(keys.len() >= 4, "{refusal}");
        for key in keys {
            assert!(
                page.contains(&format!("`{key}`"))
                    || page.contains(&format!("{table} {key}`"))
                    || page.contains(&format!("[pool.NAME] {key}`")),
                "{key}"
            );
        }
    }
}
