//! The data path: drives, nodes and the operators' socket. Holds the keys of loaded volumes and nothing else.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use sealtape::control::DataPath;
use sealtape::control::server::ControlSocket;
use sealtape::seal::Suite;
use sealtape::service::config::Config;
use sealtape::service::daemon::ServiceArgs;
use sealtape::service::data_path::Drives;
use sealtape::service::notify;
use sealtape::service::virtual_drives::VirtualDrives;
use sealtape_drivers::fuse::{MountOptions, mount};

/// Sealtape's data path: seals what backup programs write to its drive nodes.
#[derive(Parser)]
#[command(name = "sealtaped", version)]
struct Args {
    #[command(flatten)]
    service: ServiceArgs,
}

fn main() -> ExitCode {
    match serve(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sealtaped: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: &Args) -> anyhow::Result<()> {
    let home = args.service.start()?;
    let config = Config::load(&home)?;
    for folder in [home.run(), config.data_path_state()] {
        make_folder(&folder, 0o755)?;
    }
    // Nobody but root can make a plain file there while the nodes are not mounted, and back up in clear into it.
    make_folder(&config.nodes(), 0o555)?;
    let control = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    control.block_on(async {
        let socket = ControlSocket::bind(&home.data_socket(), config.keyd.operator_group.map(|group| group.0))?;
        let drives = Arc::new(Drives::new(&config)?);
        let options = MountOptions {
            uid: config.data_path.node_owner.map(|user| user.0.as_raw()),
            gid: config.data_path.node_group.map(|group| group.0.as_raw()),
            mode: config.data_path.node_mode.bits(),
            max_block: config.drives.iter().map(|drive| drive.max_block.0).max().map_or(Ok(1 << 20), u32::try_from)?,
            stop_timeout: Duration::from_secs(60),
            ..MountOptions::default()
        };
        let nodes = drives.nodes();
        let mounted = match nodes.is_empty() {
            true => None, // Every drive is a virtual SCSI drive.
            false => Some(mount(&config.nodes(), nodes, &options)?),
        };
        if let Some(mounted) = &mounted {
            drives.mounted(&mounted.nodes());
        }
        let starting = Arc::clone(&drives);
        let virtual_drives = tokio::task::spawn_blocking(move || VirtualDrives::start(&starting)).await??;
        // Asked now, since the answer takes a test of the cipher, which no record has to wait for.
        let cipher = Suite::AES_256_GCM_SIV.implementation().map(|used| used.to_string());
        tracing::info!(nodes = %config.nodes().display(), drives = config.drives.len(), aes_256_gcm_siv = cipher, "ready");
        notify::ready().context("the service manager cannot be told that the data path is ready")?;
        let stop = async {
            if let Err(error) = args.service.stop_requested().await {
                tracing::error!(%error, "signals cannot be heard: stopping");
            }
        };
        socket.serve(Arc::clone(&drives) as Arc<dyn DataPath>, stop).await;
        tracing::info!("stopping: nodes are taken down, then every drive is synchronised and unloaded");
        if let Err(error) = notify::stopping() {
            tracing::warn!(%error, "the service manager cannot be told that the data path stops");
        }
        let taken_down = tokio::task::spawn_blocking(move || {
            let removed = virtual_drives.stop();
            let taken_down = mounted.map_or(Ok(()), |mounted| mounted.stop());
            drives.unload_all();
            removed.and(taken_down.context("the nodes could not be taken down"))
        });
        taken_down.await?
    })
}

fn make_folder(folder: &std::path::Path, mode: u32) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    match std::fs::DirBuilder::new().mode(mode).create(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists && !folder.is_dir() => {
            Err(error).with_context(|| format!("the folder {} cannot be made", folder.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
