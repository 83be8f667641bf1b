//! An attacker has the tape between two loads: whatever is done to it is refused by name, at load or when it is read,
//! reading forward and after LOCATE; nothing of a refused record leaves; the volume is read-only afterwards; and the
//! key authority hears of it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "attack_support/mod.rs"]
mod bench;
#[path = "support/catalogue.rs"]
#[allow(dead_code, unreachable_pub, reason = "each suite uses its part of the support")]
mod catalogue;

use bench::{Bench, HIDDEN, Read, by_locate, forward};
use catalogue::Catalogue;
use sealtape::seal::{Compression, LABEL_LEN, Refusal, Suite, VolumeLabel};
use sealtape::unit::{LabelRequest, Overwrite, SealedTape};
use sealtape::volume::{Access, KeySource};
use sealtape_drivers::image::faults::{Command, Effect};
use sealtape_drivers::medium::model::Object;
use sealtape_drivers::medium::{DriveErrorKind, Position, SpaceKind, TapeDrive};

/// Places of [`write_volume`]: records at 0–3, 5–7 (first session) and 9–11 (second); filemarks at 4, 8 and 12.
const OBJECTS: u64 = 13;
const FILEMARKS: [u64; 3] = [4, 8, 12];

fn text(seed: u64, object: u64) -> Vec<u8> {
    let word = format!("block {object} of volume {seed}: the plaintext; ");
    word.as_bytes().iter().copied().cycle().take(200 + 31 * object as usize).collect()
}

fn write_file(unit: &mut SealedTape, seed: u64, objects: std::ops::Range<u64>) {
    for object in objects {
        unit.write(&text(seed, object)).unwrap();
    }
    unit.write_filemarks(1, false).unwrap();
}

fn write_volume(bench: &Bench, seed: u64, partition: u8) {
    bench.host(|unit| {
        unit.locate(Position { partition, object: 0 }).unwrap();
        write_file(unit, seed, 0..4);
        write_file(unit, seed, 5..8);
    });
    bench.host(|unit| {
        unit.locate(Position { partition, object: 8 }).unwrap();
        unit.space(SpaceKind::EndOfData, 0).unwrap();
        write_file(unit, seed, 9..12);
    });
}

fn written(suite: Suite, compression: Compression) -> Bench {
    let bench = Bench::labelled(suite, compression, 1);
    write_volume(&bench, 1, 0);
    bench
}

/// What the reader may get at a place: the block that was written there last.
fn expected(seed: u64, object: u64) -> Option<Vec<u8>> {
    (object < OBJECTS && !FILEMARKS.contains(&object)).then(|| text(seed, object))
}

fn refusals(reads: &[Read]) -> Vec<String> {
    reads.iter().filter_map(|read| read.as_ref().err()).map(|error| error.message.clone()).collect()
}

/// Everything that was returned is what was written at that place; nothing else was.
fn check_honest(name: &str, seed: u64, reads: &[Read]) {
    for (object, read) in (0_u64..).zip(reads) {
        if let Ok(Some(block)) = read {
            assert_eq!(Some(block), expected(seed, object).as_ref(), "{name}: object {object} came back as another");
        }
    }
}

