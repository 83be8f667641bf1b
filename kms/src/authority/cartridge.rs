//! Which cartridge a volume stands in: compared before a key is released, learned once the medium is verified, put right by an
//! operator; and which blank cartridges a pool takes without being asked.

use rusqlite::params;
use uuid::Uuid;

use super::admin::by_name;
use super::{Authority, check_name};
use crate::catalogue::{Actor, Entry, PoolRow, VolumeRow, policy_digest};
use crate::custody::op;
use crate::fault::bad_request;
use crate::protocol::{BarcodePattern, Cartridge, LabelOrder, PoolPolicy, Refusal, RefusalCode, Ticket, VolumeKind};

pub(super) fn check_named(cartridge: &Cartridge) -> Result<(), Refusal> {
    for (what, value) in [("barcode", &cartridge.barcode), ("serial number of a cartridge", &cartridge.serial)] {
        if let Some(value) = value {
            check_name(what, value, 32)?;
        }
    }
    Ok(())
}

/// What the catalogue has against the cartridge that was found.
fn refuse_other(volume: &VolumeRow, found: &Cartridge) -> Result<(), Refusal> {
    let Some(differ) = volume.cartridge.contradicts(found) else { return Ok(()) };
    Err(Refusal::new(
        RefusalCode::OtherCartridge,
        format!("{} stands in another cartridge than the one in the drive, which has {differ}", volume.words()),
        "it is a copy, or was given another barcode; if you know it to be the volume: sealtape volume rebarcode DRIVE --barcode \
         BARCODE --reason WHY",
    ))
}

impl Authority {
    /// Whether `found` may be the cartridge of a volume; if so, whether it tells more than the catalogue has.
    ///
    /// # Errors
    /// When it is another one, or the volume is unknown.
    pub fn check_cartridge(&self, actor: Actor, unit: &str, volume: Uuid, found: &Cartridge) -> Result<bool, Refusal> {
        self.refusals_logged(
            actor,
            op::VOLUME_CARTRIDGE,
            |e| e.unit(unit).volume(volume),
            || {
                check_name("unit", unit, 64)?;
                check_named(found)?;
                let row = VolumeRow::find(self.lock().sql(), volume)?;
                refuse_other(&row, found)?;
                Ok(row.cartridge.lacks(found))
            },
        )
    }

    /// Enters what the catalogue does not know of a volume's cartridge. What it knows is not changed.
    ///
    /// # Errors
    /// When it is another cartridge, or the log cannot be written.
    pub fn learn_cartridge(&self, actor: Actor, unit: &str, volume: Uuid, found: &Cartridge) -> Result<(), Refusal> {
        if !self.check_cartridge(actor, unit, volume, found)? {
            return Ok(());
        }
        self.lock().change(|c| {
            let row = VolumeRow::find(&c.sql, volume)?;
            refuse_other(&row, found)?;
            let now = Cartridge {
                barcode: row.cartridge.barcode.clone().or_else(|| found.barcode.clone()),
                serial: row.cartridge.serial.clone().or_else(|| found.serial.clone()),
            };
            row.set_cartridge(&c.sql, &now)?;
            let reason = format!("learned: {}", words(&now));
            c.record(Entry::done(actor, op::VOLUME_CARTRIDGE).unit(unit).volume(volume).reason(reason))?;
            Ok(())
        })
    }

    /// A volume stands in `cartridge`, whatever the catalogue had; what that does not tell stays as it was.
    ///
    /// # Errors
    /// When the volume is unknown, or another one has that barcode.
    pub fn set_cartridge(
        &self,
        actor: Actor,
        volume: &str,
        cartridge: &Cartridge,
        reason: &str,
    ) -> Result<(), Refusal> {
        self.refusals_logged(
            actor,
            op::VOLUME_CARTRIDGE,
            |e| e,
            || {
                check_name("reason", reason, 500)?;
                check_named(cartridge)?;
                self.lock().change(|c| {
                    let row = by_name(&c.sql, volume)?;
                    if row.kind != VolumeKind::Tape {
                        return Err(bad_request(format!("{} is a stream", row.words()), "streams have no cartridge"));
                    }
                    if let Some(barcode) = &cartridge.barcode
                        && let Some(user) = VolumeRow::with_active_barcode(&c.sql, barcode)?.filter(|u| u.id != row.id)
                    {
                        let what = format!("barcode {barcode} is that of {}", user.words());
                        return Err(Refusal::new(RefusalCode::LabelInUse, what, "retire that volume first"));
                    }
                    let now = Cartridge {
                        barcode: cartridge.barcode.clone().or_else(|| row.cartridge.barcode.clone()),
                        serial: cartridge.serial.clone().or_else(|| row.cartridge.serial.clone()),
                    };
                    row.set_cartridge(&c.sql, &now)?;
                    let reason = format!("was {}, is {}: {reason}", words(&row.cartridge), words(&now));
                    c.record(Entry::done(actor, op::VOLUME_CARTRIDGE).volume(row.id).reason(reason))?;
                    Ok(())
                })
            },
        )
    }

