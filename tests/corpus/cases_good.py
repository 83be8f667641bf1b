"""Media that read to the end, and what cannot be seen without a catalogue."""
import uuid

from tape import FILEMARK, Tape, image_of, random_plain
from writer import GCM, LZ4, NONE, SIV, XCHACHA, ZSTD, Generation, Session, label, label_from, link_to

SUITES = {"siv": SIV, "gcm": GCM, "xchacha": XCHACHA}
COMPRESSIONS = {"none": NONE, "zstd": ZSTD, "lz4": LZ4}


def standard():
    """Two sessions, three tape files: blocks 0-2, 4-5, 7-8; filemarks 3, 6, 9. Most damage is done to this."""
    return Tape().open(5).blocks(3).mark().blocks(2).mark().open(7).blocks(2).mark()


def overwritten():
    """(before, after): session 5 wrote 0-5, then session 6 wrote 3-5 again."""
    before = Tape().open(5).blocks(6)
    after = before.copy().locate(3).open(6)
    for n in range(3):
        after.write(b"written again %d " % n * 9)
    return before, after


def session_map(tape, unconfirmed=()):
    """What a catalogue would hold: the sessions that stand on this tape, sessions that were opened and never heard of again, and
    the end of data as the last synchronisation left it."""
    records = [(place, body) for place, body in enumerate(tape.objects) if body is not FILEMARK]
    sessions = {}
    for _, body in records:
        sessions[body[32:48]] = {"ordinal": int.from_bytes(body[16:20], "big"), "id": body[32:48].hex(), "first_object":
                                 int.from_bytes(body[64:72], "big"), "link": body[48:64].hex(), "confirmed": True}
    sessions = list(sessions.values()) + [
        {"ordinal": ordinal, "id": id_of(tape, ordinal), "first_object": first, "link": link, "confirmed": False}
        for ordinal, first, link in unconfirmed]
    end = {"object": len(tape.objects), "filemarks": tape.objects.count(FILEMARK),
           "last_record": {"object": records[-1][0], "tag": records[-1][1][-20:-4].hex()}}
    return {"sessions": sorted(sessions, key=lambda s: s["ordinal"]), "end": end}


def id_of(tape, ordinal):
    return Session(tape.generation, ordinal).id.hex()


def label_fields(generation):
    return ["volume: %s" % uuid.UUID(bytes=generation.volume), "kind: tape", "partition: 0", "partitions: 1"]


def add(corpus):
    for suite_name, suite in SUITES.items():
        for name, compression in COMPRESSIONS.items():
            tape = Tape(Generation(suite=suite)).open(5).write(compression=compression)
            tape.write(random_plain("raw"), compression).mark().write(b"x", compression).write(b"\0" * 3000, compression).mark()
            corpus.tape("good-%s-%s" % (suite_name, name), "every suite with every compression; one block that does not "
                        "shrink, one of one byte, one of zeros", tape)
    corpus.tape("good-sessions", "two sessions, the second appended behind a filemark", standard())
    before, after = overwritten()
    after.mark().open(9).write()
    corpus.tape("good-overwritten-middle", "session 6 wrote over the tail of session 5, session 9 appended", after)
    tape = Tape().mark().open(8).blocks(2).mark()
    corpus.tape("good-filemark-first", "object 0 is a filemark; the first ordinal handed out was not used", tape)
    tape = Tape().mark(2).open(5).write().mark(2).write().mark(3).open(6).write().mark(2)
    corpus.tape("good-filemarks-doubled", "double filemarks at object 0, in the middle and at the end", tape)
    tape = Tape().open(5).write().open(6).mark().mark().write()
    corpus.tape("good-session-begins-with-filemarks", "a session's first object is its first record", tape)
    corpus.tape("good-session-after-filemarks-only", "the second session overwrote the first whole: link zero",
                Tape().mark(2).open(5).blocks(2).locate(2).open(6).blocks(2))
    corpus.tape("good-empty", "label and generation record, nothing behind", Tape())
    corpus.tape("good-filemarks-only", "nothing but filemarks", Tape().mark(3))
    g = Generation()
    block = label(g.volume, name="Büro 7, wöchentlich", barcode="AB1234L8")
    corpus.tape("good-label-optional", "operator's label in UTF-8, and barcode", Tape(g, block).open(5).write())
    block = label(g.volume, name="a: b", extra=["zeta: unknown keys are ignored", "owner-id: 7"])
    corpus.tape("good-label-unknown-keys", "keys that version 1 does not know stand before the CRC",
                Tape(g, block).open(5).write())
    filler = 4096 - len(label_from("SEALTAPE VOLUME 1\n\n", label_fields(g)).rstrip(b" \n")) - 1
    block = label_from("SEALTAPE VOLUME 1\n" + "x" * filler + "\n", label_fields(g))
    corpus.tape("good-label-full", "the text fills the label: no padding", Tape(g, block[:4096]).open(5).write())
    stanzas = [g.stanza_kw(), (999, b"from the future"), g.stanza_gcm()]
    corpus.tape("good-stanzas", "two wrapped copies of the key and a stanza of unknown type",
                Tape(g, stanzas=stanzas).open(5).write())
    stanzas = [(900 + n, b"") for n in range(16)]
    corpus.tape("good-stanzas-sixteen", "as many stanzas as there may be, all empty", Tape(g, stanzas=stanzas).open(5).write())
    last = Generation(generation=0xFFFFFFFF, first_ordinal=0xFFFFFFFE)
    corpus.tape("good-largest-numbers", "the last generation and ordinals", Tape(last).open(0xFFFFFFFE).write().open(0xFFFFFFFF).write())

    one = Tape(Generation("two parts", 0, 1, SIV, 1), partitions=2).open(1).blocks(2).mark()
    two = Tape(Generation("two parts", 1, 4, XCHACHA, 9), partitions=2).open(9).write().mark().write()
    corpus.tape("image-partition-0", "a cartridge of two partitions, each with its own generation, suite and key", one,
                container=image_of("two parts", two))
    corpus.tape("image-partition-1", "the other partition of the same cartridge", two, file="image-partition-0.image")
    corpus.tape("image-unsynchronised", "three objects behind the synchronised end, then frames of an older epoch", standard(),
                container=image_of("tail", unsynchronised=3, stale=[b"of an older epoch" * 9]))

    with_catalogue(corpus, before, overwritten()[1])


