"""Records damaged by chance, and records changed, moved and exchanged by somebody who can compute a CRC."""
import lz4.block
import zstandard

from cases_good import overwritten, standard
from tape import FILEMARK, Tape, bit, image_of, put, random_plain, u32, u64
from writer import GCM, LZ4, ZSTD, Generation, Session, named, recrc


def add(corpus):
    by_chance(corpus)
    header_fields(corpus)
    order_of_checks(corpus)
    of_others(corpus)
    moved(corpus)
    filemarks(corpus)
    sessions(corpus)
    by_a_key_holder(corpus)


def by_chance(corpus):
    tape = standard()
    for field, offset in {"magic": 0, "version": 4}.items():
        name = "bad-magic" if offset == 0 else "unknown-version"
        corpus.tape("bit-" + field, "one bit, CRC not made right: this check comes before the CRC",
                    tape.changed(1, bit(offset, False)), {1: name})
    for field, offset in {"kind": 5, "suite": 6, "compression": 7, "reserved": 9, "stored-length": 27, "session-id": 40,
                          "ciphertext": 100, "tag": -10, "crc": -1}.items():
        corpus.tape("bit-" + field, "one bit, CRC not made right", tape.changed(1, bit(offset, False)), {1: "bad-crc"})
    cut = lambda length: lambda block: block[:length]
    corpus.tape("truncated-record", "the second half of a record is missing", tape.changed(4, cut(200)), {4: "bad-crc"})
    corpus.tape("truncated-by-one", "the last byte is missing", tape.changed(4, cut(-1)), {4: "bad-crc"})
    corpus.tape("truncated-below-overhead", "115 bytes", tape.changed(4, cut(115)), {4: "truncated"})
    corpus.tape("truncated-crc-right", "40 bytes of ciphertext are missing, CRC made right",
                tape.changed(4, lambda block: recrc(block[:150] + block[190:])), {4: "bad-lengths"})
    corpus.tape("lengthened-crc-right", "one byte more, CRC made right",
                tape.changed(4, lambda block: recrc(block[:-20] + b"\0" + block[-20:])), {4: "bad-lengths"})
    corpus.tape("clear-block", "a block in clear stands among the records", tape.replace(4, b"not sealed " * 20), {4: "bad-magic"})
    corpus.tape("clear-block-short", "a short block in clear: not called truncated", tape.replace(4, b"not sealed"), {4: "bad-magic"})
    corpus.tape("clear-block-tiny", "a block in clear, shorter than the magic", tape.replace(4, b"S"), {4: "bad-magic"})
    corpus.tape("truncated-to-magic", "nothing is left but the magic", tape.changed(4, cut(4)), {4: "truncated"})
    corpus.tape("truncated-to-header", "nothing is left but the header", tape.changed(4, cut(96)), {4: "truncated"})
    for length in (50, 100):
        corpus.tape("version-2-%d-bytes" % length, "a record of version 2 may be shorter", tape.changed(
            4, lambda block: put(4, b"\2", False)(block)[:length]), {4: "unknown-version"})
    corpus.tape("first-record-damaged", "the first record of the generation is refused, the rest is salvaged",
                tape.changed(0, bit(100, False)), {0: "bad-crc"})
    corpus.tape("session-begin-damaged", "the first record of the second session is refused, the rest is salvaged",
                tape.changed(7, bit(100, False)), {7: "bad-crc"})
    corpus.tape("two-damaged", "two records", tape.changed(1, bit(100)).changed(7, bit(100, False)), {1: "bad-tag", 7: "bad-crc"})
    corpus.tape("image-bad-tag", "a changed record on a cartridge", tape.changed(4, bit(100)), {4: "bad-tag"},
                container=image_of("bad tag"))
    corpus.tape("image-unreadable", "the medium does not give one block back", tape.replace(5, tape.objects[5]), {5: "unreadable"},
                container=image_of("unreadable", unreadable=[(0, 3 + 5)]))