/// Loads the tampered tape and looks at it in every way. The attack has to be `named` in each of them.
fn is_refused(name: &str, bench: &Bench, seed: u64, partition: u8, named: &[Refusal]) {
    let mentions = |text: &str| named.iter().any(|refusal| text.contains(&format!("({})", refusal.name())));
    for check_end_at_load in [true, false] {
        for (way, read) in [("forward", forward as fn(&mut _, _, _) -> _), ("LOCATE", by_locate)] {
            let before = bench.catalogue.incidents().len();
            let mut unit = bench.unit(check_end_at_load);
            let access = unit.load_medium().unwrap().access;
            let reads: Vec<Read> = read(&mut unit, partition, OBJECTS + 2);
            check_honest(name, seed, &reads);
            let mut said = refusals(&reads);
            if let Access::ReadOnly(reason) | Access::None(reason) = access {
                said.push(reason);
            }
            assert!(said.iter().any(|text| mentions(text)), "{name}, {way}: not named: {said:#?}");
            // A backup program that takes "unreadable" for "blank" gets nowhere.
            assert_ne!(unit.status().access, Some(Access::ReadWrite), "{name}, {way}: still writable");
            for object in [0, 3] {
                let _ = unit.locate(Position { partition, object });
                let error = unit.write(b"labelled over").unwrap_err();
                assert_eq!(error.kind, DriveErrorKind::WriteProtected, "{name}, {way}: {error}");
            }
            if unit.status().label.is_none() {
                // Whose tape it is cannot be told, so there is no volume to report it of.
                continue;
            }
            let incidents = bench.catalogue.incidents().split_off(before);
            assert!(incidents.iter().any(|text| mentions(text)), "{name}, {way}: incidents: {incidents:#?}");
        }
    }
}

fn block(objects: &mut [Object], at: usize) -> &mut Vec<u8> {
    match &mut objects[at] {
        Object::Block(block) => block,
        Object::Filemark => panic!("object {at} is a filemark"),
    }
}

/// Puts the CRC right, as everybody can.
fn mend_crc(block: &mut [u8]) {
    let (body, crc) = block.split_at_mut(block.len() - 4);
    crc.copy_from_slice(&crc32c::crc32c(body).to_be_bytes());
}

fn place(object: usize) -> usize {
    HIDDEN + object
}

type Attack = (&'static str, fn(&mut Vec<Object>), &'static [Refusal]);

const ON_RECORDS: &[Attack] = &[
    ("two records swapped", |o| o.swap(place(1), place(2)), &[Refusal::WrongPlace]),
    ("two records of different sessions swapped", |o| o.swap(place(6), place(10)), &[Refusal::WrongPlace]),
    ("a record written over the next one", |o| o[place(2)] = o[place(1)].clone(), &[Refusal::WrongPlace]),
    ("a record repeated", |o| o.insert(place(2), o[place(1)].clone()), &[Refusal::WrongPlace]),
    (
        "a record moved into another file",
        |o| {
            let moved = o.remove(place(1));
            o.insert(place(6), moved);
        },
        &[Refusal::WrongPlace],
    ),
    ("a record left out", |o| drop(o.remove(place(6))), &[Refusal::WrongPlace, Refusal::CutShort]),
    ("the first record left out", |o| drop(o.remove(place(0))), &[Refusal::WrongPlace]),
    ("a filemark inserted", |o| o.insert(place(2), Object::Filemark), &[Refusal::WrongPlace]),
    ("a filemark inserted at the beginning", |o| o.insert(place(0), Object::Filemark), &[Refusal::WrongPlace]),
    ("a filemark removed", |o| drop(o.remove(place(4))), &[Refusal::WrongPlace, Refusal::CutShort]),
    ("a record replaced by a filemark", |o| o[place(2)] = Object::Filemark, &[Refusal::WrongFilemarks]),
    (
        "the first record replaced by a filemark",
        |o| o[place(0)] = Object::Filemark,
        &[Refusal::WrongFilemarks, Refusal::SessionOrder],
    ),
    ("a filemark replaced by a record", |o| o[place(4)] = o[place(3)].clone(), &[Refusal::WrongPlace]),
    ("a filemark moved by one place", |o| o.swap(place(4), place(5)), &[Refusal::WrongPlace]),
    ("clear text put in", |o| *block(o, place(2)) = b"all is well".to_vec(), &[Refusal::BadMagic]),
    ("a record cut", |o| block(o, place(2)).truncate(100), &[Refusal::Truncated]),
    ("a bit of the ciphertext flipped", |o| block(o, place(2))[120] ^= 4, &[Refusal::BadCrc]),
    (
        "the same with its checksum put right",
        |o| {
            block(o, place(2))[120] ^= 4;
            mend_crc(block(o, place(2)));
        },
        &[Refusal::BadTag],
    ),
    (
        "the tag changed",
        |o| {
            let tag = block(o, place(2)).len() - 10;
            block(o, place(2))[tag] ^= 1;
            mend_crc(block(o, place(2)));
        },
        &[Refusal::BadTag],
    ),
    (
        "a record's object number made to fit its new place",
        |o| {
            o[place(2)] = o[place(1)].clone();
            block(o, place(2))[87] = 2;
            block(o, place(2))[79] = 2;
            mend_crc(block(o, place(2)));
        },
        &[Refusal::BadTag],
    ),
    (
        "another compression named",
        |o| {
            block(o, place(2))[7] ^= 1;
            mend_crc(block(o, place(2)));
        },
        &[Refusal::BadTag, Refusal::BadLengths, Refusal::UnknownCompression],
    ),
    (
        "another suite named",
        |o| {
            let suite = block(o, place(2))[6];
            block(o, place(2))[6] = suite % 3 + 1;
            mend_crc(block(o, place(2)));
        },
        &[Refusal::SuiteMismatch],
    ),
];

