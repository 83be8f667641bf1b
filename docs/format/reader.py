#!/usr/bin/env python3
"""Independent reader of Sealtape's on-media format, version 1 (see format-1.md beside this file).

Opens a tape image, or a stream, with nothing but the data key. It shares no code with the product: its
purpose is to show that the specification suffices, and to get the data back when nothing else is left.

    reader.py --key-file KEY [--partition N] [--out DIR] [--keep-going] FILE

KEY holds the 32 bytes of the data key as 64 hexadecimal digits. One line is printed for each object:
`block N LENGTH SHA256` or `filemark N`, and `refused: NAME at PLACE: words` for what is refused. Exit
code 0: everything read was verified. 1: usage or I/O. 2: something was refused.
"""
import argparse
import hashlib
import hmac
import json
import os
import re
import struct
import sys
from collections import namedtuple

import lz4.block
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

LABEL_LENGTH = 4096
LABEL_MAGIC = b"SEALTAPE VOLUME "
HEADER_LENGTH, TAG_LENGTH, CRC_LENGTH = 96, 16, 4
OVERHEAD = HEADER_LENGTH + TAG_LENGTH + CRC_LENGTH
PLAIN_MAX = 16 * 1024 * 1024
GENERATION_MIN, GENERATION_MAX, STANZAS_MAX = 120, 65536, 16
HIDDEN_OBJECTS = 3
GCM_SIV, GCM, XCHACHA = 1, 2, 3
SUITES = {GCM_SIV: "AES-256-GCM-SIV", GCM: "AES-256-GCM", XCHACHA: "XChaCha20-Poly1305"}
RAW, ZSTD, LZ4 = 0, 1, 2
TAPE_BLOCK, STREAM_BLOCK, STREAM_FINAL = 0, 1, 2
STANZA_LENGTHS = {1: 56, 2: 76}
LABEL_KINDS = {"tape": 0, "stream": 2}
NO_SESSION = bytes(16)


class Refused(Exception):
    """A refusal under one of the names of the specification's table of refusals."""

    def __init__(self, name, words, at=None):
        super().__init__(words)
        self.name, self.words, self.at = name, words, at


def require(condition, name, words):
    if not condition:
        raise Refused(name, words)


# ---------------------------------------------------------------------------------------------- checksums and keys

def _crc32c_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = (n >> 1) ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    return table


CRC32C = _crc32c_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def subkey(data_key, purpose, generation, session=NO_SESSION):
    """Section "Keys": every key that is used comes from the data key by one HKDF call."""
    info = struct.pack(">16sBBBBI16s16s", purpose, 1, generation.suite, generation.partition, 0,
                       generation.generation, generation.volume, session)
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(data_key)


def hchacha20(key, nonce16):
    """HChaCha20 (draft-irtf-cfrg-xchacha, 2.2): the subkey of XChaCha20."""
    block = Cipher(algorithms.ChaCha20(key, nonce16), mode=None).encryptor().update(bytes(64))
    out = struct.unpack("<16I", block)
    # ChaCha20's block is the permuted state plus the input state; HChaCha20 is without that addition.
    start = struct.unpack("<16I", b"expand 32-byte k" + key + nonce16)
    state = [(a - b) & 0xFFFFFFFF for a, b in zip(out, start)]
    return struct.pack("<8I", *state[0:4], *state[12:16])


def open_aead(suite, key, counter, sealed, aad):
    """Decrypts `ciphertext || tag`; raises InvalidTag and returns nothing otherwise."""
    nonce = struct.pack(">4xQ", counter)
    if suite == GCM_SIV:
        return AESGCMSIV(key).decrypt(nonce, sealed, aad)
    if suite == GCM:
        return AESGCM(key).decrypt(nonce, sealed, aad)
    # The 24-byte nonce is 16 zero bytes and the counter: HChaCha20 takes the first 16, ChaCha20 the last 8.
    return ChaCha20Poly1305(hchacha20(key, bytes(16))).decrypt(nonce, sealed, aad)