def header_fields(corpus):
    """Each field of the header changed and the CRC made right; place 1 is inside a session, 7 begins one, 0 is the first."""
    tape = standard()
    inside = {
        "magic": (put(0, b"SLTS"), "bad-magic"), "version": (put(4, b"\2"), "unknown-version"),
        "kind": (put(5, b"\1"), "wrong-kind"), "kind-unknown": (put(5, b"\7"), "wrong-kind"),
        "suite-other": (put(6, b"\2"), "suite-mismatch"), "suite-unknown": (put(6, b"\4"), "unknown-suite"),
        "suite-zero": (put(6, b"\0"), "unknown-suite"),
        "compression-unknown": (put(7, b"\3"), "unknown-compression"), "compression-zstd": (put(7, b"\1"), "bad-lengths"),
        "partition": (put(8, b"\1"), "wrong-partition"), "reserved-9": (put(9, b"\1"), "bad-reserved"),
        "reserved-11": (put(11, b"\1"), "bad-reserved"), "reserved-28": (put(28, b"\x80"), "bad-reserved"),
        "generation": (put(12, u32(2)), "wrong-generation"), "ordinal": (put(16, u32(6)), "session-order"),
        "plain-length": (bit(23), "bad-lengths"), "stored-length": (bit(27), "bad-lengths"),
        "plain-length-zero": (put(20, u32(0)), "bad-lengths"), "plain-length-huge": (put(20, b"\xff" * 4), "bad-lengths"),
        "session-id": (bit(40), "session-order"), "link": (bit(50), "bad-link"), "first-object": (put(64, u64(1)), "session-order"),
        "counter": (put(72, u64(2)), "session-order"), "object": (put(80, u64(2)), "wrong-place"),
        "object-high": (bit(80), "wrong-place"), "filemarks": (put(88, u64(1)), "wrong-filemarks"),
        "ciphertext": (bit(96), "bad-tag"), "tag": (bit(-5), "bad-tag"), "tag-zero": (put(-20, bytes(16)), "bad-tag"),
    }
    for field, (change, name) in inside.items():
        corpus.tape("changed-" + field, "one field of a record inside a session, CRC made right", tape.changed(1, change), {1: name})
    begins = {
        "ordinal": (put(16, u32(8)), "bad-tag"), "ordinal-older": (put(16, u32(4)), "session-order"),
        "ordinal-same": (put(16, u32(5)), "session-order"), "session-id": (bit(40), "bad-tag"), "link": (bit(50), "bad-link"),
        "first-object": (put(64, u64(6)), "session-order"), "counter": (put(72, u64(1)), "session-order"),
    }
    for field, (change, name) in begins.items():
        corpus.tape("changed-begin-" + field, "one field of a record that begins a session, CRC made right",
                    tape.changed(7, change), {7: name})
    first = {
        "ordinal": (put(16, u32(4)), "session-order"), "session-id": (bit(40), "bad-tag"), "link": (bit(50), "bad-link"),
        "counter": (put(72, u64(1)), "session-order"), "first-object": (put(64, u64(1)), "session-order"),
    }
    for field, (change, name) in first.items():
        corpus.tape("changed-first-" + field, "one field of the first record, CRC made right", tape.changed(0, change), {0: name})
    zipped = Tape().open(5).write(compression=ZSTD).write(compression=ZSTD).write(compression=ZSTD)
    corpus.tape("changed-compression-lz4", "zstd declared to be lz4, CRC made right", zipped.changed(1, put(7, b"\2")), {1: "bad-tag"})
    corpus.tape("changed-compression-none", "zstd declared to be raw, CRC made right", zipped.changed(1, put(7, b"\0")),
                {1: "bad-lengths"})
    corpus.tape("changed-plain-length-compressed", "another plain length of a compressed record, CRC made right",
                zipped.changed(1, put(20, u32(5000))), {1: "bad-tag"})


def order_of_checks(corpus):
    """Two faults in one record: the check that comes first names it."""
    tape = standard()
    steps = [("magic", put(0, b"XLTR"), "bad-magic"), ("version", put(4, b"\2"), "unknown-version"),
             ("crc", bit(-1, False), "bad-crc"), ("kind", put(5, b"\2"), "wrong-kind"), ("suite", put(6, b"\4"), "unknown-suite"),
             ("other-suite", put(6, b"\2"), "suite-mismatch"), ("compression", put(7, b"\3"), "unknown-compression"),
             ("reserved", put(30, b"\1"), "bad-reserved"), ("lengths", put(20, u32(0)), "bad-lengths"),
             ("partition", put(8, b"\1"), "wrong-partition"), ("generation", put(12, u32(4)), "wrong-generation"),
             ("object", put(80, u64(0)), "wrong-place"), ("filemarks", put(88, u64(2)), "wrong-filemarks"),
             ("ordinal", put(16, u32(6)), "session-order"), ("link", bit(48), "bad-link"), ("tag", bit(-5), "bad-tag")]
    for (name, change, refusal), (next_name, next_change, _) in zip(steps, steps[1:]):
        if (name, next_name) != ("suite", "other-suite"):   # one byte cannot hold both
            both = tape.changed(1, lambda block: change(next_change(block)))
            corpus.tape("order-%s-before-%s" % (name, next_name), "two faults, CRC made right where it is not one of them", both
                        if name != "version" else tape.changed(1, lambda block: bit(-1, False)(change(block))), {1: refusal})


