//! Labelling: an operator's order becomes a ticket, a ticket becomes a volume.

use std::time::Duration;

use rusqlite::{OptionalExtension, params};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::cartridge::check_named;
use super::{Authority, check_name};
use crate::catalogue::{Actor, Change, Entry, PoolRow, VolumeRow, uuid};
use crate::custody::op;
use crate::fault::{bad_request, internal};
use crate::hex::Hex;
use crate::protocol::{
    Cartridge, LabelOrder, LabelTicket, NewVolume, Refusal, RefusalCode, Ticket, VolumeKind, VolumeState,
};
use crate::time;

/// How long a ticket may lie before it is used.
const TICKET_LIFE: Duration = Duration::from_secs(3600);

/// The pool when none is named.
pub(crate) const DEFAULT_POOL: &str = "default";

struct TicketRow {
    unit: String,
    label: String,
    barcode: Option<String>,
    pool: i64,
    partitions: u8,
    relabel: bool,
    expires: String,
    volume: Option<String>,
}

fn ticket_hash(ticket: &Ticket) -> [u8; 32] {
    Sha256::digest(ticket.0.as_bytes()).into()
}

/// Labels are given once over all tenants; which volume of another tenant has one is not told.
fn label_in_use(volume: &VolumeRow, pool: &PoolRow) -> Refusal {
    if volume.tenant != pool.tenant {
        let what = format!("label {:?} is in use", volume.label);
        return Refusal::new(RefusalCode::LabelInUse, what, "choose another label");
    }
    Refusal::new(
        RefusalCode::LabelInUse,
        format!("label {:?} is that of {}", volume.label, volume.words()),
        "choose another label, or retire that volume first",
    )
}

impl Authority {
    /// Allows one medium to be labelled.
    ///
    /// # Errors
    /// When the order makes no sense, the label is in use, or the unit may not use the pool.
    pub fn authorize_label(&self, actor: Actor, order: &LabelOrder) -> Result<LabelTicket, Refusal> {
        self.refusals_logged(
            actor,
            op::LABEL_AUTHORIZE,
            |e| e.unit(&order.unit),
            || {
                check_name("unit", &order.unit, 64)?;
                check_name("label", &order.label, 64)?;
                if let Some(barcode) = &order.barcode {
                    check_name("barcode", barcode, 32)?;
                }
                if !(1..=2).contains(&order.partitions) {
                    return Err(bad_request(
                        format!("{} partitions", order.partitions),
                        "a tape has 1 or 2 partitions here",
                    ));
                }
                let mut random = [0u8; 16];
                getrandom::fill(&mut random).map_err(|e| internal(e.to_string()))?;
                let ticket = Ticket(Hex(random).to_string());
                let expires = time::from_now(TICKET_LIFE);
                self.lock().change(|c| {
                    let pool = PoolRow::named(&c.sql, order.pool.as_deref().unwrap_or(DEFAULT_POOL))?;
                    pool.check_unit(&c.sql, &order.unit)?;
                    if let Some(user) = VolumeRow::with_active_label(&c.sql, &order.label)?
                        && (!order.relabel || user.tenant != pool.tenant)
                    {
                        return Err(label_in_use(&user, &pool));
                    }
                    c.sql.execute("DELETE FROM tickets WHERE expires < ?1 AND volume IS NULL", [time::now()])?;
                    c.sql.execute(
                        "INSERT INTO tickets (sha256, unit, label, barcode, pool, partitions, relabel, actor, expires)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                        params![
                            ticket_hash(&ticket),
                            order.unit,
                            order.label,
                            order.barcode,
                            pool.id,
                            order.partitions,
                            order.relabel,
                            actor.identity(),
                            expires
                        ],
                    )?;
                    let reason =
                        format!("label {:?}, pool {}, relabel {}", order.label, pool.policy.name, order.relabel);
                    let entry = Entry::done(actor, op::LABEL_AUTHORIZE).unit(&order.unit).tenant(pool.tenant);
                    c.record(entry.reason(reason))
                })?;
                Ok(LabelTicket { ticket, expires })
            },
        )
    }

    /// Registers the volume a ticket allows. With a ticket that was used by the same unit, the volume that it made, as long as that
    /// is not labelled on every partition: so a crash in the middle of labelling can be finished.
    ///
    /// # Errors
    /// When the ticket does not allow it.
    pub fn create_volume(
        &self,
        actor: Actor,
        ticket: &Ticket,
        unit: &str,
        replaces: Option<Uuid>,
        cartridge: &Cartridge,
    ) -> Result<NewVolume, Refusal> {
        self.refusals_logged(
            actor,
            op::VOLUME_CREATE,
            |e| e.unit(unit),
            || {
                check_name("unit", unit, 64)?;
                check_named(cartridge)?;
                let mut catalogue = self.lock();
                if let Some(volume) = begun(catalogue.sql(), ticket, unit)? {
                    return new_volume(catalogue.sql(), &volume);
                }
                catalogue.change(|c| create(c, actor, ticket, unit, replaces, cartridge))
            },
        )
    }
}