#[test]
fn changed_records_and_filemarks_are_refused() {
    for (suite, compression) in [
        (Suite::AES_256_GCM_SIV, Compression::NONE),
        (Suite::AES_256_GCM, Compression::ZSTD),
        (Suite::XCHACHA20_POLY1305, Compression::LZ4),
    ] {
        let bench = written(suite, compression);
        let honest = bench.objects(0);
        for (name, change, named) in ON_RECORDS {
            bench.tamper(0, |objects| *objects = honest.clone());
            bench.tamper(0, *change);
            is_refused(name, &bench, 1, 0, named);
        }
        // The same tape, put right again, is as it was.
        bench.tamper(0, |objects| *objects = honest);
        bench.host(|unit| {
            for (object, read) in (0_u64..).zip(forward(unit, 0, OBJECTS)) {
                assert_eq!(read.unwrap(), expected(1, object));
            }
        });
    }
}

#[test]
fn the_label_and_the_generation_record_are_guarded() {
    let bench = written(Suite::AES_256_GCM_SIV, Compression::NONE);
    let honest = bench.objects(0);
    let attacks: &[Attack] = &[
        (
            "the label says another name",
            |o| {
                let label = VolumeLabel::parse(block(o, 0)).unwrap();
                let renamed = VolumeLabel { label: Some("another label".into()), ..label };
                *block(o, 0) = renamed.encode().unwrap().to_vec();
            },
            &[Refusal::BadGenerationMac],
        ),
        (
            "the generation record names another first ordinal",
            |o| {
                block(o, 2)[15] ^= 2;
                mend_crc(block(o, 2));
            },
            &[Refusal::BadGenerationMac],
        ),
        (
            "the generation record commits to another key",
            |o| {
                block(o, 2)[50] ^= 1;
                mend_crc(block(o, 2));
            },
            &[Refusal::WrongKey],
        ),
        ("the generation record is gone", |o| drop(o.remove(2)), &[Refusal::DamagedGeneration]),
        ("the generation record is another record", |o| o[2] = o[place(0)].clone(), &[Refusal::DamagedGeneration]),
        ("the hidden filemark is gone", |o| drop(o.remove(1)), &[Refusal::BadLayout]),
        ("all behind the label is gone", |o| o.truncate(1), &[Refusal::NoGeneration]),
    ];
    for (name, change, named) in attacks {
        bench.tamper(0, |objects| *objects = honest.clone());
        bench.tamper(0, *change);
        is_refused(name, &bench, 1, 0, named);
    }
}