    /// A ticket for the blank cartridge in a unit, where a pool takes cartridges with its barcode. Entered as an operator's order is,
    /// with the policy as who ordered it. The barcode becomes the label.
    ///
    /// # Errors
    /// When several pools want it, the catalogue has a volume with this barcode or label, or the log cannot be written.
    pub fn authorize_by_policy(&self, unit: &str, cartridge: &Cartridge) -> Result<Option<Ticket>, Refusal> {
        let Some(barcode) = &cartridge.barcode else { return Ok(None) };
        check_name("unit", unit, 64)?;
        check_named(cartridge)?;
        let pools: Vec<String> = {
            let catalogue = self.lock();
            let fits = |pool: &PoolRow| pool.policy.auto_label.as_ref().is_some_and(|pattern| pattern.fits(barcode));
            let pools = PoolRow::all(catalogue.sql())?.into_iter().filter(fits);
            pools.filter(|pool| pool.check_unit(catalogue.sql(), unit).is_ok()).map(|pool| pool.policy.name).collect()
        };
        if pools.is_empty() {
            return Ok(None);
        }
        let order = |pool: &String| LabelOrder {
            unit: unit.to_owned(),
            label: barcode.clone(),
            barcode: Some(barcode.clone()),
            pool: Some(pool.clone()),
            partitions: 1,
            relabel: false,
        };
        let pool = self.refusals_logged(
            Actor::Policy,
            op::LABEL_AUTHORIZE,
            |e| e.unit(unit),
            || {
                let [pool] = pools.as_slice() else {
                    let what = format!("barcode {barcode} fits the pools {}", pools.join(" and "));
                    return Err(bad_request(what, "keep their patterns (barcodes) apart, or label it by hand"));
                };
                // Its cartridge should not be blank.
                if let Some(user) = VolumeRow::with_active_barcode(self.lock().sql(), barcode)? {
                    return Err(Refusal::new(
                        RefusalCode::OtherCartridge,
                        format!("the blank cartridge has barcode {barcode}, which is that of {}", user.words()),
                        "find out who erased it, or what it is; if that volume is gone: sealtape volume retire",
                    ));
                }
                Ok(pool)
            },
        )?;
        Ok(Some(self.authorize_label(Actor::Policy, &order(pool))?.ticket))
    }

    /// Says which blank cartridges a pool takes without being asked; none without a pattern.
    ///
    /// # Errors
    /// When the pool is unknown or the log cannot be written.
    pub fn set_auto_label(&self, actor: Actor, pool: &str, pattern: Option<&BarcodePattern>) -> Result<(), Refusal> {
        self.lock().change(|c| {
            let row = PoolRow::named(&c.sql, pool)?;
            let policy = PoolPolicy { auto_label: pattern.cloned(), ..row.policy };
            let pattern = pattern.map(ToString::to_string);
            c.sql.execute("UPDATE pools SET auto_label = ?2 WHERE id = ?1", params![row.id, pattern])?;
            let reason = format!("pool {pool}: {}", pattern.as_deref().unwrap_or("none"));
            let entry = Entry::done(actor, op::POOL_AUTO_LABEL).tenant(row.tenant).digest(policy_digest(&policy)?);
            let leaf = c.record(entry.reason(reason))?;
            PoolRow::policy_entered(&c.sql, row.id, leaf)
        })
    }
}

fn words(cartridge: &Cartridge) -> String {
    let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
    format!("barcode {}, serial number {}", or_none(&cartridge.barcode), or_none(&cartridge.serial))
}
