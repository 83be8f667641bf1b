"""Sealed streams: the same records in a pipe."""
from cases_good import COMPRESSIONS, SUITES
from tape import bit, put, random_plain, text, u32, u64
from writer import Generation, Session, label, stream

FINAL = 2


class Pipe:
    """A stream under construction."""

    def __init__(self, volume="pipe", suite=1, name=None):
        self.generation = Generation(volume, generation=1, suite=suite, first_ordinal=1, kind=2)
        self.label = label(self.generation.volume, kind="stream")
        self.record = self.generation.record(self.label)
        self.session = Session(self.generation, 1, name=name)
        self.records, self.plain = [], []

    def write(self, plain=None, compression=0, **special):
        plain = text("pipe", len(self.records)) if plain is None else plain
        special.setdefault("kind", 1)
        self.records.append(self.session.seal(len(self.records), special.pop("filemarks", 0), plain, compression, **special))
        self.plain.append(plain)
        return self

    def final(self, **special):
        self.write(special.pop("plain", b""), kind=FINAL, **special)
        self.plain[-1] = None
        return self

    def bytes(self, records=None, label_block=None, record=None):
        return stream(label_block or self.label, record or self.record, self.records if records is None else records)


def add(corpus):
    for suite_name, suite in SUITES.items():
        for name, compression in COMPRESSIONS.items():
            pipe = Pipe(suite=suite).write(compression=compression).write(random_plain("raw"), compression)
            pipe.write(b"x", compression).write(b"\0" * 3000, compression).final()
            corpus.stream("stream-good-%s-%s" % (suite_name, name), "every suite with every compression", pipe.bytes(),
                          pipe.generation.key, pipe.plain[:-1])
    pipe = Pipe().final()
    corpus.stream("stream-good-empty", "a sealed nothing: only the final record", pipe.bytes(), pipe.generation.key)
    cut_and_trailing(corpus)
    changed(corpus)
    head(corpus)


def cut_and_trailing(corpus):
    pipe = Pipe().write().write().write().final()
    key, whole, plain = pipe.generation.key, pipe.bytes(), pipe.plain[:3]
    end = len(whole)
    last, final = len(pipe.records[2]), len(pipe.records[3])

    def case(name, about, body, plains, place, refusal):
        corpus.stream("stream-" + name, about, body, key, plains, {place: refusal}, final=False)

    case("cut-before-final", "the final record is missing", whole[:-final], plain, 3, "no-final")
    case("cut-at-boundary", "cut between two records", whole[:-final - last], plain[:2], 2, "no-final")
    case("cut-before-records", "label and generation record, nothing behind", pipe.bytes([]), [], 0, "no-final")
    case("cut-in-header", "cut 50 bytes into a header", whole[:-final - last + 50], plain[:2], 2, "truncated")
    case("cut-behind-header", "cut right behind a header", whole[:-final - last + 96], plain[:2], 2, "truncated")
    case("cut-in-record", "cut in the middle of a record", whole[:-final - 60], plain[:2], 2, "truncated")
    case("cut-in-final", "the last byte of the final record is missing", whole[:end - 1], plain, 3, "truncated")
    case("trailing-byte", "one byte behind the final record", whole + b"\0", plain, 4, "trailing-data")
    case("trailing-record", "a record behind the final one", whole + pipe.records[1], plain, 4, "trailing-data")
    case("two-finals", "the final record twice", whole + pipe.records[3], plain, 4, "trailing-data")
    case("two-streams", "another whole stream behind the final record", whole + whole, plain, 4, "trailing-data")