def with_catalogue(corpus, before, after):
    """Good without a catalogue ("end not proven"), refused with one."""
    tape = standard()
    sessions = session_map(tape, [(6, 2, bytes(16).hex()), (8, 10, link_to(tape.objects[8]).hex())])
    corpus.tape("catalogue-good", "all sessions and the end of data are as the catalogue has them; sessions 6 and 8 never wrote", tape,
                sessions=sessions)
    corpus.tape("unseen-cut", "the last filemark and record were cut off", tape.copy().locate(8))
    corpus.tape("catalogue-cut", "the last filemark and record were cut off", tape.copy().locate(8), {8: "cut-short"},
                sessions=sessions, end=False)
    corpus.tape("unseen-session-cut", "the whole last session was cut off", tape.copy().locate(7))
    corpus.tape("unseen-last-record-is-filemark", "the last record was replaced by a filemark", tape.copy().locate(8).mark(2))
    corpus.tape("catalogue-last-record-is-filemark", "the last record was replaced by a filemark", tape.copy().locate(8).mark(2),
                {8: "rolled-back", 10: "wrong-filemarks"}, sessions=sessions, end=False)
    corpus.tape("unseen-filemark-added", "a filemark was put behind the end", tape.copy().mark())
    short = tape.copy().locate(9)
    corpus.tape("unseen-filemark-cut", "the last filemark was cut off", short)
    corpus.tape("catalogue-filemark-cut", "the last filemark was cut off", short, {9: "cut-short"}, sessions=sessions, end=False)
    corpus.tape("unseen-rolled-back", "session 6 was replaced by the tail of session 5 that it had written over", before)
    corpus.tape("catalogue-rolled-back", "session 6 was replaced by the tail of session 5 that it had written over", before,
                {3: "rolled-back", 4: "rolled-back", 5: "rolled-back"}, sessions=session_map(after))
    other = Tape().open(5).blocks(3).mark().blocks(2).mark().open(7).write().write(b"a counter used twice").mark()
    corpus.tape("catalogue-other-last-record", "the last record is another one than was synchronised", other,
                {8: "rolled-back"}, sessions=sessions)
    more = tape.copy().open(8).write()
    corpus.tape("catalogue-unsynchronised-tail", "a record behind the recorded end, of a session that was opened", more,
                sessions=sessions)
    unknown = tape.copy().open(9).write()
    corpus.tape("catalogue-unknown-session", "a session that the catalogue never opened", unknown, {10: "unknown-session"},
                sessions=sessions)