#[test]
fn the_label_of_another_volume_is_refused_even_where_that_volume_waits_for_a_generation() {
    let bench = written(Suite::AES_256_GCM_SIV, Compression::NONE);
    let other = Bench::new(&bench.catalogue, 1).label();
    write_volume(&other, 2, 0);
    let theirs = other.objects(0);
    bench.tamper(0, |objects| objects[0] = theirs[0].clone());
    is_refused("a label of another volume", &bench, 1, 0, &[Refusal::WrongVolume]);
    // A crash while the other volume was written anew must not make this tape "an empty one of that volume".
    let Object::Block(label) = &theirs[0] else { panic!("no label") };
    assert_eq!(label.len(), LABEL_LEN);
    let volume = VolumeLabel::parse(label).unwrap().volume;
    bench.catalogue.clone().create_generation(volume, 0).unwrap();
    is_refused("the same, with a generation pending", &bench, 1, 0, &[Refusal::WrongVolume]);
    // Label and generation record of the other volume over these records: its key opens none of them.
    bench.tamper(0, |objects| {
        objects.splice(0..HIDDEN, theirs[..HIDDEN].iter().cloned());
    });
    is_refused("the whole beginning of another volume", &bench, 1, 0, &[Refusal::UnknownSession, Refusal::BadTag]);
}

#[test]
fn records_of_other_volumes_generations_and_partitions_are_refused() {
    let bench = written(Suite::AES_256_GCM_SIV, Compression::NONE);
    let other = Bench::new(&bench.catalogue, 1).label();
    write_volume(&other, 2, 0);
    let (honest, theirs) = (bench.objects(0), other.objects(0));
    for object in [0, 2, 5, 9, 11] {
        bench.tamper(0, |objects| {
            objects.clone_from(&honest);
            objects[place(object)] = theirs[place(object)].clone();
        });
        let named = [Refusal::BadTag, Refusal::SessionOrder, Refusal::BadLink];
        is_refused("a record of another volume", &bench, 1, 0, &named);
    }
    bench.tamper(0, |objects| {
        objects.clone_from(&honest);
        objects.splice(place(9).., theirs[place(9)..].iter().cloned());
    });
    is_refused("the tail of another volume", &bench, 1, 0, &[Refusal::BadTag, Refusal::BadLink]);

    let generation_1 = honest;
    bench.tamper(0, |objects| objects.clone_from(&generation_1));
    write_volume(&bench, 3, 0);
    let generation_2 = bench.objects(0);
    for object in [0, 3, 10] {
        bench.tamper(0, |objects| {
            objects.clone_from(&generation_2);
            objects[place(object)] = generation_1[place(object)].clone();
        });
        is_refused("a record of another generation", &bench, 3, 0, &[Refusal::WrongGeneration]);
    }

    let two = Bench::labelled(Suite::AES_256_GCM, Compression::NONE, 2);
    write_volume(&two, 4, 0);
    write_volume(&two, 5, 1);
    let (first, second) = (two.objects(0), two.objects(1));
    for object in [0, 6, 11] {
        two.tamper(0, |objects| {
            objects.clone_from(&first);
            objects[place(object)] = second[place(object)].clone();
        });
        is_refused("a record of another partition", &two, 4, 0, &[Refusal::WrongPartition]);
    }
    two.tamper(0, |objects| objects.clone_from(&second));
    is_refused("a whole partition in place of another", &two, 4, 0, &[Refusal::WrongPartition]);
    two.tamper(0, |objects| objects.clone_from(&first));
    two.tamper(1, |objects| objects.clone_from(&first));
    is_refused("the first partition in place of the second", &two, 5, 1, &[Refusal::WrongPartition]);
}