def of_others(corpus):
    tape = standard()
    other = lambda **more: Tape(Generation(**more)).open(5).blocks(3)
    corpus.tape("from-other-volume", "a record of another volume, in the same place",
                tape.replace(1, other(volume="two").objects[1]), {1: "session-order"})
    twin = Tape(Generation("two", key=tape.generation.key))
    twin.session = Session(twin.generation, 5, name="same id")
    mine = Tape()
    mine.session = Session(mine.generation, 5, name="same id")
    mine.blocks(3), twin.blocks(3)
    corpus.tape("from-other-volume-same-session", "a record of another volume under the same data key and session id: only the "
                "volume differs, which no header tells", mine.replace(1, twin.objects[1]), {1: "bad-tag"})
    corpus.tape("from-other-partition", "a record of another partition", tape.replace(1, other(partition=1).objects[1]),
                {1: "wrong-partition"})
    corpus.tape("from-other-generation", "a record of the generation before", tape.replace(1, other(generation=2).objects[1]),
                {1: "wrong-generation"})
    for name, more, offset, value in (("partition", {"partition": 1}, 8, b"\0"), ("generation", {"generation": 2}, 12, u32(3))):
        stranger = Tape(Generation(key=tape.generation.key, **more))
        stranger.session = Session(stranger.generation, 5, name="same id")
        stranger.blocks(3)
        corpus.tape("from-other-%s-changed" % name, "a record of another %s under the same data key, its header changed to "
                    "fit, CRC made right" % name, mine.replace(1, put(offset, value)(stranger.objects[1])), {1: "bad-tag"})
    corpus.tape("whole-tail-of-other-generation", "all records are of the generation before",
                grafted(tape, other(generation=2)), {0: "wrong-generation", 1: "wrong-generation", 2: "wrong-generation"})


def grafted(tape, other):
    """The objects of `other` behind the label and generation record of `tape`."""
    out = tape.copy().locate(0)
    out.objects, out.plain = list(other.objects), [None] * len(other.objects)
    return out


def moved(corpus):
    tape = standard()
    one, two = tape.objects[1], tape.objects[2]
    corpus.tape("swapped", "two neighbours changed places", tape.replace(1, two).replace(2, one), {1: "wrong-place", 2: "wrong-place"})
    corpus.tape("swapped-object", "swapped, and their object numbers changed to fit", tape.replace(1, put(80, u64(1))(two))
                .replace(2, put(80, u64(2))(one)), {1: "session-order", 2: "bad-tag"})
    corpus.tape("swapped-object-counter", "swapped, and object numbers and seal counters changed to fit",
                tape.replace(1, put(72, u64(1) + u64(1))(two)).replace(2, put(72, u64(2) + u64(2))(one)),
                {1: "bad-tag", 2: "bad-tag"})
    longer = tape.copy()
    longer.objects.insert(2, one)
    longer.plain.insert(2, None)
    corpus.tape("repeated", "a record stands there twice: everything behind it is in the wrong place", longer,
                {n: "wrong-place" for n in (2, 3, 5, 6, 8, 9)})
    corpus.tape("repeated-over", "a record stands there twice, instead of the next", tape.replace(2, one), {2: "wrong-place"})
    corpus.tape("copied-behind-end", "a copy of a record was put behind the end", with_tail(tape, [one]), {10: "wrong-place"})
    away = tape.copy()
    away.objects.append(away.objects.pop(4))
    away.plain.append(away.plain.pop(4))
    corpus.tape("moved", "a record was moved behind the end", away, {n: "wrong-place" for n in (4, 6, 7, 9)})
    shorter = tape.copy()
    del shorter.objects[1], shorter.plain[1]
    corpus.tape("removed", "a record was taken out: everything behind it is in the wrong place", shorter,
                {n: "wrong-place" for n in (1, 3, 4, 6, 7)})


