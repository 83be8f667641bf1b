//! A catalogue with many volumes, made as the data path makes them.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use sealtape::service::home::Home;
use sealtape_kms::client::{CALL_TIMEOUT, ControlClient, DataPathClient};
use sealtape_kms::hex::Hex;
use sealtape_kms::protocol::{Cartridge, LabelOrder, LastRecord, SessionStart, SyncPoint};
use serde_json::json;

/// Have the running key authority of a home make volumes, each with a generation, a session and an end of data.
#[derive(Args)]
pub(crate) struct Fill {
    #[arg(long)]
    home: PathBuf,
    /// Name of a drive
    #[arg(long)]
    unit: String,
    #[arg(long)]
    volumes: u32,
    /// Number of the first one
    #[arg(long)]
    first: u32,
}

impl Fill {
    pub(crate) fn run(&self) -> Result<()> {
        let home = Home::find(Some(&self.home))?;
        let control = ControlClient::new(home.keyd_socket(), CALL_TIMEOUT);
        let data_path = DataPathClient::new(home.keys_socket(), self.unit.clone(), CALL_TIMEOUT);
        let began = Instant::now();
        for number in self.first..self.first + self.volumes {
            let label = format!("BENCH{number}");
            self.volume(&control, &data_path, &label).with_context(|| label)?;
        }
        println!("{}", json!({ "seconds": began.elapsed().as_secs_f64(), "volumes": self.volumes }));
        Ok(())
    }

    fn volume(&self, control: &ControlClient, data_path: &DataPathClient, label: &str) -> Result<()> {
        let order = LabelOrder {
            unit: self.unit.clone(),
            label: label.to_owned(),
            barcode: None,
            pool: None,
            partitions: 1,
            relabel: false,
        };
        let ticket = control.authorize_label(order)?.ticket;
        let volume = data_path.create_volume(&ticket, None, &Cartridge::default())?.volume;
        let (generation, _key) = data_path.create_generation(volume, 0, None)?;
        data_path.activate_generation(generation.at, &[7; 32])?;
        let mut id = [0; 16];
        getrandom::fill(&mut id)?;
        let session =
            SessionStart { session_id: Hex(id), first_object: 0, filemarks: 0, link: Hex([0; 16]), after_ordinal: 0 };
        let ordinal = data_path.open_session(generation.at, session)?;
        let last = Some(LastRecord { object: 0, tag: Hex([1; 16]) });
        data_path.record_sync(generation.at, SyncPoint { ordinal, end_object: 2, end_filemarks: 1, last })?;
        data_path.release(volume)?;
        Ok(())
    }
}
