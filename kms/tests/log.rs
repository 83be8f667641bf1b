//! Exports of every scope and form, signing keys that change, and the two verifiers: ours and the independent one in Python.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod anchors_support;
#[path = "log/independent.rs"]
mod independent;
mod support;
#[path = "log/tampering.rs"]
mod tampering;

use sealtape_kms::authority::Authority;
use sealtape_kms::custody::{
    Completeness, Leaf, Outcome, VerifiedExport, VerifierKey, VerifyError, op, verify_export, verify_export_with,
};
use sealtape_kms::protocol::{EntryFilter, ExportOrder, ExportScope, GenerationRef};
use support::install::{Install, ME, UNIT, labelled, options, session};

/// An export and the key to verify it by.
#[derive(Clone)]
struct Good {
    name: &'static str,
    text: String,
    key: VerifierKey,
}

fn export(authority: &Authority, scope: ExportScope, csv: bool) -> String {
    let mut out = Vec::new();
    authority.audit_export_as(ME, &ExportOrder { scope, csv }, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn verify(text: &str, key: &VerifierKey) -> Result<VerifiedExport, VerifyError> {
    verify_export(&mut text.as_bytes(), key)
}

fn of_volume(volume: impl ToString) -> ExportScope {
    ExportScope::Selection(EntryFilter { volume: Some(volume.to_string()), ..EntryFilter::default() })
}

/// Two volumes with sessions and releases, checkpoints between them.
fn lived(authority: &Authority) -> (GenerationRef, GenerationRef) {
    let (_, one, _) = labelled(authority, "A");
    authority.checkpoint().unwrap();
    let (_, two, _) = labelled(authority, "=B, \"quoted\"");
    authority.open_session(ME, UNIT, two, &session(0)).unwrap();
    authority.load(ME, UNIT, one).unwrap();
    authority.incident(ME, UNIT, Some(one.volume), "=cmd|' /C calc'!A0 \"x\",\n\u{7f}ü \\ end").unwrap();
    authority.checkpoint().unwrap();
    authority.returned(ME, UNIT, one.volume).unwrap();
    (one, two)
}

/// Exports of every scope and form, before and after the key was changed.
fn corpus() -> Vec<Good> {
    let install = Install::new();
    let authority = install.open();
    let (one, two) = lived(&authority);
    let key: VerifierKey = install.report.log_key.parse().unwrap();
    let tenant = || ExportScope::Tenant("default".into());
    let releases =
        || ExportScope::Selection(EntryFilter { op: Some(op::KEY_RELEASE.into()), ..EntryFilter::default() });
    let mut good = Vec::new();
    let mut add = |name, text: String, key: &VerifierKey| good.push(Good { name, text, key: key.clone() });
    add("full", export(&authority, ExportScope::Full, false), &key);
    add("full, CSV", export(&authority, ExportScope::Full, true), &key);
    add("tenant", export(&authority, tenant(), false), &key);
    add("tenant, CSV", export(&authority, tenant(), true), &key);
    add("volume", export(&authority, of_volume(one.volume), false), &key);
    add("volume, CSV", export(&authority, of_volume(two.volume), true), &key);
    authority.rotate_log_key(ME, "yearly").unwrap();
    labelled(&authority, "C");
    authority.rotate_log_key(ME, "suspicion").unwrap();
    labelled(&authority, "D");
    let newest = authority.log_key();
    assert_ne!(newest, key);
    add("full, keys changed", export(&authority, ExportScope::Full, false), &key);
    add("full, keys changed, by the newest key, CSV", export(&authority, ExportScope::Full, true), &newest);
    add("tenant, keys changed", export(&authority, tenant(), false), &key);
    add("operation, keys changed, by the newest key", export(&authority, releases(), false), &newest);
    good
}

#[test]
fn every_scope_says_what_it_proves() {
    for Good { name, text, key } in corpus() {
        let verified = verify(&text, &key).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(verified.keys.len(), if name.contains("changed") { 3 } else { 1 }, "{name}");
        match verified.completeness {
            Completeness::Complete => {
                assert!(name.starts_with("full"), "{name}");
                assert_eq!(verified.entries, verified.size);
            }
            Completeness::CompleteForTenant { as_of, .. } => {
                assert!(name.starts_with("tenant") && as_of < verified.size && verified.entries <= as_of, "{name}");
                assert!(verified.entries > 10, "{name}");
            }
            Completeness::InclusionOnly => {
                assert!(name.starts_with("volume") || name.starts_with("operation"), "{name}");
                assert!(verified.entries > 0, "{name}");
            }
        }
        let wrong = Install::new().report.log_key.parse().unwrap();
        assert!(matches!(verify(&text, &wrong), Err(VerifyError::Line { .. })), "{name}");
    }
}

#[test]
fn a_left_out_leaf_never_leaves_a_claim_of_completeness() {
    let install = Install::new();
    let authority = install.open();
    let (one, _) = lived(&authority);
    let key = authority.log_key();
    for (scope, csv) in [(of_volume(one.volume), false), (ExportScope::Tenant("default".into()), false)] {
        let tenant = matches!(scope, ExportScope::Tenant(_));
        let text = export(&authority, scope, csv);
        let lines: Vec<&str> = text.lines().collect();
        let leaves: Vec<usize> = (0..lines.len()).filter(|n| lines[*n].starts_with("{\"leaf\"")).collect();
        for out in &leaves {
            // The last line is made to fit, as somebody who hides an entry would.
            let rest = lines.iter().enumerate().filter(|(n, _)| n != out).map(|(_, line)| match line {
                l if l.starts_with("{\"end\"") => format!("{{\"end\":{}}}\n", leaves.len() - 1),
                l => format!("{l}\n"),
            });
            let text: String = rest.collect();
            match verify(&text, &key) {
                Ok(verified) => {
                    assert!(!tenant, "a tenant's export without line {out}");
                    assert_eq!(verified.completeness, Completeness::InclusionOnly);
                }
                Err(e) => assert!(tenant, "{e}"),
            }
            // Nor does calling it something else help.
            for (from, to) in [("selection", "full"), ("tenant\",\"size", "full\",\"size")] {
                if text.contains(from) {
                    assert!(verify(&text.replacen(from, to, 1), &key).is_err());
                }
            }
        }
    }
}

#[test]
fn nobody_forgets_the_tenant() {
    let install = Install::new();
    let authority = install.open();
    lived(&authority);
    let text = export(&authority, ExportScope::Full, false);
    let mut of_tenant = 0;
    let mut see = |leaf: &Leaf, _: &str, _: Option<&_>| {
        if leaf.volume.is_some() || (leaf.key.is_some() && ![op::LOG_KEY, op::TOKEN_ENROL].contains(&leaf.op.as_str()))
        {
            assert!(leaf.tenant.is_some() && leaf.tenant_seq.is_some(), "{leaf:?}");
            of_tenant += 1;
        }
        assert!(leaf.tenant.is_none_or(|t| t.to_string() != "default"));
    };
    verify_export_with(&mut text.as_bytes(), &[authority.log_key()], &mut see).unwrap();
    assert!(of_tenant > 15, "{of_tenant}");
}

#[test]
fn a_new_key_signs_and_the_old_one_does_not_any_more() {
    let install = Install::new();
    let authority = install.open();
    let old = authority.log_key();
    let keys = authority.rotate_log_key(ME, "yearly").unwrap();
    assert_eq!(keys, [old.to_string(), authority.log_key().to_string()]);
    let file = std::fs::read_to_string(install.home.log_key_file()).unwrap();
    assert_eq!(file.lines().map(str::to_owned).collect::<Vec<_>>(), keys);
    let checkpoint = authority.checkpoint().unwrap();
    authority.log_key().open(&checkpoint.note).unwrap();
    assert!(old.open(&checkpoint.note).is_err());
    drop(authority);
    // The next start knows both.
    let authority = install.open();
    assert_eq!(authority.log_keys(), keys);
    labelled(&authority, "after");
    let verified = verify(&export(&authority, ExportScope::Full, false), &old).unwrap();
    assert_eq!(verified.keys, keys);
    drop(authority);
    // A stop before custody.pub was written is made good; another key in it is not accepted.
    std::fs::write(install.home.log_key_file(), format!("{old}\n")).unwrap();
    drop(install.open());
    assert_eq!(std::fs::read_to_string(install.home.log_key_file()).unwrap(), file);
    let other = Install::new().report.log_key;
    std::fs::write(install.home.log_key_file(), format!("{other}\n")).unwrap();
    let refusal = Authority::open(&install.home, options()).map(drop).unwrap_err();
    assert!(refusal.what.contains("custody.pub"), "{refusal}");
}

#[test]
fn a_change_of_the_key_that_was_cut_short_leaves_the_old_key() {
    let install = Install::new();
    let authority = install.open();
    let old = authority.log_key();
    drop(authority);
    // As the service would have left it: the intent is entered, its outcome is not.
    {
        let authority = install.open();
        authority.rotate_log_key(ME, "").unwrap_err();
        let database = install.database();
        drop(authority);
        drop(database);
    }
    let authority = install.open();
    assert_eq!(authority.log_key(), old);
    let leaves = authority.audit_show(None, 10).unwrap();
    let refused = leaves.iter().filter_map(|l| Leaf::parse(l).ok());
    assert!(refused.filter(|l| l.op == op::LOG_KEY).all(|l| l.outcome == Outcome::Refused));
}

#[test]
fn entries_are_found_page_by_page() {
    let install = Install::new();
    let authority = install.open();
    let (one, _) = lived(&authority);
    let all: Vec<Leaf> = authority.audit_show(Some(0), 1000).unwrap().iter().map(|l| Leaf::parse(l).unwrap()).collect();
    let times: Vec<&str> = all.iter().map(|l| l.time.as_str()).collect();
    let middle = times[times.len() / 2].to_owned();
    let actor = all.iter().find(|l| l.op == op::KEY_RELEASE).unwrap().actor.clone();
    type Fits = Box<dyn Fn(&Leaf) -> bool>;
    let filters: Vec<(EntryFilter, Fits)> = vec![
        (EntryFilter::default(), Box::new(|_| true)),
        (
            EntryFilter { volume: Some("A".into()), ..EntryFilter::default() },
            Box::new(move |l| l.volume == Some(one.volume)),
        ),
        (
            EntryFilter { key: Some(one.key_id), outcome: Some(Outcome::Done), ..EntryFilter::default() },
            Box::new(move |l| l.key == Some(one.key_id) && l.outcome == Outcome::Done),
        ),
        (
            EntryFilter { op: Some(op::KEY_CREATE.into()), unit: Some(UNIT.into()), ..EntryFilter::default() },
            Box::new(|l| l.op == op::KEY_CREATE),
        ),
        (EntryFilter { actor: Some(actor.clone()), ..EntryFilter::default() }, Box::new(move |l| l.actor == actor)),
        (EntryFilter { tenant: Some("default".into()), ..EntryFilter::default() }, Box::new(|l| l.tenant.is_some())),
        (
            EntryFilter { since: Some(middle.clone()), first: Some(1), last: Some(20), ..EntryFilter::default() },
            Box::new({
                let middle = middle.clone();
                move |l| l.time >= middle && (1..=20).contains(&l.seq)
            }),
        ),
        (EntryFilter { until: Some(middle.clone()), ..EntryFilter::default() }, Box::new(move |l| l.time < middle)),
    ];
    for (filter, fits) in filters {
        let wanted: Vec<u64> = all.iter().filter(|l| fits(l)).map(|l| l.seq).collect();
        for (backwards, count) in [(false, 3), (true, 3), (false, 1000), (true, 1000)] {
            let (mut found, mut from) = (Vec::new(), None);
            loop {
                let page = authority.audit_entries(&filter, from, backwards, count, true).unwrap();
                assert!(page.leaves.len() <= count as usize);
                for leaf in &page.leaves {
                    let leaf = Leaf::parse(leaf).unwrap();
                    assert!(page.names.contains_key(&leaf.actor), "{leaf:?}");
                    // What the search itself has not entered: nothing is entered by reading.
                    found.push(leaf.seq);
                }
                from = page.next;
                if from.is_none() {
                    break;
                }
            }
            if backwards {
                found.reverse();
            }
            assert_eq!(found, wanted, "{filter:?} {backwards} {count}");
        }
    }
    for bad in ["yesterday", "2026-13-1x", "2026-11-21T08:30:00.000Z0", ""] {
        let filter = EntryFilter { since: Some(bad.into()), ..EntryFilter::default() };
        assert!(authority.audit_entries(&filter, None, false, 1, false).is_err(), "{bad}");
    }
}