def filemarks(corpus):
    tape = standard()
    corpus.tape("record-is-filemark", "a record was replaced by a filemark", tape.replace(1, FILEMARK), {2: "wrong-filemarks"})
    corpus.tape("session-begin-is-filemark", "the first record of a session was replaced by a filemark",
                tape.replace(7, FILEMARK), {8: "wrong-filemarks"})
    two = Tape().open(5).blocks(4)
    corpus.tape("first-record-is-filemark", "the first record was replaced by a filemark", two.replace(0, FILEMARK),
                {1: "wrong-filemarks"})
    shorter = tape.copy()
    del shorter.objects[3], shorter.plain[3]
    corpus.tape("filemark-removed", "a filemark was taken out: everything behind it is in the wrong place", shorter,
                {n: "wrong-place" for n in (3, 4, 6, 7)})
    corpus.tape("filemark-is-record", "a filemark was replaced by a copy of the record before it", tape.replace(3, tape.objects[2]),
                {3: "wrong-place", 4: "wrong-filemarks"})
    longer = tape.copy()
    longer.objects.insert(1, FILEMARK)
    longer.plain.insert(1, None)
    corpus.tape("filemark-inserted", "a filemark was put in: everything behind it is in the wrong place", longer,
                {n: "wrong-place" for n in (2, 3, 5, 6, 8, 9)})


def sessions(corpus):
    before, after = overwritten()
    mixed = after.replace(4, before.objects[4]).replace(5, before.objects[5])
    corpus.tape("older-tail", "behind the first record of session 6 stands the tail of session 5 that it had written over: "
                "no part of it is given out, not in a salvage either", mixed, {4: "session-order", 5: "session-order"})
    corpus.tape("older-record", "one record of session 6 replaced by that of session 5 at its place",
                after.replace(4, before.objects[4]), {4: "session-order"})
    older = after.replace(3, before.objects[3], before.plain[3])
    corpus.tape("older-record-at-begin", "the first record of session 6 replaced by that of session 5: it fits what is before it, "
                "and is found out by what comes next", older, {4: "session-order", 5: "session-order"})
    between = after.changed(4, bit(100)).replace(5, before.objects[5])
    corpus.tape("older-tail-behind-damage", "a record of session 6 is damaged, behind it stands session 5: no neighbour to compare "
                "with, refused all the same", between, {4: "bad-tag", 5: "session-order"})
    here = before.copy().locate(3).open(7).write()
    there = before.copy().locate(3).open(6).write().open(8).blocks(2)
    corpus.tape("link-to-other", "session 8 followed a record of session 6 that is not there: its link shows it",
                with_tail(here, there.objects[4:], [None, there.plain[5]]), {4: "bad-link"})


def with_tail(tape, objects, plain=None):
    """A copy with more objects behind it, and their plain bytes if a reader is to accept them."""
    out = tape.copy()
    out.objects += objects
    out.plain += plain or [None] * len(objects)
    return out


def by_a_key_holder(corpus):
    """Faults that a correct tag vouches for: only a faulty sealer makes them."""
    def odd(**special):
        return Tape().open(5).write().write(**special).write()

    plain = b"sealed by a faulty sealer " * 20
    gcm = Tape().open(5).write().write(suite=GCM).write()
    corpus.tape("sealed-other-suite", "rightly sealed, with another suite than the generation's", gcm, {1: "suite-mismatch"})
    corpus.tape("sealed-unknown-compression", "rightly sealed, compression 3", odd(plain=plain, compression=3, stored=plain[:99]),
                {1: "unknown-compression"})
    corpus.tape("sealed-empty", "rightly sealed, no plain bytes", odd(plain=b""), {1: "bad-lengths"})
    corpus.tape("sealed-stored-empty", "rightly sealed, compressed to nothing", odd(plain=plain, compression=ZSTD, stored=b""),
                {1: "bad-lengths"})
    corpus.tape("sealed-not-shrunk", "rightly sealed, compressed to the same length",
                odd(plain=random_plain("raw"), compression=LZ4, stored=named("as long", 180)), {1: "bad-lengths"})
    frame = zstandard.ZstdCompressor().compress
    for name, compression, stored in (
            ("zstd-garbage", ZSTD, named("garbage", 100)),
            ("zstd-other-length", ZSTD, frame(plain + b"!")),
            ("zstd-two-frames", ZSTD, frame(plain[:260]) + frame(plain[260:])),
            ("zstd-trailing", ZSTD, frame(plain) + b"\0"),
            ("zstd-cut", ZSTD, frame(plain)[:-1]),
            ("lz4-garbage", LZ4, b"\xff" * 90),
            ("lz4-shorter", LZ4, b"\x50hello"),
            ("lz4-longer", LZ4, lz4.block.compress(plain + b"!", store_size=False))):
        corpus.tape("sealed-" + name, "rightly sealed, but what was sealed does not decompress to the plain length",
                    odd(plain=plain, compression=compression, stored=stored), {1: "bad-compression"})
    for name, special in (("wrong-kind", {"kind": 1}), ("kind-final", {"kind": 2})):
        corpus.tape("sealed-" + name, "rightly sealed, as a record of a stream", odd(**special), {1: "wrong-kind"})