#[test]
fn a_tail_that_was_cut_is_noticed_at_load() {
    let bench = written(Suite::AES_256_GCM_SIV, Compression::ZSTD);
    let honest = bench.objects(0);
    for kept in 0..OBJECTS as usize {
        bench.tamper(0, |objects| {
            objects.clone_from(&honest);
            objects.truncate(place(kept));
        });
        let mut unit = bench.unit(true);
        let Access::ReadOnly(reason) = unit.load_medium().unwrap().access else { panic!("{kept}: not noticed") };
        assert!(reason.contains(Refusal::CutShort.name()), "{kept}: {reason}");
        check_honest("a cut tail", 1, &forward(&mut unit, 0, OBJECTS));
        assert_eq!(unit.write(b"more").unwrap_err().kind, DriveErrorKind::WriteProtected);
        assert!(bench.catalogue.incidents().pop().unwrap().contains(Refusal::CutShort.name()));
    }
}

#[test]
fn a_tail_put_back_to_an_older_session_is_refused() {
    let bench = written(Suite::AES_256_GCM_SIV, Compression::NONE);
    let older = bench.objects(0);
    // The second session is written over, from object 9 and later from its middle.
    for (from, named) in [(9, 9..12), (10, 10..12)] {
        bench.tamper(0, |objects| objects.clone_from(&older));
        let bench = written(Suite::AES_256_GCM_SIV, Compression::NONE);
        let older = bench.objects(0);
        bench.host(|unit| {
            unit.locate(Position { partition: 0, object: from }).unwrap();
            for object in from..12 {
                unit.write(&text(7, object)).unwrap();
            }
            unit.write_filemarks(1, false).unwrap();
        });
        bench.tamper(0, |objects| objects.clone_from(&older));
        for check_end_at_load in [true, false] {
            let before = bench.catalogue.incidents().len();
            let mut unit = bench.unit(check_end_at_load);
            let access = unit.load_medium().unwrap().access;
            assert_eq!(access == Access::ReadWrite, !check_end_at_load, "{access:?}");
            for (object, read) in (0_u64..).zip(forward(&mut unit, 0, OBJECTS)) {
                match read {
                    Ok(found) => {
                        assert!(!named.contains(&object), "object {object} of the older session was read");
                        assert_eq!(found, expected(1, object));
                    }
                    Err(error) => {
                        assert!(named.contains(&object), "object {object}: {error}");
                        assert!(error.message.contains(Refusal::RolledBack.name()), "object {object}: {error}");
                    }
                }
            }
            let jumped = by_locate(&mut unit, 0, OBJECTS);
            for object in named.clone() {
                let error = jumped[object as usize].as_ref().unwrap_err();
                assert!(error.message.contains(Refusal::RolledBack.name()), "object {object}: {error}");
            }
            assert!(matches!(unit.status().access, Some(Access::ReadOnly(_))));
            let incidents = bench.catalogue.incidents().split_off(before);
            assert!(incidents.iter().any(|text| text.contains(Refusal::RolledBack.name())), "{incidents:?}");
        }
    }
}

/// Nothing but a filemark is written over the middle of a file: what the attacker saved from behind it is put back.
#[test]
fn records_that_a_filemark_wrote_over_do_not_come_back() {
    let bench = written(Suite::AES_256_GCM_SIV, Compression::NONE);
    let older = bench.objects(0);
    bench.host(|unit| {
        unit.locate(Position { partition: 0, object: 2 }).unwrap();
        unit.write_filemarks(2, false).unwrap();
    });
    bench.tamper(0, |objects| objects.clone_from(&older));
    for read in [forward, by_locate] {
        let mut unit = bench.unit(true);
        unit.load_medium().unwrap();
        let reads = read(&mut unit, 0, OBJECTS);
        for (object, read) in (0..2).zip(&reads) {
            assert_eq!(read.as_ref().unwrap(), &expected(1, object));
        }
        for object in (2..OBJECTS).filter(|object| !FILEMARKS.contains(object)) {
            let error = reads[object as usize].as_ref().unwrap_err();
            assert!(
                [Refusal::RolledBack, Refusal::UnknownSession].iter().any(|r| error.message.contains(r.name())),
                "object {object}: {error}"
            );
        }
        assert!(matches!(unit.status().access, Some(Access::ReadOnly(_))));
    }
}