fn ticket_row(sql: &rusqlite::Connection, ticket: &Ticket, unit: &str) -> Result<TicketRow, Refusal> {
    let row = sql
        .query_row(
            "SELECT unit, label, barcode, pool, partitions, relabel, expires, volume FROM tickets WHERE sha256 = ?1",
            [ticket_hash(ticket)],
            |r| {
                Ok(TicketRow {
                    unit: r.get(0)?,
                    label: r.get(1)?,
                    barcode: r.get(2)?,
                    pool: r.get(3)?,
                    partitions: r.get(4)?,
                    relabel: r.get(5)?,
                    expires: r.get(6)?,
                    volume: r.get(7)?,
                })
            },
        )
        .optional()?;
    let refuse =
        |what: String| Refusal::new(RefusalCode::Ticket, what, "order the labelling again: sealtape volume label");
    let row = row.ok_or_else(|| refuse("the permission to label is unknown or has expired".into()))?;
    if row.unit != unit {
        return Err(refuse(format!("the permission to label is for unit {}, not {unit}", row.unit)));
    }
    Ok(row)
}

/// The volume that this ticket has begun and not finished.
fn begun(sql: &rusqlite::Connection, ticket: &Ticket, unit: &str) -> Result<Option<VolumeRow>, Refusal> {
    let Some(id) = ticket_row(sql, ticket, unit)?.volume else { return Ok(None) };
    let volume = VolumeRow::find(sql, uuid(&id)?)?;
    if volume.state == VolumeState::Labelling {
        return Ok(Some(volume));
    }
    let what = format!("the permission to label was used for {}", volume.words());
    Err(Refusal::new(RefusalCode::Ticket, what, "order the labelling again: sealtape volume label"))
}

fn create(
    c: &mut Change<'_>,
    actor: Actor,
    ticket: &Ticket,
    unit: &str,
    replaces: Option<Uuid>,
    found: &Cartridge,
) -> Result<NewVolume, Refusal> {
    let row = ticket_row(&c.sql, ticket, unit)?;
    let pool = PoolRow::find(&c.sql, row.pool)?;
    pool.confirm(&c.sql, c.log())?;
    pool.check_unit(&c.sql, unit)?;
    if row.expires < time::now() {
        let what = format!("the permission to label has expired at {}", row.expires);
        return Err(Refusal::new(RefusalCode::Ticket, what, "order the labelling again: sealtape volume label"));
    }
    if let Some(old) = replaces
        && !row.relabel
    {
        return Err(Refusal::new(
            RefusalCode::WouldReplace,
            format!("the medium in unit {unit} holds volume {old} already"),
            "load another medium, or order the labelling with --relabel: the data on it will be lost",
        ));
    }
    let ordered = Cartridge { barcode: row.barcode.clone(), serial: None };
    if let Some(differ) = ordered.contradicts(found) {
        return Err(Refusal::new(
            RefusalCode::OtherCartridge,
            format!("the cartridge in unit {unit} is not the one that was to be labelled: it has {differ}"),
            "load that cartridge, or order the labelling with the barcode of this one",
        ));
    }
    if let Some(user) = VolumeRow::with_active_label(&c.sql, &row.label)?.filter(|v| Some(v.id) != replaces) {
        return Err(label_in_use(&user, &pool));
    }
    // A volume of another installation is unknown here; then there is nothing of ours to replace.
    let known = replaces.filter(|old| VolumeRow::find(&c.sql, *old).is_ok());
    if let Some(old) = known {
        let old = VolumeRow::find(&c.sql, old)?;
        let in_use = matches!(old.state, VolumeState::Labelling | VolumeState::Active);
        if in_use && old.tenant != pool.tenant {
            return Err(Refusal::new(
                RefusalCode::WouldReplace,
                format!("the medium in unit {unit} holds volume {}, which another tenant uses", old.id),
                "load another medium; this one can be labelled again once its volume is retired",
            ));
        }
    }
    let volume = VolumeRow {
        id: Uuid::new_v4(),
        tenant: pool.tenant,
        pool: row.pool,
        kind: VolumeKind::Tape,
        state: VolumeState::Labelling,
        label: row.label,
        cartridge: Cartridge { barcode: row.barcode.or_else(|| found.barcode.clone()), serial: found.serial.clone() },
        partitions: row.partitions,
        owner: None,
        replaces: known,
        created: time::now(),
        written: None,
    };
    volume.insert(&c.sql)?;
    c.sql.execute(
        "UPDATE tickets SET volume = ?2 WHERE sha256 = ?1",
        params![ticket_hash(ticket), volume.id.to_string()],
    )?;
    let mut reason = format!("label {:?}, pool {}", volume.label, pool.policy.name);
    if let Some(barcode) = &volume.cartridge.barcode {
        reason.push_str(&format!(", barcode {barcode}"));
    }
    if let Some(old) = replaces {
        reason.push_str(&format!(", over volume {old}"));
    }
    c.record(Entry::done(actor, op::VOLUME_CREATE).unit(unit).volume(volume.id).reason(reason))?;
    new_volume(&c.sql, &volume)
}

fn new_volume(sql: &rusqlite::Connection, volume: &VolumeRow) -> Result<NewVolume, Refusal> {
    Ok(NewVolume {
        volume: volume.id,
        kind: volume.kind,
        partitions: volume.partitions,
        label: volume.label.clone(),
        barcode: volume.cartridge.barcode.clone(),
        policy: PoolRow::find(sql, volume.pool)?.policy,
    })
}