def changed(corpus):
    pipe = Pipe().write().write().write().final()
    key, plain, records = pipe.generation.key, pipe.plain, pipe.records

    def case(name, about, changes, refusals, final=True, plains=None):
        given = list(records)
        for place, body in changes.items():
            given[place] = body if isinstance(body, bytes) else body(records[place])
        corpus.stream("stream-" + name, about, pipe.bytes(given), key, plain[:3] if plains is None else plains, refusals, final)

    case("bad-crc", "one bit, CRC not made right", {1: bit(100, False)}, {1: "bad-crc"})
    case("bad-tag", "one bit, CRC made right", {1: bit(100)}, {1: "bad-tag"})
    case("bad-magic", "no record where one should begin: no boundary is left to go on from", {1: put(0, b"XLTR")},
         {1: "bad-magic"}, False, plain[:1])
    case("unknown-version", "a record of version 2: its length cannot be told", {1: put(4, b"\2")}, {1: "unknown-version"}, False,
         plain[:1])
    case("stored-length-huge", "a stored length of 4 GiB: refused before memory is taken", {1: put(24, b"\xff" * 4)},
         {1: "bad-lengths"}, False, plain[:1])
    case("swapped", "two records changed places", {1: records[2], 2: records[1]}, {1: "wrong-place", 2: "wrong-place"})
    case("repeated", "a record stands there twice, instead of the next", {2: records[1]}, {2: "wrong-place"})
    case("swapped-changed", "swapped, header changed to fit", {1: put(72, u64(1) + u64(1))(records[2]),
                                                              2: put(72, u64(2) + u64(2))(records[1])}, {1: "bad-tag", 2: "bad-tag"})
    case("counter", "seal counter changed", {1: put(72, u64(2))}, {1: "session-order"})
    case("session-id", "session id changed in the second record", {1: bit(40)}, {1: "session-order"})
    case("session-id-first", "session id changed in the first record", {0: bit(40)}, {0: "bad-tag"})
    case("ordinal", "ordinal changed", {1: put(16, u32(2))}, {1: "session-order"})
    case("first-object", "first object changed", {1: put(64, u64(1))}, {1: "session-order"})
    case("link", "link changed", {1: bit(50)}, {1: "bad-link"})
    case("filemarks", "a stream has no filemarks", {1: put(88, u64(1))}, {1: "wrong-filemarks"})
    case("kind-tape", "kind changed to tape block", {1: put(5, b"\0")}, {1: "wrong-kind"})
    case("kind-final", "kind of a block changed to final: a final carries nothing", {1: put(5, b"\2")}, {1: "bad-lengths"})
    shorter = Pipe().final()
    case("final-is-block", "kind of the final changed to block: a block carries something", {3: put(5, b"\1")},
         {3: "bad-lengths", 4: "no-final"}, False, plain[:3])
    case("final-bad-tag", "the final's tag changed", {3: bit(-5)}, {3: "bad-tag", 4: "no-final"}, False, plain[:3])
    case("final-early", "the final in place of a record", {1: records[3], 3: records[1]},
         {1: "wrong-place", 3: "wrong-place", 4: "no-final"}, False, plain[:3])
    case("final-early-changed", "the final moved forward, its numbers changed to fit", {1: put(72, u64(1) + u64(1))(records[3])},
         {1: "bad-tag"})
    case("final-of-other", "the final of a shorter stream of the same session, numbers changed to fit",
         {3: put(72, u64(3) + u64(3))(shorter.records[0])}, {3: "bad-tag", 4: "no-final"}, False, plain[:3])
    other = Pipe("other pipe").write().write().write().final()
    case("of-other", "a record of another stream", {1: other.records[1]}, {1: "session-order"})
    second = Pipe(name="a second session").write().write().write().final()
    case("second-session", "records of another session of the same generation", {n: second.records[n] for n in (1, 2, 3)},
         {1: "session-order", 2: "session-order", 3: "session-order", 4: "no-final"}, False, plain[:3])
    newer = Pipe().write()
    newer.session = Session(newer.generation, 2, newer.records[0])
    newer.write().final()
    corpus.stream("stream-sealed-second-session", "rightly sealed, a second session that a tape would allow: a stream has one",
                  newer.bytes(), key, newer.plain[:2], {1: "session-order", 2: "session-order", 3: "no-final"}, final=False)
    later = Pipe()
    later.session = Session(later.generation, 2)
    later.write().final()
    corpus.stream("stream-sealed-later-ordinal", "rightly sealed, its session's ordinal is not the generation's first", later.bytes(),
                  key, later.plain[:1], {0: "session-order", 1: "session-order", 2: "no-final"}, final=False)
    odd = Pipe().write().write().final(plain=b"something")
    corpus.stream("stream-sealed-final-with-data", "rightly sealed, a final that carries data", odd.bytes(), key, odd.plain[:2],
                  {2: "bad-lengths", 3: "no-final"}, final=False)
    odd = Pipe().write().write(filemarks=1).final()
    corpus.stream("stream-sealed-filemark", "rightly sealed, with a filemark", odd.bytes(), key, odd.plain[:2], {1: "wrong-filemarks"})
    odd = Pipe().write().write(b"").final()
    corpus.stream("stream-sealed-empty-block", "rightly sealed, a block without data", odd.bytes(), key, odd.plain[:2], {1: "bad-lengths"})


def head(corpus):
    pipe = Pipe().write().final()
    key, whole = pipe.generation.key, pipe.bytes()
    tape = Generation("pipe", generation=1, first_ordinal=1)
    tape_label = label(tape.volume)

    def case(name, about, body, place, refusal, key=key):
        corpus.stream("stream-" + name, about, body, key, [], {place: refusal}, final=False)

    case("blank", "no byte at all", b"", "label", "blank")
    case("foreign", "another program's stream", b"\x1f\x8b\x08" + bytes(600), "label", "foreign")
    case("foreign-short", "the first bytes of a label", b"SEALTAPE", "label", "foreign")
    case("cut-in-label", "cut in the label", whole[:2000], "label", "truncated")
    case("cut-behind-label", "cut behind the label", whole[:4096], "generation", "truncated")
    case("cut-in-generation-length", "cut in the length of the generation record", whole[:4098], "generation", "truncated")
    case("cut-in-generation", "cut in the generation record", whole[:4180], "generation", "truncated")
    case("label-bit", "one bit of the label", bit(40, False)(whole), "label", "damaged-label")
    case("label-version-2", "a label of version 2", whole.replace(b"VOLUME 1\n", b"VOLUME 2\n", 1), "label", "unknown-version")
    case("label-of-tape", "the label of a tape", pipe.bytes(label_block=tape_label), "label", "wrong-kind")
    case("label-partition", "a stream of two partitions", pipe.bytes(label_block=label(tape.volume, "stream", 0, 2)), "label",
         "wrong-partition")
    case("label-changed", "another operator's label, CRC made right", pipe.bytes(label_block=label(tape.volume, "stream", name="x")),
         "generation", "bad-generation-mac")
    case("generation-of-tape", "the generation record of a tape", pipe.bytes(record=tape.record(pipe.label)), "generation", "wrong-kind")
    case("generation-length-small", "a length of 119", whole[:4096] + u32(119) + whole[4100:], "generation", "damaged-generation")
    case("generation-length-large", "a length of 65537", whole[:4096] + u32(65537) + whole[4100:], "generation", "damaged-generation")
    case("generation-length-small-and-cut", "a length that is too small is refused before the bytes are asked for",
         whole[:4096] + u32(119) + whole[4100:4120], "generation", "damaged-generation")
    case("generation-changed", "another first ordinal, CRC made right", pipe.bytes(record=put(12, u32(9))(pipe.record)), "generation",
         "bad-generation-mac")
    case("wrong-key", "another data key", whole, "generation", "wrong-key", key=bytes(31) + b"\1")
