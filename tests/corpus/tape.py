"""What the cases are made with: a tape under construction, a case, and changes to records."""
import hashlib
import struct

from media import FILEMARK, image, objects_file
from writer import NONE, Generation, Session, label, named, recrc

COMPRESSIBLE = ("The quick brown fox jumps over the lazy dog; tape %s, object %d. " * 4)


def text(name, place):
    return (COMPRESSIBLE % ((name, place) * 4)).encode()


class Tape:
    """One partition, written as a drive and a sealed unit would write it. `plain[i]` is what object i holds."""

    def __init__(self, generation=None, label_block=None, stanzas=(), record=None, partitions=1):
        self.generation = generation or Generation()
        g = self.generation
        self.label = label_block or label(g.volume, partition=g.partition, partitions=partitions)
        self.hidden = [self.label, FILEMARK, record or g.record(self.label, stanzas)]
        self.objects, self.plain, self.session = [], [], None

    def open(self, ordinal, name=None):
        """A new session that follows the last record before the present place."""
        before = [body for body in self.objects if body is not FILEMARK]
        self.session = Session(self.generation, ordinal, before[-1] if before else None, name)
        return self

    def write(self, plain=None, compression=NONE, **special):
        place, marks = len(self.objects), self.objects.count(FILEMARK)
        plain = text(self.generation.volume_name, place) if plain is None else plain
        self.objects.append(self.session.seal(place, marks, plain, compression, **special))
        self.plain.append(plain)
        return self

    def blocks(self, count, **special):
        for _ in range(count):
            self.write(**special)
        return self

    def mark(self, count=1):
        for _ in range(count):
            self.objects.append(FILEMARK)
            self.plain.append(None)
        return self

    def locate(self, place):
        """Goes back: the next write makes everything behind it disappear."""
        del self.objects[place:], self.plain[place:]
        return self

    def copy(self):
        other = object.__new__(Tape)
        other.__dict__.update(self.__dict__, objects=list(self.objects), plain=list(self.plain), hidden=list(self.hidden))
        return other

    def replace(self, place, body, plain=None):
        """A copy with another object at `place`; its plain bytes, if a reader is to accept it."""
        other = self.copy()
        other.objects[place], other.plain[place] = body, plain
        return other

    def changed(self, place, change):
        return self.replace(place, change(self.objects[place]))


def bit(offset, crc=True):
    """Turns one bit of a block; with the CRC made right again unless `crc` is false."""
    def change(block):
        out = bytearray(block)
        out[offset] ^= 0x01
        return recrc(bytes(out)) if crc else bytes(out)
    return change


def put(offset, data, crc=True):
    """Puts bytes into a block."""
    def change(block):
        out = bytearray(block)
        out[offset:offset + len(data)] = data
        return recrc(bytes(out)) if crc else bytes(out)
    return change


def u32(value):
    return struct.pack(">I", value)


def u64(value):
    return struct.pack(">Q", value)


class Corpus:
    """Collects cases and the files they read."""

    def __init__(self):
        self.cases, self.files = [], {}

    def _add(self, name, about, kind, file, key, lines, refusals, end, **more):
        """`lines`: what each place gives when it is accepted; `refusals`: {place: name}."""
        assert name not in [case["name"] for case in self.cases], name
        salvage, first = [], None
        for place, line in enumerate(lines):
            if place in refusals:
                salvage.append("refused %s %d" % (refusals[place], place))
            else:
                assert line is not None, (name, place)
                salvage.append(line)
        salvage += ["refused %s %s" % (refusals[p], p) for p in refusals if not (isinstance(p, int) and p < len(lines))]
        stop = next((i for i, line in enumerate(salvage) if line.startswith("refused")), None)
        if stop is not None:
            _, refusal, place = salvage[stop].split()
            first = {"name": refusal, "at": int(place) if place.isdigit() else place}
        case = {"name": name, "about": about, "kind": kind, "file": file, "key": key.hex(), "expected":
                salvage if stop is None else salvage[:stop], "refusal": first, "salvage": salvage, "end": end}
        case.update(more)
        self.cases.append(case)

    def tape(self, name, about, tape, refusals=None, at=None, key=None, sessions=None, container=None, file=None, end=True):
        """`at`: (place, name) of a refusal of the label or generation record; nothing behind it is read."""
        lines = [] if at else [line_for(i, body, plain) for i, (body, plain) in enumerate(zip(tape.objects, tape.plain))]
        refusals = dict([at]) if at else dict(refusals or {})
        if file is None:
            partition = tape.generation.partition
            body = container(tape) if container else objects_file({partition: tape.hidden + tape.objects})
            file = name + (".image" if container else ".objects")
            self.files[file] = body
        proven = "proven" if sessions else "not proven"
        more = {"sessions": sessions} if sessions else {}
        self._add(name, about, "tape", file, key or tape.generation.key, lines, refusals,
                  proven if end and not at else None, partition=tape.generation.partition, **more)

    def hidden(self, name, about, objects, at, key, partition=0):
        """A tape that is refused before its first host object."""
        self.files[name + ".objects"] = objects_file({partition: objects})
        self._add(name, about, "tape", name + ".objects", key, [], dict([at]), None, partition=partition)

    def stream(self, name, about, body, key, plains=(), refusals=None, final=True):
        """`plains`: what each place gives, None for the final record or what is refused."""
        lines = [line_for(i, b"", p) if p is not None else None for i, p in enumerate(plains)]
        self.files[name + ".stream"] = body
        self._add(name, about, "stream", name + ".stream", key, lines, dict(refusals or {}), "final" if final else None)


def line_for(place, body, plain):
    if body is FILEMARK:
        return "filemark %d" % place
    return None if plain is None else "block %d %d %s" % (place, len(plain), hashlib.sha256(plain).hexdigest())


def image_of(name, *others, **options):
    """A container for Corpus.tape: a real cartridge, perhaps with more partitions."""
    def make(tape):
        tapes = sorted([tape, *others], key=lambda t: t.generation.partition)
        return image(name, {t.generation.partition: t.hidden + t.objects for t in tapes}, **options)
    return make


def random_plain(name, length=180):
    return named("plain " + name, length)
