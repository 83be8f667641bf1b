//! `pool …`: policies of pools.

use std::str::FromStr;

use clap::{Args, Subcommand};
use sealtape_kms::client::{CALL_TIMEOUT, ControlClient};
use sealtape_kms::protocol::{BarcodePattern, EpochRule, KeysReply, KeysRequest, PoolPolicy, PoolView};

use super::failure::{Exit, Failure};
use super::output::Output;
use super::table::{fields, or_dash, table};
use crate::seal::{Compression, Suite};
use crate::service::home::Home;

/// Look at pools, make them, and change their policies.
#[derive(Debug, Subcommand)]
pub(super) enum Pool {
    /// List the pools and what stands on their media
    List,
    /// Show the policy of a pool
    Show {
        /// The pool
        pool: String,
    },
    /// Make a pool; what is not said is as in the standard policy
    Create {
        /// Its name, given once over all tenants
        pool: String,
        /// Whose it is
        #[arg(long, value_name = "TENANT", default_value = "default")]
        tenant: String,
        #[command(flatten)]
        policy: Policy,
    },
    /// Change the policy of a pool; what stands on media changes with new generations only
    Set {
        /// The pool
        pool: String,
        #[command(flatten)]
        policy: Policy,
    },
}

/// A value, or that there is none.
#[derive(Debug, Clone)]
struct OrNone<T>(Option<T>);

impl<T: FromStr> FromStr for OrNone<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        if text == "none" { Ok(Self(None)) } else { text.parse().map(|value| Self(Some(value))) }
    }
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("yes or no is meant".into()),
    }
}

fn pattern(text: &str) -> Result<OrNone<BarcodePattern>, String> {
    if text == "none" { Ok(OrNone(None)) } else { BarcodePattern::try_from(text.to_owned()).map(|p| OrNone(Some(p))) }
}

fn epoch(text: &str) -> Result<EpochRule, String> {
    EpochRule::try_from(text.to_owned())
}

/// What a policy says.
#[derive(Debug, Args)]
pub(super) struct Policy {
    /// Cipher suite of new generations: aes-256-gcm-siv, aes-256-gcm, xchacha20-poly1305
    #[arg(long)]
    suite: Option<Suite>,
    /// Compression before sealing: none, zstd, lz4
    #[arg(long)]
    compression: Option<Compression>,
    /// Whether a wrapped copy of the key stands on the medium
    #[arg(long, value_parser = yes_or_no, value_name = "yes|no")]
    key_on_medium: Option<bool>,
    /// Whether the label stands on the medium in the clear
    #[arg(long, value_parser = yes_or_no, value_name = "yes|no")]
    label_on_medium: Option<bool>,
    /// Whether the barcode stands on the medium in the clear
    #[arg(long, value_parser = yes_or_no, value_name = "yes|no")]
    barcode_on_medium: Option<bool>,
    /// Blank cartridges with such a barcode are labelled when they are loaded, as PREFIX*
    #[arg(long, value_parser = pattern, value_name = "PATTERN|none")]
    auto_label: Option<OrNone<BarcodePattern>>,
    /// For so many days a new key seals (originator usage period)
    #[arg(long, value_name = "DAYS|none")]
    seal_days: Option<OrNone<u32>>,
    /// For so many days a new key opens (recipient usage period)
    #[arg(long, value_name = "DAYS|none")]
    open_days: Option<OrNone<u32>>,
    /// A released key is wiped after so many seconds unless its release was renewed
    #[arg(long, value_name = "SECONDS|none")]
    longest_release: Option<OrNone<u32>>,
    /// An active volume written to within so many days is in use: it is destroyed with --even-active only
    #[arg(long, value_name = "DAYS")]
    in_use_days: Option<u32>,
    /// Which keys share a medium key-encryption key: all (single), those that expire in the same year (yearly), or those that are made
    /// while the epoch has this name
    #[arg(long, value_parser = epoch, value_name = "single|yearly|NAME")]
    epoch: Option<EpochRule>,
}