def decompress(compression, data, plain_length):
    """Exactly `plain_length` bytes from one zstd frame or one lz4 block, or a refusal."""
    try:
        if compression == RAW:
            plain = data
        elif compression == ZSTD:
            frame = zstandard.get_frame_parameters(data)
            require(frame.dict_id == 0 and frame.content_size in (plain_length, zstandard.CONTENTSIZE_UNKNOWN),
                    "bad-compression", "the zstd frame tells another length or needs a dictionary")
            plain = zstandard.ZstdDecompressor(max_window_size=PLAIN_MAX).decompress(
                data, max_output_size=plain_length, allow_extra_data=False)
        else:
            plain = lz4.block.decompress(data, uncompressed_size=plain_length)
    except (zstandard.ZstdError, lz4.block.LZ4BlockError) as error:
        raise Refused("bad-compression", "verified, but does not decompress: %s" % error)
    require(len(plain) == plain_length, "bad-compression", "decompresses to %d bytes, not %d"
            % (len(plain), plain_length))
    return plain


# ---------------------------------------------------------------------------------------------- label

Label = namedtuple("Label", "block volume kind partition partitions label barcode")


def label_version(block):
    """The version in the first line, after the check that this is a label at all."""
    require(block.startswith(LABEL_MAGIC), "foreign", "object 0 is not a Sealtape label")
    line = block[len(LABEL_MAGIC):].split(b"\n", 1)[0]
    require(re.fullmatch(rb"0|[1-9][0-9]*", line), "damaged-label", "the first line names no version")
    require(line == b"1", "unknown-version", "label version %s" % line.decode())


def parse_label(block):
    label_version(block)
    require(len(block) == LABEL_LENGTH, "damaged-label", "%d bytes long, not %d" % (len(block), LABEL_LENGTH))
    try:
        text = block.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused("damaged-label", "not UTF-8: %s" % error)
    lines = text.split("\n")
    require("fields:" in lines, "damaged-label", "no line `fields:`")
    offset = sum(len(line.encode()) + 1 for line in lines[:lines.index("fields:") + 1])
    known = {"volume": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "kind": "tape|stream",
             "partition": r"0|[1-9][0-9]{0,2}", "partitions": r"[1-9][0-9]{0,2}",
             "label": r"[^\x00-\x1f\x7f]+", "barcode": r"[^\x00-\x1f\x7f]+", "crc32c": r"[0-9a-f]{8}"}
    order, found = list(known), {}
    for line in lines[lines.index("fields:") + 1:]:
        key, colon, value = line.partition(": ")
        require(colon and re.fullmatch(r"[a-z][a-z0-9-]*", key), "damaged-label", "bad line %r" % line)
        if key in known:
            require(key not in found, "damaged-label", "`%s` is repeated" % key)
            require(all(order.index(k) < order.index(key) for k in found), "damaged-label", "`%s` is out of order" % key)
            require(re.fullmatch(known[key], value), "damaged-label", "bad value of `%s`" % key)
            found[key] = value
        if key == "crc32c":
            break
        offset += len(line.encode()) + 1
    for key in known:
        require(key in found or key in ("label", "barcode"), "damaged-label", "`%s` is missing" % key)
    require(int(found["crc32c"], 16) == crc32c(block[:offset]), "damaged-label", "CRC-32C does not match")
    end = b"crc32c: %s\nend\n" % found["crc32c"].encode()
    padding = block[offset + len(end):]
    require(block[offset:].startswith(end), "damaged-label", "no line `end` after the CRC")
    require(re.fullmatch(rb"( *\n)?", padding), "damaged-label", "bad padding")
    partition, partitions = int(found["partition"]), int(found["partitions"])
    require(partition < partitions <= 255, "damaged-label", "partition %d of %d" % (partition, partitions))
    return Label(block, bytes.fromhex(found["volume"].replace("-", "")), LABEL_KINDS[found["kind"]], partition,
                 partitions, found.get("label"), found.get("barcode"))


# ---------------------------------------------------------------------------------------------- generation record

Generation = namedtuple("Generation", "suite partition kind generation first_ordinal volume key_id commitment")


