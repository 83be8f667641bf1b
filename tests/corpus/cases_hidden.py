"""What stands before the host's objects: layout, label, generation record, key."""
import uuid

from cases_good import standard
from tape import FILEMARK, Tape, bit, put, u32
from writer import FREE_TEXT, GCM, Generation, crc32c, label, label_closed, label_from, named, recrc, volume_id


def add(corpus):
    layout(corpus)
    labels(corpus)
    strangers(corpus)
    generations(corpus)
    keys(corpus)


def layout(corpus):
    tape = standard()
    mine, mark, record = tape.hidden
    key = tape.generation.key
    first = tape.objects[0]
    for name, about, objects, at in (
            ("blank", "nothing was ever recorded", [], ("label", "blank")),
            ("foreign-block", "somebody else's tape", [b"VOL1ABC123" + b" " * 70], ("label", "foreign")),
            ("foreign-filemark", "begins with a filemark", [mark], ("label", "foreign")),
            ("foreign-record", "the label is missing, a record comes first", [first], ("label", "foreign")),
            ("label-only", "labelling was interrupted", [mine], ("generation", "no-generation")),
            ("label-and-filemark-only", "labelling was interrupted", [mine, mark], ("generation", "no-generation")),
            ("generation-is-filemark", "a filemark in its place", [mine, mark, mark, first], ("generation", "bad-layout")),
            ("filemark-missing", "no filemark behind the label", [mine, record, first], ("generation", "bad-layout")),
            ("generation-is-record", "a record in its place", [mine, mark, first], ("generation", "damaged-generation"))):
        corpus.hidden("layout-" + name, about, objects, at, key)


def labels(corpus):
    tape = standard()
    g, mark, record = tape.generation, *tape.hidden[1:]
    volume = "volume: %s" % uuid.UUID(bytes=g.volume)
    good = [volume, "kind: tape", "partition: 0", "partitions: 1"]
    head = "SEALTAPE VOLUME 1\n" + FREE_TEXT
    mine = tape.label
    crc_line = mine.index(b"crc32c: ")

    def case(name, about, block, refusal, place="label"):
        corpus.hidden("label-" + name, about, [block, mark, record, *tape.objects], (place, refusal), g.key)

    def lines(name, about, listed, refusal="damaged-label"):
        case(name, about, label_from(head, listed), refusal)

    case("bit-text", "one bit of the free text, CRC not made right", bit(30, False)(mine), "damaged-label")
    case("bit-crc", "one bit of the CRC", bit(crc_line + 9, False)(mine), "damaged-label")
    case("changed-text", "free text changed, CRC made right", label(g.volume, text=FREE_TEXT.replace("This is", "This was")),
         "bad-generation-mac", "generation")
    case("changed-name", "an operator's label put in, CRC made right", label(g.volume, name="Friday"), "bad-generation-mac", "generation")
    case("changed-padding", "padding is outside the label's CRC: a tab in it", mine[:-9] + b"\t" + mine[-8:], "damaged-label")
    case("changed-volume", "another volume's UUID, CRC made right", label(volume_id("two")), "wrong-volume", "generation")
    case("changed-partitions", "says that there are two partitions", label(g.volume, partitions=2), "bad-generation-mac", "generation")
    case("other-partition", "the label of partition 1 in partition 0", label(g.volume, partition=1, partitions=2), "wrong-partition")
    case("of-stream", "the label of a stream", label(g.volume, kind="stream"), "wrong-kind")
    body = label_from(head.replace("VOLUME 1", "VOLUME 2"), good)
    case("version-2", "the first line names version 2", body, "unknown-version")
    case("version-2-longer", "version 2 may have another length", body + b" " * 4096, "unknown-version")
    case("version-long", "the first line names a version of twelve digits",
         label_from(head.replace("VOLUME 1", "VOLUME 100000000000"), good), "unknown-version")
    case("version-zero", "the first line names version 0", label_from(head.replace("VOLUME 1", "VOLUME 0"), good), "unknown-version")
    case("version-leading-zero", "the first line names version 01", label_from(head.replace("VOLUME 1", "VOLUME 01"), good),
         "damaged-label")
    case("version-word", "the first line names no number", label_from(head.replace("VOLUME 1", "VOLUME one"), good), "damaged-label")
    case("version-space", "a space behind the version", label_from(head.replace("VOLUME 1", "VOLUME 1 "), good), "damaged-label")
    case("shorter", "4095 bytes", mine[:-1], "damaged-label")
    case("longer", "4097 bytes", mine + b"\n", "damaged-label")
    case("not-utf8", "a byte that is not UTF-8 in the free text, CRC made right",
         label_closed(mine[:crc_line].replace(b"Everything", b"Ever\xffthing")), "damaged-label")
    case("no-newline-at-end", "the last byte is a space", mine[:-1] + b" ", "damaged-label")
    case("no-end", "no line `end`", mine[:crc_line + 17].ljust(4095) + b"\n", "damaged-label")
    case("no-fields", "no line `fields:`", label_closed(mine[:crc_line].replace(b"fields:", b"fielDs:")), "damaged-label")
    case("crc-upper-case", "CRC in upper case", upper_crc(mine), "damaged-label")
    lines("repeated-key", "the volume twice", [volume, *good])
    lines("repeated-optional-key", "two operator's labels", good + ["label: a", "label: b"])
    lines("missing-volume", "no volume", good[1:])
    lines("missing-kind", "no kind", good[:1] + good[2:])
    lines("missing-partition", "no partition", good[:2] + good[3:])
    lines("missing-partitions", "no number of partitions", good[:3])
    lines("out-of-order", "kind before volume", [good[1], good[0], *good[2:]])
    lines("optional-out-of-order", "barcode before label", good + ["barcode: A", "label: b"])
    lines("volume-upper-case", "UUID in upper case", [volume.upper().replace("VOLUME", "volume"), *good[1:]])
    lines("volume-not-uuid", "no UUID", ["volume: 7", *good[1:]])
    lines("kind-unknown", "kind disk", [volume, "kind: disk", *good[2:]])
    lines("partition-not-below", "partition 1 of 1", [*good[:2], "partition: 1", good[3]])
    lines("partition-leading-zero", "partition 00", [*good[:2], "partition: 00", good[3]])
    lines("partitions-zero", "no partitions", [*good[:3], "partitions: 0"])
    lines("partitions-256", "256 partitions", [*good[:3], "partitions: 256"])
    lines("empty-value", "an empty operator's label", good + ["label: "])
    lines("control-character", "a tab in the operator's label", good + ["label: a\tb"])
    lines("no-colon", "a line that is no field", good + ["label"])
    lines("bad-key", "a key in upper case", good + ["Zeta: 1"])