#[test]
fn a_whole_older_generation_is_not_opened() {
    let bench = written(Suite::AES_256_GCM_SIV, Compression::NONE);
    let older = bench.objects(0);
    write_volume(&bench, 3, 0);
    bench.tamper(0, |objects| *objects = older);
    let mut unit = bench.unit(true);
    let Access::None(reason) = unit.load_medium().unwrap().access else { panic!("an older generation was opened") };
    assert!(reason.contains("older generation"), "{reason}");
    for read in forward(&mut unit, 0, OBJECTS).into_iter().chain(by_locate(&mut unit, 0, OBJECTS)) {
        assert_eq!(read.unwrap_err().kind, DriveErrorKind::Security);
    }
    unit.rewind().unwrap();
    assert_eq!(unit.write(b"labelled over").unwrap_err().kind, DriveErrorKind::WriteProtected);
    // Nor does an operator who labels "whatever is not sealed" lose it.
    let request = LabelRequest { ticket: String::new(), overwrite: Overwrite::Clear };
    assert_eq!(unit.label_medium(&request).unwrap_err().kind, DriveErrorKind::WriteProtected);
    assert_eq!(unit.acknowledge().map(|_| ()), Some(()), "the refusal can be acknowledged");
    assert_eq!(unit.write(b"labelled over").unwrap_err().kind, DriveErrorKind::WriteProtected, "the key stays away");
}

/// Without the catalogue's help at load, a blank tape in place of a volume is a blank tape: no record is taken for
/// the volume's, and nothing can be written before an operator labels it.
#[test]
fn a_blank_tape_is_no_volume() {
    let bench = Bench::new(&Catalogue::new(Suite::AES_256_GCM_SIV, Compression::NONE, 1), 1);
    let mut unit = bench.unit(true);
    assert!(matches!(unit.load_medium().unwrap().access, Access::None(_)));
    assert_eq!(unit.write(b"x").unwrap_err().kind, DriveErrorKind::WriteProtected);
    assert_eq!(bench.objects(0), []);
}

/// Records that were acknowledged and then lost are told of before the cartridge goes.
#[test]
fn an_unload_that_loses_records_fails_once() {
    for effect in [Effect::Medium, Effect::Hardware, Effect::Reset] {
        let (_folder, raw, mut unit) = bench::faulty();
        unit.write(b"kept").unwrap();
        unit.write_filemarks(1, false).unwrap();
        raw.lock().set_plan(bench::once(Command::Write, 1, effect));
        // The first is acknowledged from the window; the failure may be told with the next.
        unit.write(b"lost").unwrap();
        let error = unit.unload().unwrap_err();
        assert!(error.sense.flags.deferred, "{error}");
        unit.unload().unwrap();
    }
}

/// A drive that says "another medium" or "not ready" while records are not synchronised has lost them, and the host
/// hears of that before it may write again.
#[test]
fn a_medium_that_vanishes_takes_no_acknowledged_record_with_it_in_silence() {
    for effect in [Effect::UnitAttention, Effect::NotReady] {
        let (_folder, raw, mut unit) = bench::faulty();
        unit.write(b"acknowledged").unwrap();
        raw.lock().set_plan(bench::once(Command::TestUnitReady, 1, effect));
        unit.test_unit_ready().unwrap_err();
        unit.test_unit_ready().unwrap();
        let error = unit.write(b"more").unwrap_err();
        assert!(error.sense.flags.deferred, "{error}");
        unit.rewind().unwrap();
        unit.write(b"anew").unwrap();
        unit.write_filemarks(1, false).unwrap();
    }
}

/// A deferred error is about records that were taken before, with whatever command the drive tells it.
#[test]
fn a_deferred_error_of_a_filemark_stops_writing() {
    let (_folder, raw, mut unit) = bench::faulty();
    unit.write(b"acknowledged").unwrap();
    raw.lock().set_plan(bench::once(Command::WriteFilemarks, 1, Effect::Lost));
    assert!(unit.write_filemarks(1, false).unwrap_err().sense.flags.deferred);
    assert!(unit.write(b"as if nothing were").unwrap_err().sense.flags.deferred);
    assert!(unit.write_filemarks(0, false).unwrap_err().sense.flags.deferred);
    unit.rewind().unwrap();
    unit.write(b"anew").unwrap();
}