def parse_generation(block, label, data_key):
    bad = "damaged-generation"
    require(GENERATION_MIN <= len(block) <= GENERATION_MAX, bad, "%d bytes long" % len(block))
    magic, version, suite, partition, kind, number, first, volume, key_id, commitment, stanzas, zero = \
        struct.unpack_from(">4sBBBBII16s16s32sHH", block)
    require(magic == b"SLTG", bad, "bad magic")
    require(version == 1, "unknown-version", "generation record version %d" % version)
    require(struct.unpack(">I", block[-4:])[0] == crc32c(block[:-4]), bad, "CRC-32C does not match")
    require(suite in SUITES, "unknown-suite", "suite %d" % suite)
    require(partition == label.partition, "wrong-partition", "made for partition %d" % partition)
    require(kind == label.kind, "wrong-kind", "kind %d, the label says %d" % (kind, label.kind))
    require(volume == label.volume, "wrong-volume", "belongs to another volume")
    require(number >= 1 and first >= 1, bad, "generation and first session ordinal count from 1")
    require(zero == 0, bad, "reserved bytes are not zero")
    require(stanzas <= STANZAS_MAX, bad, "%d stanzas" % stanzas)
    at, end = 84, len(block) - 36
    for _ in range(stanzas):
        require(at + 4 <= end, bad, "a stanza does not fit")
        kind_of_stanza, length = struct.unpack_from(">HH", block, at)
        require(STANZA_LENGTHS.get(kind_of_stanza, length) == length, bad, "stanza with a wrong length")
        at += 4 + length
    require(at == end, bad, "the stanzas do not fill the record")
    generation = Generation(suite, partition, kind, number, first, volume, key_id, commitment)
    require(hmac.compare_digest(subkey(data_key, b"commit", generation), commitment), "wrong-key",
            "this is not the data key %s" % key_id.hex())
    mac = hmac.new(subkey(data_key, b"mac", generation), b"sealtape generation 1" + label.block + block[:-36],
                   hashlib.sha256).digest()
    require(hmac.compare_digest(mac, block[-36:-4]), "bad-generation-mac", "label or generation record were changed")
    return generation


# ---------------------------------------------------------------------------------------------- records

Header = namedtuple("Header", "magic version kind suite compression partition zero1 generation ordinal plain_length "
                              "stored_length zero2 session link first_object counter object filemarks")
HEADER = struct.Struct(">4sBBBBB3sIIII4s16s16sQQQQ")


def check_beginning(block):
    """Magic and version: what stands before everything else in a record of any version."""
    require(block[:4] == b"SLTR", "bad-magic", "this is not a sealed record")
    require(len(block) > 4, "truncated", "nothing but the magic")
    require(block[4] == 1, "unknown-version", "record version %d" % block[4])


