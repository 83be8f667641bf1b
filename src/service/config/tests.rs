use std::os::unix::fs::PermissionsExt;

use super::*;

const KEYD: &str = "[keyd]\nmodule = \"/usr/lib/softhsm/libsofthsm2.so\"\ntoken = \"pkcs11:token=sealtape\"\npin = { file = \"pin\" }\n";

fn parse(more: &str) -> Result<Config, ConfigError> {
    let home = Home::find(Some(Path::new("/srv/t"))).unwrap();
    Config::parse(home, "/srv/t/sealtape.toml".into(), &format!("{KEYD}{more}"))
}

fn refusal(more: &str) -> String {
    parse(more).unwrap_err().to_string()
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    let config = parse("").unwrap();
    assert_eq!(config.nodes(), Path::new("/srv/t/nodes"));
    assert_eq!(config.keyd_state(), Path::new("/srv/t/keyd"));
    assert_eq!(config.keyd.pin, PinSource::File("pin".into()));
    assert_eq!(config.data_path.node_mode.bits(), 0o660);
    assert!(config.drives.is_empty() && config.pools.is_empty() && config.keyd.backup_folder.is_none());
    let config = parse("[[drive]]\nname = \"a\"\nback_end = \"image\"\n[pool.default]\n").unwrap();
    assert_eq!(config.drives[0].max_block, ByteSize::mebibytes(1));
    let pool = config.pools.values().next().unwrap();
    assert_eq!((pool.suite.number(), pool.compression.number(), pool.key_on_medium), (1, 1, true));
}

#[test]
fn unknown_keys_are_refused_with_line_and_nearest_key() {
    for (text, line, meant) in [
        ("[data_path]\nseal_thread = 2\n", 6, "seal_threads"),
        ("[data_paths]\n", 5, "data_path"),
        ("[[drive]]\nname = \"a\"\nback_end = \"image\"\nmaxblock = 4\n", 8, "max_block"),
        ("[pool.x]\nsuit = \"aes-256-gcm\"\n", 6, "suite"),
        ("[pool.x]\nsuite = \"aes-256-gcm-sif\"\n", 6, "aes-256-gcm-siv"),
        ("[pool.x]\ncompression = \"zst\"\n", 6, "zstd"),
    ] {
        let refusal = refusal(text);
        assert!(refusal.starts_with(&format!("/srv/t/sealtape.toml, line {line}: ")), "{refusal}");
        assert!(refusal.ends_with(&format!("did you mean `{meant}`?")), "{refusal}");
    }
    assert!(!refusal("[data_path]\ncolour = 2\n").contains("did you mean"));
}

#[test]
fn bad_values_are_refused_where_they_stand() {
    for (text, line, part) in [
        ("[data_path]\nwindow_bytes = \"big\"\n", 6, "\"big\" is not a size"),
        ("[data_path]\nwindow_bytes = -1\n", 6, "negative"),
        ("[data_path]\nwindow_bytes = 7\n", 5, "window_bytes is 7"),
        ("[data_path]\nseal_threads = 0\n", 5, "seal_threads is 0"),
        ("[data_path]\nnode_mode = \"0777\"\n", 6, "no permissions"),
        ("[data_path]\nnode_owner = \"nobody-of-this-name\"\n", 6, "no user"),
        ("[[drive]]\nname = \"A b\"\nback_end = \"image\"\n", 6, "no drive name"),
        ("[[drive]]\nname = \"a\"\nback_end = \"image\"\nmax_block = \"32MiB\"\n", 5, "max_block"),
        (
            "[data_path]\nwindow_bytes = \"1M\"\n[[drive]]\nname = \"a\"\nback_end = \"image\"\nmax_block = \"2M\"\n",
            7,
            "never be accepted",
        ),
        ("[pool.\"no good\"]\n", 5, "no pool name"),
        ("[pool.x]\nkey_on_medium = \"yes\"\n", 6, "invalid type"),
        ("[pool.x]\nauto_label = true\n", 5, "auto_label of pool \"x\" needs barcodes"),
        ("[pool.x]\nbarcodes = \"*\"\n", 6, "names no barcodes"),
        ("backup_folder = \"usb\"\n", 5, "starts with '/'"),
        ("backup_folder = \"/srv/../srv/t\"\n", 5, "no '..'"),
        ("backup_folder = \"/srv/t/backups\"\n", 5, "another medium"),
        ("[keyd]\n", 5, "duplicate key"),
        ("][\n", 5, ""),
    ] {
        let refusal = refusal(text);
        assert!(
            refusal.starts_with(&format!("/srv/t/sealtape.toml, line {line}: ")) && refusal.contains(part),
            "{refusal}"
        );
    }
    let twice =
        refusal("[[drive]]\nname = \"a\"\nback_end = \"image\"\n[[drive]]\nname = \"a\"\nback_end = \"image\"\n");
    assert!(twice.contains("line 8") && twice.contains("two drives"), "{twice}");
}

#[test]
fn a_pin_in_the_configuration_is_refused_and_not_repeated() {
    let home = Home::find(Some(Path::new("/srv/t"))).unwrap();
    for (right, wrong, part) in [
        ("token=sealtape", "token=sealtape?pin-value=9471", "query part"),
        ("token=sealtape", "token=sealtape;pin-value=9471", "PIN attribute"),
        ("{ file = \"pin\" }", "\"9471\"", "never the PIN itself"),
        ("{ file = \"pin\" }", "9471", "never the PIN itself"),
        ("{ file = \"pin\" }", "{ value = \"9471\" }", "never the PIN itself"),
    ] {
        let refusal = Config::parse(home.clone(), "f".into(), &KEYD.replace(right, wrong)).unwrap_err().to_string();
        assert!(refusal.contains(part) && !refusal.contains("9471"), "{refusal}");
    }
    for (written, source) in
        [("\"prompt\"", PinSource::Prompt), ("{ credential = \"hsm-pin\" }", PinSource::Credential("hsm-pin".into()))]
    {
        let config = Config::parse(home.clone(), "f".into(), &KEYD.replace("{ file = \"pin\" }", written)).unwrap();
        assert_eq!(config.keyd.pin, source);
    }
}

#[test]
fn a_file_that_others_may_use_is_refused_with_the_mend() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::find(Some(folder.path())).unwrap();
    let missing = Config::load(&home).unwrap_err();
    assert!(matches!(missing, ConfigError::Missing { .. }) && missing.to_string().contains("init"), "{missing}");

    std::fs::write(home.config_file(), KEYD).unwrap();
    let chmod = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    for mode in [0o640, 0o604, 0o620, 0o602, 0o610] {
        chmod(&home.config_file(), mode);
        let refusal = Config::load(&home).unwrap_err().to_string();
        let mend = format!("chmod 600 {}", home.config_file().display());
        assert!(refusal.contains(&format!("{mode:04o}")) && refusal.ends_with(&mend), "{refusal}");
    }
    chmod(&home.config_file(), 0o600);
    Config::load(&home).unwrap();
    chmod(folder.path(), 0o770);
    assert!(Config::load(&home).unwrap_err().to_string().contains("chmod go-w"));
    chmod(folder.path(), 0o700);

    std::fs::remove_file(home.config_file()).unwrap();
    std::fs::create_dir(home.config_file()).unwrap();
    assert!(Config::load(&home).is_err());
}