impl Policy {
    fn over(self, mut policy: PoolPolicy) -> PoolPolicy {
        fn set<T>(to: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *to = value;
            }
        }
        set(&mut policy.suite, self.suite.map(|suite| suite.0));
        set(&mut policy.compression, self.compression.map(|compression| compression.0));
        set(&mut policy.key_on_medium, self.key_on_medium);
        set(&mut policy.label_on_medium, self.label_on_medium);
        set(&mut policy.barcode_on_medium, self.barcode_on_medium);
        set(&mut policy.auto_label, self.auto_label.map(|pattern| pattern.0));
        set(&mut policy.life.seal_days, self.seal_days.map(|days| days.0));
        set(&mut policy.life.open_days, self.open_days.map(|days| days.0));
        set(&mut policy.life.longest_release, self.longest_release.map(|seconds| seconds.0));
        set(&mut policy.life.in_use_days, self.in_use_days);
        set(&mut policy.life.epoch, self.epoch);
        policy
    }
}

impl Pool {
    pub(super) fn run(self, home: &Home, output: &Output) -> Result<(), Failure> {
        let keyd = ControlClient::new(home.keyd_socket(), CALL_TIMEOUT);
        match self {
            Self::List => output.value(&keyd.list_pools()?, |pools| list(pools)),
            Self::Show { pool } => output.value(&find(&keyd, pool)?, show),
            Self::Create { pool, tenant, policy } => {
                keyd.create_pool(policy.over(PoolPolicy::standard(&pool)), Some(&tenant))?;
                output.value(&find(&keyd, pool)?, show)
            }
            Self::Set { pool, policy } => {
                let policy = policy.over(find(&keyd, pool.clone())?.policy);
                keyd.keys(KeysRequest::SetPool { policy })?;
                output.value(&find(&keyd, pool)?, show)
            }
        }
    }
}

pub(super) fn find(keyd: &ControlClient, pool: String) -> Result<PoolView, Failure> {
    match keyd.keys(KeysRequest::ShowPool { pool })? {
        KeysReply::Pool(pool) => Ok(pool),
        _ => Err(Failure::new(
            Exit::Failed,
            "the key authority answered something else",
            "bring both programs to the same version",
        )),
    }
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

fn list(pools: &[PoolView]) -> String {
    let rows: Vec<_> = pools
        .iter()
        .map(|PoolView { tenant, policy: pool }| {
            [
                pool.name.clone(),
                tenant.clone(),
                Suite(pool.suite).to_string(),
                Compression(pool.compression).to_string(),
                yes(pool.key_on_medium),
                yes(pool.label_on_medium),
                yes(pool.barcode_on_medium),
                or_dash(pool.auto_label.as_ref()),
            ]
        })
        .collect();
    table(
        [
            "POOL",
            "TENANT",
            "SUITE",
            "COMPRESSION",
            "KEY ON MEDIUM",
            "LABEL ON MEDIUM",
            "BARCODE ON MEDIUM",
            "AUTO LABEL",
        ],
        &rows,
    )
}

fn show(PoolView { tenant, policy: pool }: &PoolView) -> String {
    let days = |days: Option<u32>| days.map_or_else(|| "no limit".to_owned(), |days| format!("{days} days"));
    let longest = pool.life.longest_release;
    fields(&[
        ("pool", pool.name.clone()),
        ("tenant", tenant.clone()),
        ("suite", Suite(pool.suite).to_string()),
        ("compression", Compression(pool.compression).to_string()),
        ("key on medium", yes(pool.key_on_medium)),
        ("label on medium", yes(pool.label_on_medium)),
        ("barcode on medium", yes(pool.barcode_on_medium)),
        ("auto label", or_dash(pool.auto_label.as_ref())),
        ("keys seal for", days(pool.life.seal_days)),
        ("keys open for", days(pool.life.open_days)),
        ("longest release", longest.map_or_else(|| "no limit".to_owned(), |seconds| format!("{seconds} s"))),
        ("in use when written within", format!("{} days", pool.life.in_use_days)),
        ("epoch", pool.life.epoch.to_string()),
    ])
}