/// Plaintext that the unit looked at for its own sake (to find out what a new session follows) is wiped.
#[test]
fn no_plaintext_stays_in_memory_after_a_reload() {
    let bench = Bench::labelled(Suite::AES_256_GCM_SIV, Compression::NONE, 1);
    let mut secret = vec![0; 64];
    getrandom::fill(&mut secret).unwrap();
    // Byte by byte: nothing may be left on the stack.
    let mut masked = [0; 64];
    masked.iter_mut().zip(&secret).for_each(|(mask, byte)| *mask = byte ^ 0x5a);
    bench.host(|unit| {
        unit.write(&secret).unwrap();
        unit.write_filemarks(1, false).unwrap();
    });
    assert!(bench::in_memory(&masked), "the search finds what is there");
    zeroize::Zeroize::zeroize(&mut secret);
    assert!(!bench::in_memory(&masked), "plaintext of a written record is left in memory");
    bench.host(|unit| {
        unit.space(SpaceKind::EndOfData, 0).unwrap();
        unit.write(b"appended").unwrap();
        assert!(!bench::in_memory(&masked), "plaintext of a record that was looked at is left in memory");
    });
}

/// A drive tells once that it was reset, with whatever command comes first: also one that only asks. Whatever the host
/// does then, nothing is written where the drive stands, which is the label's place.
#[test]
fn a_reset_told_to_a_question_does_not_cost_the_label() {
    for command in [Command::ReadPosition, Command::Other, Command::TestUnitReady, Command::Space] {
        for at in 1..4 {
            for records in [1, 8] {
                let (_folder, raw, mut unit) = bench::faulty();
                let label = raw.lock().inner_mut().objects(0)[0].clone();
                for _ in 0..records {
                    unit.write(b"one").unwrap();
                }
                raw.lock().set_plan(bench::once(command, at, Effect::Reset));
                let mut failed = u32::from(unit.test_unit_ready().is_err());
                failed += u32::from(unit.medium_status().is_err());
                failed += u32::from(unit.read_position().is_err());
                failed += u32::from(unit.write_filemarks(1, true).is_err());
                failed += u32::from(unit.write(b"two").is_err());
                failed += u32::from(unit.write_filemarks(1, false).is_err());
                failed += u32::from(unit.write(b"three").is_err());
                failed += u32::from(unit.write_filemarks(0, false).is_err());
                let happened = raw.lock().happened();
                assert_eq!(failed > 0, happened > 0, "{command:?} {at}: {failed} commands failed");
                assert_eq!(raw.lock().inner_mut().objects(0)[0], label, "{command:?} {at}: the label was written over");
                drop(unit.rewind());
                unit.rewind().unwrap();
                assert_eq!(raw.lock().inner_mut().objects(0)[0], label);
            }
        }
    }
}

/// A load that a failing drive cuts short is no load: the tape does not look empty afterwards.
#[test]
fn a_load_that_failed_is_not_a_blank_tape() {
    for command in [Command::Locate, Command::Read] {
        let (_folder, raw, mut unit) = bench::faulty();
        unit.write(b"a record").unwrap();
        unit.write_filemarks(1, false).unwrap();
        unit.unload().unwrap();
        raw.lock().set_plan(bench::once(command, 1, Effect::Transport));
        unit.load().unwrap_err();
        assert_eq!(bench::read_one(&mut unit).unwrap_err().kind, DriveErrorKind::NotReady);
        unit.load().unwrap();
        assert_eq!(bench::read_one(&mut unit).unwrap(), Some(b"a record".to_vec()));
    }
}