def strangers(corpus):
    """Label and generation record rightly made, but not for this place."""
    for name, about, g, block, refusal in (
            ("stream-on-tape", "label and generation record are a stream's", Generation(kind=2), label(volume_id("one"), "stream"),
             "wrong-kind"),
            ("partition-1-in-0", "all of partition 1 stands in partition 0", Generation(partition=1),
             label(volume_id("one"), partition=1, partitions=2), "wrong-partition")):
        tape = Tape(g, block).open(5).blocks(2)
        corpus.hidden("layout-" + name, about, tape.hidden + tape.objects, ("label", refusal), g.key)


def upper_crc(mine):
    """A label whose CRC has letters, in upper case."""
    body, n = mine[:mine.index(b"crc32c: ")], 0
    while True:
        changed = body.replace(b"This is", b"Copy %d is" % n)
        if any(c in "abcdef" for c in "%08x" % crc32c(changed)):
            end = b"crc32c: %08X\nend\n" % crc32c(changed)
            return (changed + end).ljust(4095) + b"\n"
        n += 1


def generations(corpus):
    g = Generation()
    mine = label(g.volume)
    stanzas = [g.stanza_kw(), g.stanza_gcm()]
    good = g.record(mine, stanzas)
    tape = Tape(g, mine, record=good).open(5).blocks(2)

    def case(name, about, record, refusal):
        corpus.hidden("generation-" + name, about, [mine, FILEMARK, record, *tape.objects], ("generation", refusal), g.key)

    for field, offset in {"suite": 5, "key-id": 40, "stanza": 100, "mac": -20, "crc": -1}.items():
        case("bit-" + field, "one bit, CRC not made right", bit(offset, False)(good), "damaged-generation")
    for field, (change, refusal) in {
            "magic": (put(0, b"SLTR"), "damaged-generation"), "version": (put(4, b"\2"), "unknown-version"),
            "suite-unknown": (put(5, b"\4"), "unknown-suite"), "suite-other": (put(5, b"\2"), "wrong-key"),
            "partition": (put(6, b"\1"), "wrong-partition"), "kind": (put(7, b"\2"), "wrong-kind"),
            "kind-unknown": (put(7, b"\1"), "wrong-kind"),
            "generation": (put(8, u32(4)), "wrong-key"), "generation-zero": (put(8, u32(0)), "damaged-generation"),
            "first-ordinal": (put(12, u32(1)), "bad-generation-mac"), "first-ordinal-zero": (put(12, u32(0)), "damaged-generation"),
            "volume": (bit(20), "wrong-volume"), "key-id": (bit(40), "bad-generation-mac"), "commitment": (bit(60), "wrong-key"),
            "stanza-count": (put(80, b"\0\1"), "damaged-generation"), "stanza-count-17": (put(80, b"\0\x11"), "damaged-generation"),
            "reserved": (put(83, b"\1"), "damaged-generation"), "stanza": (bit(100), "bad-generation-mac"),
            "stanza-type": (put(84, b"\3\3"), "bad-generation-mac"),
            "stanza-length": (put(86, b"\0\x39"), "damaged-generation"), "stanza-too-long": (put(86, b"\xff\xff"), "damaged-generation"),
            "mac": (bit(-5), "bad-generation-mac")}.items():
        case("changed-" + field, "one field, CRC made right", change(good), refusal)
    steps = [("magic", put(0, b"SLTX"), "damaged-generation"), ("version", put(4, b"\2"), "unknown-version"),
             ("crc", bit(-1, False), "damaged-generation"), ("suite", put(5, b"\4"), "unknown-suite"),
             ("partition", put(6, b"\1"), "wrong-partition"), ("kind", put(7, b"\2"), "wrong-kind"),
             ("volume", bit(20), "wrong-volume"), ("reserved", put(82, b"\1"), "damaged-generation"),
             ("commitment", bit(60), "wrong-key"), ("mac", bit(-5), "bad-generation-mac")]
    for (name, change, refusal), (next_name, next_change, _) in zip(steps, steps[1:]):
        both = bit(-1, False)(change(good)) if next_name == "crc" else change(next_change(good))
        case("order-%s-before-%s" % (name, next_name), "two faults: the check that comes first names them", both, refusal)
    case("stanza-removed", "the second stanza cut out, CRC made right", recrc(put(80, b"\0\1", False)(good[:144] + good[224:])),
         "bad-generation-mac")
    case("shorter", "119 bytes", good[:119], "damaged-generation")
    case("longer", "a byte more at the end", good + b"\0", "damaged-generation")
    case("too-long", "65537 bytes, rightly made", g.record(mine, [(900, bytes(65413))]), "damaged-generation")
    case("stanzas-17", "rightly made, one stanza too many", g.record(mine, [(900, b"")] * 17), "damaged-generation")
    case("stanza-kw-length", "rightly made, a wrapped key of a wrong length", g.record(mine, [(1, bytes(57))]), "damaged-generation")
    case("stanza-gcm-length", "rightly made, an encrypted key of a wrong length", g.record(mine, [(2, bytes(75))]), "damaged-generation")
    case("stanzas-gap", "rightly made, bytes behind the last stanza", gap(g, mine), "damaged-generation")
    case("reserved-rightly-made", "rightly made, reserved bytes not zero", g.record(mine, zero=1), "damaged-generation")
    case("before", "the generation record of the generation before", Generation(generation=2).record(mine), "wrong-key")
    case("other-volume", "the generation record of another volume", Generation("two").record(label(volume_id("two"))), "wrong-volume")


def gap(g, mine):
    body = g.record(mine)[:-36] + b"\0\0\0\0"
    return g.close_record(mine, body)


def keys(corpus):
    tape = standard()
    corpus.tape("wrong-key", "another data key", tape, at=("generation", "wrong-key"), key=named("another data key", 32))
    key = bytearray(tape.generation.key)
    key[31] ^= 1
    corpus.tape("wrong-key-by-a-bit", "the data key with one bit changed", tape, at=("generation", "wrong-key"), key=bytes(key))
    g = Generation(suite=GCM)
    other = Tape(g)
    other.objects, other.plain = list(tape.objects), [None] * len(tape.objects)
    corpus.tape("generation-of-other-suite", "a generation record rightly made for another suite under the same data key",
                other, {n: "suite-mismatch" for n in (0, 1, 2, 4, 5, 7, 8)})
