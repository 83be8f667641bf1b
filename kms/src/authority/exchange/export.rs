//! Packages for partners.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::super::admin::by_name;
use super::super::recovery::other_request;
use super::super::{Authority, check_name};
use super::{check_ours, insert_package};
use crate::age::Recipient;
use crate::catalogue::{Actor, Change, Copy, Entry, GenerationRow, VolumeRow};
use crate::custody::{Blob, op};
use crate::exchange::{Body, MAX_KEYS, Package, PackageKey, seal};
use crate::fault::{bad_request, internal};
use crate::hex::Hex;
use crate::protocol::{ExchangeReply, GenerationRef, GenerationState, Operation, PartnerOrder, Refusal};
use crate::secret::DataKey;
use crate::time;

/// A date or a time, as a time.
fn end_of(expires: &str) -> Result<String, Refusal> {
    let time = if expires.len() == 10 { format!("{expires}T23:59:59.999Z") } else { expires.to_owned() };
    if time::well_formed(&time) {
        return Ok(time);
    }
    let what = format!("{expires:?} is no date");
    Err(bad_request(what, "write it as 2027-01-31, or as 2027-01-31T12:00:00.000Z"))
}

impl Authority {
    pub(super) fn ask_for_export(&self, actor: Actor, order: &PartnerOrder) -> Result<ExchangeReply, Refusal> {
        self.refusals_logged(actor, op::EXPORT_MADE, |e| e, || {
            check_name("name of a partner", &order.partner, 100)?;
            let recipient: Recipient = order.recipient.parse().map_err(|e: crate::age::AgeError| {
                bad_request(e.to_string(), "ask the partner for it: age-keygen -pq makes the pair, age-keygen -y shows it")
            })?;
            if !recipient.post_quantum() && !order.allow_classic {
                return Err(bad_request(
                    "the recipient is a classic one (age1…): who keeps the package may open it with a quantum computer later",
                    "ask the partner for a post-quantum one (age1pq1…, age-keygen -pq), or say --allow-classic",
                ));
            }
            let expires = end_of(&order.expires)?;
            let mut volumes = Vec::new();
            {
                let catalogue = self.lock();
                if expires <= catalogue.now() {
                    return Err(bad_request(format!("{expires} is past"), "name a later date"));
                }
                for name in &order.volumes {
                    let volume = by_name(catalogue.sql(), name)?;
                    chosen(catalogue.sql(), &volume)?;
                    volumes.push(volume.id);
                }
            }
            volumes.sort_unstable();
            volumes.dedup();
            if volumes.is_empty() {
                return Err(bad_request("no volume is named", "name them by label or UUID"));
            }
            let operation = Operation::KeyExport {
                partner: order.partner.clone(),
                recipient: order.recipient.clone(),
                volumes,
                expires,
                labels: order.labels,
            };
            Ok(ExchangeReply::Asked(Box::new(self.submit(actor, operation, order.reason.as_deref())?)))
        })
    }

