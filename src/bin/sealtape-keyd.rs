//! The key authority: catalogue, custody log and token, behind three sockets. Runs again as a worker for the PKCS#11 module.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Parser;
use sealtape::service::config::Config;
use sealtape::service::daemon::ServiceArgs;
use sealtape::service::{notify, pin};
use sealtape_kms::authority::{Actor, Authority, AuthorityOptions};
use sealtape_kms::home::Home as State;
use sealtape_kms::pkcs11::{Limits, Uri, WORKER_ARGUMENT, WorkerCommand};
use sealtape_kms::protocol::{PoolPolicy, RefusalCode};
use sealtape_kms::server::{Server, ServerConfig};

/// Sealtape's key authority: keeps keys, catalogue and custody log.
#[derive(Parser)]
#[command(name = "sealtape-keyd", version)]
struct Args {
    #[command(flatten)]
    service: ServiceArgs,
}

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == WORKER_ARGUMENT) {
        return sealtape::cli::worker();
    }
    match serve(&Args::parse().service) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sealtape-keyd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: &ServiceArgs) -> anyhow::Result<()> {
    let home = args.start()?;
    let config = Config::load(&home)?;
    home.make_run().with_context(|| format!("the folder {} cannot be made", home.run().display()))?;

    let authority = Arc::new(open(&config)?);
    make_pools(&authority, &config)?;

    let keyd = &config.keyd;
    let mut doors = ServerConfig::new(home.run());
    doors.data_path_uids = keyd.data_path_users.iter().map(|user| user.0.as_raw()).collect();
    doors.units = Some(config.drives.iter().map(|drive| drive.name.to_string()).collect());
    doors.control_group = keyd.operator_group.map(|group| group.0.as_raw());
    doors.stream_group = keyd.stream_group.map(|group| group.0.as_raw());
    let server = Server::start(Arc::clone(&authority), doors)
        .with_context(|| format!("the sockets in {} cannot be made", home.run().display()))?;
    tracing::info!(state = %config.keyd_state().display(), token = %authority.token().uri(), "ready");
    notify::ready().context("the service manager cannot be told that the key authority is ready")?;

    let signals = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let heard = signals.block_on(args.stop_requested());
    tracing::info!("stopping");
    if let Err(error) = notify::stopping() {
        tracing::warn!(%error, "the service manager cannot be told that the key authority stops");
    }
    match server.stop() {
        // The entries are durable, and the first checkpoint after the next start covers them.
        Err(refusal) if of_the_token(refusal.code) => {
            tracing::error!("the last entries of the custody log are not under a checkpoint yet: {refusal}");
        }
        other => other?,
    }
    heard.context("signals cannot be heard")
}

fn of_the_token(code: RefusalCode) -> bool {
    use RefusalCode as R;
    matches!(code, R::TokenMissing | R::PinLatched | R::TokenHung | R::KekMissing | R::Token)
}

fn open(config: &Config) -> anyhow::Result<Authority> {
    let configured: Uri = config.keyd.token.as_str().parse()?;
    let options = AuthorityOptions {
        worker: WorkerCommand::this_executable(),
        pin: Some(pin::source(&config.home, &config.keyd.pin)),
        limits: Limits::default(),
        // The custody log can be read without the token; keys are refused until it is back.
        token_may_be_away: true,
        anchoring: config.anchoring.clone(),
        backup_folder: config.keyd.backup_folder.as_ref().map(|folder| folder.as_ref().clone()),
        ..AuthorityOptions::new(WorkerCommand::this_executable())
    };
    let authority = Authority::open(&State::new(config.keyd_state()), options)?;
    if authority.token().uri() != &configured {
        bail!(
            "{} names the token {configured}, but {} was set up with {}; correct the file, or name the right state folder",
            config.file.display(),
            config.keyd_state().display(),
            authority.token().uri()
        );
    }
    if authority.token().module() != config.keyd.module {
        bail!(
            "{} names the module {}, but {} was set up with {}; correct the file",
            config.file.display(),
            config.keyd.module.display(),
            config.keyd_state().display(),
            authority.token().module().display()
        );
    }
    Ok(authority)
}

/// A pool of the configuration that the catalogue does not know is made; one that it knows otherwise is refused, since what
/// stands on the media of that pool follows the catalogue, unless its policy was changed with `sealtape pool set`.
fn make_pools(authority: &Authority, config: &Config) -> anyhow::Result<()> {
    let known = authority.list_pools()?;
    for (name, pool) in &config.pools {
        let mut policy = pool.policy(name.as_str());
        let known = known.iter().find(|known| known.name == policy.name);
        if let Some(known) = known {
            // For how long keys may be used is no matter of the file.
            policy.life = known.life.clone();
        }
        match known {
            Some(known) if *known == policy => {}
            // Nothing on the media follows from which cartridges are taken.
            Some(known) if (PoolPolicy { auto_label: policy.auto_label.clone(), ..known.clone() }) == policy => {
                authority
                    .set_auto_label(Actor::Service, &policy.name, policy.auto_label.as_ref())
                    .with_context(|| format!("changing auto_label of the pool {name}"))?;
            }
            Some(_) if authority.policy_was_changed(&policy.name)? => tracing::warn!(
                file = %config.file.display(),
                "[pool.{name}] is what the pool began with; its policy was changed since, and the catalogue's counts (sealtape pool show {name})"
            ),
            Some(_) => bail!(
                "{}: [pool.{name}] is not the policy with which this pool was made; put it back (sealtape pool show {name}), or change the policy with sealtape pool set",
                config.file.display()
            ),
            None => {
                authority.create_pool(Actor::Service, &policy).with_context(|| format!("making the pool {name}"))?;
                tracing::info!(pool = %name, "pool made");
            }
        }
    }
    Ok(())
}