class Opener:
    """Reads one partition (or stream) forward, object by object, and refuses what does not belong."""

    def __init__(self, generation, data_key, check_crc=True):
        self.generation, self.data_key, self.check_crc = generation, data_key, check_crc
        self.object = 0         # logical number of the object that comes next
        self.filemarks = 0      # filemarks before it; None when not known
        self.last = None        # header of the last verified record
        self.last_tag = b""
        self.adjacent = True    # nothing but filemarks since `last` (or, without one, since logical 0)
        self.key = (None, b"")  # record key of the session that was read last

    def pass_filemark(self):
        self.object += 1
        if self.filemarks is not None:
            self.filemarks += 1

    def open(self, block, kinds=(TAPE_BLOCK,)):
        """Plain bytes of the record at the present place; on refusal the place is past it all the same."""
        try:
            header, plain = self._open(block, kinds)
            self.last, self.last_tag, self.adjacent, self.filemarks = header, block[-20:-4], True, header.filemarks
            return header, plain
        except Refused as refusal:
            self.adjacent = False
            if refusal.name == "wrong-filemarks":
                self.filemarks = None
            raise
        finally:
            self.object += 1

    def _open(self, block, kinds):
        require(block is not None, "unreadable", "the medium does not give this block back")
        check_beginning(block)
        require(len(block) >= OVERHEAD, "truncated", "%d bytes are too few for a record" % len(block))
        h = Header(*HEADER.unpack_from(block))
        if self.check_crc:
            require(struct.unpack(">I", block[-4:])[0] == crc32c(block[:-4]), "bad-crc", "CRC-32C does not match")
        require(h.kind in kinds, "wrong-kind", "kind %d" % h.kind)
        require(h.suite in SUITES, "unknown-suite", "suite %d" % h.suite)
        require(h.suite == self.generation.suite, "suite-mismatch", "sealed with %s, the generation has %s"
                % (SUITES[h.suite], SUITES[self.generation.suite]))
        require(h.compression in (RAW, ZSTD, LZ4), "unknown-compression", "compression %d" % h.compression)
        require(not any(h.zero1 + h.zero2), "bad-reserved", "reserved bytes are not zero")
        self._check_lengths(h, len(block))
        require(h.partition == self.generation.partition, "wrong-partition", "sealed for partition %d" % h.partition)
        require(h.generation == self.generation.generation, "wrong-generation", "of generation %d" % h.generation)
        require(h.object == self.object, "wrong-place", "sealed as object %d" % h.object)
        require(self.filemarks in (None, h.filemarks), "wrong-filemarks",
                "sealed after %d filemarks, %s were passed" % (h.filemarks, self.filemarks))
        self._check_session(h)
        if self.key[0] != h.session:
            self.key = (h.session, subkey(self.data_key, b"record", self.generation, h.session))
        try:
            stored = open_aead(h.suite, self.key[1], h.counter, block[HEADER_LENGTH:-CRC_LENGTH],
                               block[:HEADER_LENGTH] + self.generation.volume)
        except InvalidTag:
            raise Refused("bad-tag", "the record is not authentic") from None
        return h, decompress(h.compression, stored, h.plain_length)

    @staticmethod
    def _check_lengths(h, length):
        if h.kind == STREAM_FINAL:
            good = h.plain_length == 0 and h.compression == RAW
        else:
            good = 1 <= h.plain_length <= PLAIN_MAX
        if h.compression == RAW:
            good = good and h.stored_length == h.plain_length
        else:
            good = good and 1 <= h.stored_length < h.plain_length
        require(good and h.stored_length == length - OVERHEAD, "bad-lengths", "plain %d, stored %d, block %d"
                % (h.plain_length, h.stored_length, length))

    def _check_session(self, h):
        r = self.last
        order = lambda condition, words: require(condition, "session-order", words)
        order(h.ordinal >= self.generation.first_ordinal, "session %d is older than the generation" % h.ordinal)
        if r is None and not self.adjacent:
            return                                                  # nothing verified before: nothing to compare with
        if r is not None and h.session == r.session:
            order(h.ordinal == r.ordinal, "one session with two ordinals")
            order(h.first_object == r.first_object, "one session with two beginnings")
            order(h.counter == r.counter + 1 if self.adjacent else h.counter > r.counter, "seal counter %d after %d"
                  % (h.counter, r.counter))
            require(h.link == r.link, "bad-link", "one session with two links")
            return
        order(r is None or h.ordinal > r.ordinal, "another session that is not newer")
        if self.adjacent:
            order(h.first_object == h.object, "a session that does not begin here")
            order(h.counter == 0, "a session that begins with seal counter %d" % h.counter)
            link = bytes(16) if r is None else \
                hashlib.sha256(b"sealtape link 1" + r.session + self.last_tag).digest()[:16]
            require(h.link == link, "bad-link", "the session does not follow the record before it")
        else:
            order(r.object < h.first_object <= h.object, "the session began before the last record of the one before")