    /// Unwraps, seals and signs; then, in the transaction that uses the approvals, enters it; and only then gives it away.
    pub(super) fn export_package(&self, actor: Actor, request: Uuid) -> Result<ExchangeReply, Refusal> {
        self.refusals_logged(
            actor,
            op::EXPORT_MADE,
            |e| e,
            || {
                let pending = self.pending()?.into_iter().find(|view| view.request == request);
                let operation = pending.map(|view| view.operation).ok_or_else(|| {
                    let what = format!("there is no request {request} that waits");
                    bad_request(what, "see: sealtape approval list; ask with: sealtape key export")
                })?;
                let Operation::KeyExport { partner, recipient, volumes, expires, labels } = &operation else {
                    return Err(other_request(request, &operation));
                };
                let recipient: Recipient =
                    recipient.parse().map_err(|_| internal("a request with a recipient that is none"))?;
                let rows = self.rows_to_export(volumes, *labels)?;
                self.anchors_reach()?;
                let mut keys: Vec<(GenerationRef, DataKey)> = Vec::with_capacity(rows.len());
                for (row, _) in &rows {
                    let with = {
                        let catalogue = self.lock();
                        row.state_agrees(catalogue.sql(), &|seq| catalogue.log().proven_leaf(catalogue.sql(), seq))?;
                        row.confirmed(catalogue.sql(), catalogue.log())?
                    };
                    keys.push((row.at, self.unwrap_in_token(&with, &row.wrapped)?));
                }
                let package = Uuid::new_v4();
                let sealed =
                    seal(package, &recipient, &keys).map_err(|e| internal(format!("sealing the package: {e}")))?;
                drop(keys);
                let signer = self.lock().log().signer.clone();
                let body = Body {
                    package,
                    origin: signer.key.name().to_owned(),
                    site_key: signer.key.to_string(),
                    partner: partner.clone(),
                    recipient: recipient.fingerprint(),
                    post_quantum: recipient.post_quantum(),
                    created: self.lock().now(),
                    expires: expires.clone(),
                    sealed_sha256: Hex(Sha256::digest(&sealed).into()),
                    keys: rows.iter().map(|(_, key)| key.clone()).collect(),
                };
                let text = body.text()?;
                let note = self.sign_text(&signer, &text)?;
                let made = Package::new(body, &sealed, note);
                made.verify(&signer.key).map_err(|e| internal(format!("the token signed wrongly: {e}")))?;
                let (named, last) = self.execute(actor, request, |c, approved| {
                    if approved.operation != operation {
                        return Err(other_request(request, &approved.operation));
                    }
                    let body = &made.body;
                    if body.expires < c.now() {
                        return Err(bad_request(format!("{} is past", body.expires), "ask again, with a later date"));
                    }
                    let words = format!("package {package} for {partner}, until {}", body.expires);
                    let entry = approved.describe(Entry::done(actor, op::EXPORT_MADE));
                    let entry = entry.blobs(vec![Blob { kek: package, sha256: Hex(body.digest()?) }]);
                    let named =
                        c.record(entry.reason(format!("{words}: {} keys; request {request}", body.keys.len())))?;
                    insert_package(c, "export", body, &body.created, named)?;
                    let mut last = named;
                    for (row, _) in &rows {
                        // The rules again: the token took its time.
                        let volume = VolumeRow::find(&c.sql, row.at.volume)?;
                        if !chosen(&c.sql, &volume)?.iter().any(|now| now.at == row.at) {
                            let what = format!("{} was changed meanwhile", volume.words());
                            return Err(bad_request(what, "ask again"));
                        }
                        let blob = Blob { kek: package, sha256: body.sealed_sha256 };
                        let leaf = c.record(
                            Entry::done(actor, op::KEY_EXPORT).at(row.at).blobs(vec![blob]).reason(words.clone()),
                        )?;
                        let place = words.clone();
                        Copy {
                            kind: "export",
                            holder: package,
                            place,
                            state: "exists",
                            sha256: body.sealed_sha256,
                            leaf,
                        }
                        .insert(&c.sql, row.at.key_id)?;
                        last = leaf;
                    }
                    Ok((named, last))
                })?;
                self.before_it_leaves(&format!("package {package}"), named, last, |c| never_left(c, package))?;
                Ok(ExchangeReply::Package(Box::new(made)))
            },
        )
    }

    fn rows_to_export(&self, volumes: &[Uuid], labels: bool) -> Result<Vec<(GenerationRow, PackageKey)>, Refusal> {
        let catalogue = self.lock();
        let sql = catalogue.sql();
        let mut rows = Vec::new();
        for id in volumes {
            let volume = VolumeRow::find(sql, *id)?;
            for row in chosen(sql, &volume)? {
                let given = |text: Option<&String>| text.filter(|t| labels && !t.is_empty()).cloned();
                let key = PackageKey {
                    at: row.at,
                    kind: volume.kind,
                    partitions: volume.partitions,
                    label: given(Some(&volume.label)),
                    barcode: given(volume.cartridge.barcode.as_ref()),
                    state: row.state,
                    suite: row.suite,
                    compression: row.compression,
                    first_ordinal: row.first_ordinal,
                    commitment: row.commitment,
                    sessions: row.sessions(sql)?,
                    end: row.end(sql)?,
                };
                rows.push((row, key));
            }
        }
        if rows.len() > MAX_KEYS {
            let what = format!("these volumes have {} keys, {MAX_KEYS} fit into a package", rows.len());
            return Err(bad_request(what, "make several packages"));
        }
        Ok(rows)
    }
}

/// A package that was made and is wiped now: nobody has a copy in it.
fn never_left(c: &Change<'_>, package: Uuid) -> Result<(), Refusal> {
    let package = package.to_string();
    c.sql.execute("UPDATE copies SET state = 'destroyed' WHERE kind = 'export' AND holder = ?1", [&package])?;
    c.sql.execute("DELETE FROM packages WHERE id = ?1 AND direction = 'export'", [&package])?;
    Ok(())
}

/// The generations of a volume whose keys a partner needs: those that may stand on the medium now.
fn chosen(sql: &rusqlite::Connection, volume: &VolumeRow) -> Result<Vec<GenerationRow>, Refusal> {
    check_ours(sql, volume)?;
    let mut rows = Vec::new();
    for partition in 0..volume.partitions {
        rows.extend(
            GenerationRow::standing(sql, volume.id, partition)?
                .into_iter()
                .filter(|g| matches!(g.state, GenerationState::Active | GenerationState::Pending))
                .filter(|g| g.key_state.rights().is_some()),
        );
    }
    if rows.is_empty() {
        let what = format!("{} has no key that could be given", volume.words());
        return Err(bad_request(what, "see its states: sealtape volume show"));
    }
    Ok(rows)
}