class Catalogue:
    """The session map that the key authority keeps: what reading alone cannot see (section "With a catalogue")."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
        self.sessions, self.end = record["sessions"], record["end"]

    def check_record(self, h, tag):
        last = self.end["last_record"]
        mine = {"ordinal": h.ordinal, "id": h.session.hex(), "first_object": h.first_object, "link": h.link.hex()}
        for session in sorted(self.sessions, key=lambda s: -s["ordinal"]):
            if session["first_object"] > h.object:
                continue
            if all(session[name] == value for name, value in mine.items()):
                require(last is None or h.object != last["object"] or tag.hex() == last["tag"], "rolled-back",
                        "another record than was synchronised")
                return
            require(not session["confirmed"] or session["ordinal"] < h.ordinal, "rolled-back",
                    "of session %d, but session %d was written here" % (h.ordinal, session["ordinal"]))
        raise Refused("unknown-session", "session %d is not in the catalogue" % h.ordinal)

    def check_filemark(self, place):
        last = self.end["last_record"]
        require(last is None or place != last["object"], "rolled-back", "a filemark where a record was synchronised")

    def check_end(self, objects, filemarks):
        require(objects >= self.end["object"], "cut-short", "data ends here, the catalogue has %d objects"
                % self.end["object"])
        require(objects > self.end["object"] or filemarks in (None, self.end["filemarks"]), "wrong-filemarks",
                "%s filemarks, the catalogue has %d" % (filemarks, self.end["filemarks"]))


# ---------------------------------------------------------------------------------------------- media

BLOCK, FILEMARK, UNREADABLE, END_OF_DATA = "block", "filemark", "unreadable block", "end of data"
OBJECTS_MAGIC = b"STOBJ001"
IMAGE_MAGIC = b"SEALTAPE IMAGE "
FRAME = struct.Struct(">4sBBHQQQIIII")


def read_objects_file(file, partition):
    """The test corpus's container (tests/corpus/README.md): entries of type, u32 length, bytes."""
    here = None
    file.seek(len(OBJECTS_MAGIC))
    while True:
        head = file.read(5)
        if len(head) < 5:
            raise OSError("the objects file ends, partition %d does not" % partition)
        kind, length = struct.unpack(">BI", head)
        body = file.read(length)
        if len(body) < length or kind not in (1, 2, 3, 4):
            raise OSError("bad entry in the objects file")
        if kind == 3:
            here = body[0]
        elif kind == 4 and here == partition:
            return
        elif here == partition:
            yield (BLOCK, body) if kind == 1 else (FILEMARK, b"")


def image_superblock(file):
    """The superblock that counts (docs/image-format.md, "Superblock")."""
    header = file.read(4096)
    text = header.partition(b"\nfields:\n")[2].partition(b"\ncrc32c: ")
    fields = dict(line.partition(": ")[::2] for line in text[0].decode("utf-8").split("\n"))
    if not header.startswith(IMAGE_MAGIC + b"1\n"):
        raise OSError("an image of a version that this reader does not know")
    if b"%08x" % crc32c(header[:header.index(b"\ncrc32c: ", header.index(b"\nfields:\n")) + 1]) != text[2][:8]:
        raise OSError("the image's header is damaged (CRC)")
    best = (0, b"")
    for offset in map(int, fields["superblocks"].split()):
        file.seek(offset)
        slot = file.read(int(fields["superblock-size"]))
        if slot[:8] != b"STSUPER1" or len(slot) < 164:
            continue
        sequence, length = struct.unpack_from(">QI", slot, 8)
        if 160 <= length <= len(slot) - 4 and crc32c(slot[:length]) == struct.unpack_from(">I", slot, length)[0]:
            best = max(best, (sequence, slot))
    if not best[1]:
        raise OSError("the image is damaged: neither superblock is good")
    return best[1]


def read_image(file, partition, check_crc):
    """Objects of one partition of a file-backed cartridge (docs/image-format.md)."""
    superblock = image_superblock(file)
    if partition >= superblock[21]:
        raise OSError("the image has %d partition(s)" % superblock[21])
    base, capacity, synchronised, objects, epoch, salt, _ = struct.unpack_from(">7Q", superblock, 32 + 64 * partition)
    offset, number, last_epoch = base, 0, 0
    while True:
        if offset == synchronised and number != objects:
            raise OSError("the image is damaged: %d synchronised objects, not %d" % (number, objects))
        file.seek(offset)
        raw = file.read(FRAME.size).ljust(FRAME.size, b"\0")
        magic, kind, part, _, place, its_epoch, its_salt, length, payload_crc, _, header_crc = FRAME.unpack(raw)
        following = offset + FRAME.size + (length + 7) // 8 * 8
        good = (magic == b"STOB" and header_crc == crc32c(raw[:44]) and part == partition and place == number
                and (kind == 1 and 1 <= length <= PLAIN_MAX or kind == 2 and length == 0)
                and following <= base + capacity and last_epoch <= its_epoch <= epoch)
        payload = file.read(length).ljust(length, b"\0") if good else b""
        if offset < synchronised:
            if not good or following > synchronised:
                raise OSError("the image is damaged at object %d of partition %d" % (number, partition))
            readable = not check_crc or crc32c(payload) == payload_crc
        elif not good or (its_epoch, its_salt) != (epoch, salt) or crc32c(payload) != payload_crc:
            return
        else:
            readable = True
        yield (FILEMARK if kind == 2 else BLOCK if readable else UNREADABLE, payload)
        offset, number, last_epoch = following, number + 1, its_epoch


class Report:
    """Prints what was found, keeps plain data by tape file, and knows whether anything was refused."""

    def __init__(self, out, keep_going):
        self.out, self.keep_going, self.refused, self.file, self.number = out, keep_going, False, None, 0

    def block(self, number, plain):
        print("block %d %d %s" % (number, len(plain), hashlib.sha256(plain).hexdigest()))
        if self.out is not None:
            if self.file is None:
                self.file = open(os.path.join(self.out, "file-%05d" % self.number), "xb")
            self.file.write(plain)

    def filemark(self, number):
        print("filemark %d" % number)
        self.close()
        self.number += 1

    def refuse(self, refusal, place):
        at = refusal.at or place
        print("refused: %s at %s: %s" % (refusal.name, at if isinstance(at, str) else "object %d" % at, refusal.words))
        self.refused = True
        return self.keep_going

    def close(self):
        if self.file is not None:
            self.file.close()
            self.file = None


def at(place, function, *arguments):
    """Calls, and says of a refusal that it happened at `place`."""
    try:
        return function(*arguments)
    except Refused as refusal:
        refusal.at = place
        raise


def read_tape(objects, partition, data_key, report, catalogue, check_crc):
    def hidden(place, wanted, missing):
        kind, body = next(objects, (END_OF_DATA, b""))
        require(kind != END_OF_DATA, missing, "the data ends before the %s" % place)
        require(kind == wanted, "foreign" if place == "label" else "bad-layout", "a %s stands there" % kind)
        return body

    label = at("label", lambda: parse_label(hidden("label", BLOCK, "blank")))
    at("label", require, label.kind == LABEL_KINDS["tape"], "wrong-kind", "the label of a stream")
    at("label", require, label.partition == partition, "wrong-partition", "the label of partition %d" % label.partition)
    at("generation", hidden, "filemark after the label", FILEMARK, "no-generation")
    generation = at("generation", lambda: parse_generation(
        hidden("generation record", BLOCK, "no-generation"), label, data_key))
    opener = Opener(generation, data_key, check_crc)
    for kind, body in objects:
        here = opener.object
        try:
            if kind == FILEMARK:
                opener.pass_filemark()
                if catalogue:
                    catalogue.check_filemark(here)
                report.filemark(here)
                continue
            header, plain = opener.open(None if kind == UNREADABLE else body)
            if catalogue:
                catalogue.check_record(header, opener.last_tag)
            report.block(here, plain)
        except Refused as refusal:
            if not report.refuse(refusal, here):
                return
    try:
        if catalogue:
            catalogue.check_end(opener.object, opener.filemarks)
            print("end at the catalogue's end of data" if opener.object == catalogue.end["object"]
                  else "end past the catalogue's end of data")
        else:
            print("end not proven")
    except Refused as refusal:
        report.refuse(refusal, opener.object)


def read_record(file):
    """The next record of a stream, framed by its own stored length, or a refusal that ends the reading."""
    head = file.read(HEADER_LENGTH)
    require(head, "no-final", "the stream ends without its final record")
    require(len(head) == HEADER_LENGTH, "truncated", "the stream ends inside a header")
    check_beginning(head)
    stored = Header(*HEADER.unpack(head)).stored_length
    require(stored <= PLAIN_MAX, "bad-lengths", "stored length %d" % stored)
    rest = file.read(stored + TAG_LENGTH + CRC_LENGTH)
    require(len(rest) == stored + TAG_LENGTH + CRC_LENGTH, "truncated", "the stream ends inside a record")
    return head + rest


def stream_label(file):
    block = file.read(LABEL_LENGTH)
    require(block, "blank", "the stream is empty")
    try:
        label = parse_label(block)
    except Refused as refusal:
        require(refusal.name != "damaged-label" or len(block) == LABEL_LENGTH, "truncated", "the stream ends inside the label")
        raise
    require(label.kind == LABEL_KINDS["stream"], "wrong-kind", "the label of a tape")
    require((label.partition, label.partitions) == (0, 1), "wrong-partition", "a stream has one partition")
    return label


def stream_generation(file, label, data_key):
    prefix = file.read(4)
    require(len(prefix) == 4, "truncated", "the stream ends before the generation record")
    length = struct.unpack(">I", prefix)[0]
    require(GENERATION_MIN <= length <= GENERATION_MAX, "damaged-generation", "length %d" % length)
    block = file.read(length)
    require(len(block) == length, "truncated", "the stream ends inside the generation record")
    return parse_generation(block, label, data_key)


class StreamOpener(Opener):
    """A stream is one session of blocks, closed by a final record."""

    def _check_session(self, h):
        super()._check_session(h)
        require(h.ordinal == self.generation.first_ordinal, "session-order", "session %d in a stream" % h.ordinal)


def read_stream(file, data_key, report, check_crc):
    label = at("label", stream_label, file)
    generation = at("generation", stream_generation, file, label, data_key)
    opener = StreamOpener(generation, data_key, check_crc)
    final = False
    while not final:
        here = opener.object
        try:
            block = read_record(file)
        except Refused as refusal:
            report.refuse(refusal, here)    # without a boundary there is nothing to go on with
            return
        try:
            header, plain = opener.open(block, (STREAM_BLOCK, STREAM_FINAL))
            final = header.kind == STREAM_FINAL
            if not final:
                report.block(here, plain)
        except Refused as refusal:
            if not report.refuse(refusal, here):
                return
    if file.read(1):
        report.refuse(Refused("trailing-data", "bytes follow the final record"), opener.object)
    else:
        print("final verified")


# ---------------------------------------------------------------------------------------------- command line

def read_key(path):
    with open(path, encoding="ascii") as file:
        text = file.read().strip()
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise ValueError("%s does not hold 64 hexadecimal digits" % path)
    return bytes.fromhex(text)


def run(arguments):
    data_key = read_key(arguments.key_file)
    catalogue = Catalogue(arguments.sessions) if arguments.sessions else None
    report = Report(arguments.out, arguments.keep_going)
    try:
        with open(arguments.file, "rb") as file:
            magic, check_crc = file.read(len(IMAGE_MAGIC)), not arguments.skip_crc
            file.seek(0)
            if magic == IMAGE_MAGIC or magic.startswith(OBJECTS_MAGIC):
                objects = read_image(file, arguments.partition, check_crc) if magic == IMAGE_MAGIC \
                    else read_objects_file(file, arguments.partition)
                read_tape(objects, arguments.partition, data_key, report, catalogue, check_crc)
            else:
                read_stream(file, data_key, report, check_crc)
    except Refused as refusal:
        report.refuse(refusal, 0)
    finally:
        report.close()
    return 2 if report.refused else 0


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Opens a sealed tape image or stream with its data key alone.")
    parser.add_argument("--key-file", required=True, help="file with the data key as 64 hexadecimal digits")
    parser.add_argument("--partition", type=int, default=0, help="partition of a tape image (default 0)")
    parser.add_argument("--out", help="empty folder for the plain data, one file up to each filemark")
    parser.add_argument("--keep-going", action="store_true", help="salvage: go on after a refused record")
    parser.add_argument("--sessions", help="session map from the catalogue (JSON): then the end can be proven")
    parser.add_argument("--skip-crc", action="store_true",
                        help="do not compute CRC-32C, which is slow in Python; the tag alone decides")
    parser.add_argument("file", help="tape image or stream")
    try:
        return run(parser.parse_args(arguments))
    except (OSError, ValueError) as error:
        print("reader.py: %s" % error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
