"""Writes sealed media for the corpus. Shares no code with the product, nor with docs/format/reader.py.

Everything is deterministic: identifiers and keys are hashes of names. Some parameters let a caller make
what no honest sealer makes.
"""
import hashlib
import hmac
import struct
import uuid

import lz4.block
import zstandard
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV, ChaCha20Poly1305
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

SIV, GCM, XCHACHA = 1, 2, 3
NONE, ZSTD, LZ4 = 0, 1, 2


def named(name, length):
    """Bytes that look random and depend on nothing but `name`."""
    return hashlib.shake_256(("sealtape corpus " + name).encode()).digest(length)


def volume_id(name):
    raw = bytearray(named("volume " + name, 16))
    raw[6], raw[8] = raw[6] & 0x0F | 0x40, raw[8] & 0x3F | 0x80
    return bytes(raw)


def crc32c(data):
    """Bit by bit, as the polynomial says it."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ 0x82F63B78 * (register & 1)
    return register ^ 0xFFFFFFFF


def with_crc(body):
    return body + struct.pack(">I", crc32c(body))


def recrc(block):
    """The block with its last four bytes made right again: what an attacker does after a change."""
    return with_crc(block[:-4])


def hkdf_sha256(key, salt, info, length):
    """RFC 5869."""
    prk = hmac.new(salt or bytes(32), key, hashlib.sha256).digest()
    out, block, n = b"", b"", 0
    while len(out) < length:
        n += 1
        block = hmac.new(prk, block + info + bytes([n]), hashlib.sha256).digest()
        out += block
    return out[:length]


def key_info(purpose, suite, partition, generation, volume, session=bytes(16)):
    info = purpose.encode().ljust(16, b"\0") + bytes([1, suite, partition, 0])
    return info + generation.to_bytes(4, "big") + volume + session


def hchacha20(key, nonce):
    """HChaCha20 with its rounds written out."""
    x = list(struct.unpack("<16I", b"expand 32-byte k" + key + nonce))

    def rotate(v, n):
        return (v << n | v >> 32 - n) & 0xFFFFFFFF

    def quarter(a, b, c, d):
        for (p, q, r, n) in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            x[p] = x[p] + x[q] & 0xFFFFFFFF
            x[r] = rotate(x[r] ^ x[p], n)

    for _ in range(10):
        for column in range(4):
            quarter(column, 4 + column, 8 + column, 12 + column)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return struct.pack("<8I", *x[:4], *x[12:])


def nonce_for(suite, counter):
    return counter.to_bytes(24 if suite == XCHACHA else 12, "big")


def seal_aead(suite, key, counter, plain, aad):
    nonce = nonce_for(suite, counter)
    if suite == SIV:
        return AESGCMSIV(key).encrypt(nonce, plain, aad)
    if suite == GCM:
        return AESGCM(key).encrypt(nonce, plain, aad)
    return ChaCha20Poly1305(hchacha20(key, nonce[:16])).encrypt(bytes(4) + nonce[16:], plain, aad)


def compress(compression, plain):
    """Compression and stored bytes: raw unless it shrinks."""
    if compression == ZSTD:
        stored = zstandard.ZstdCompressor(level=1).compress(plain)
    elif compression == LZ4:
        stored = lz4.block.compress(plain, store_size=False)
    else:
        return NONE, plain
    return (compression, stored) if len(stored) < len(plain) else (NONE, plain)


FREE_TEXT = """This is a tape of the Sealtape test corpus. Everything behind this label is sealed:
each block is encrypted and authenticated on its own. To read it you need its data key and
a reader for format version 1, specified in docs/format/format-1.md of Sealtape's sources.
"""


def label(volume, kind="tape", partition=0, partitions=1, name=None, barcode=None, text=FREE_TEXT, extra=()):
    lines = ["volume: %s" % uuid.UUID(bytes=volume), "kind: " + kind, "partition: %d" % partition,
             "partitions: %d" % partitions]
    lines += ["label: " + name] if name is not None else []
    lines += ["barcode: " + barcode] if barcode is not None else []
    return label_from("SEALTAPE VOLUME 1\n" + text, lines + list(extra))


def label_from(head, lines):
    """A label with any lines in it, right or wrong, under a right CRC."""
    body = (head + "fields:\n" + "".join(line + "\n" for line in lines)).encode()
    return label_closed(body)


def label_closed(body):
    body += b"crc32c: %08x\nend\n" % crc32c(body)
    return body + b" " * (4095 - len(body)) + b"\n"


class Generation:
    """A generation of one partition: its data key and all that is derived from it."""

    def __init__(self, volume="one", partition=0, generation=3, suite=SIV, first_ordinal=5, kind=0, key=None):
        self.volume_name, self.volume = volume, volume_id(volume)
        self.partition, self.generation, self.suite = partition, generation, suite
        self.first_ordinal, self.kind = first_ordinal, kind
        name = "%s %d %d" % (volume, partition, generation)
        self.key = key or named("data key " + name, 32)
        self.key_id = named("data key id " + name, 16)

    def subkey(self, purpose, session=bytes(16), suite=None):
        info = key_info(purpose, suite or self.suite, self.partition, self.generation, self.volume, session)
        return hkdf_sha256(self.key, b"", info, 32)

    def stanza_kw(self, kek_name="kek"):
        kek = named(kek_name, 32)
        return 1, named(kek_name + " id", 16) + aes_key_wrap(kek, self.key)

    def stanza_gcm(self, kek_name="kek gcm"):
        aad = b"sealtape dek 1" + self.volume + bytes([self.partition]) + self.generation.to_bytes(4, "big") + self.key_id
        nonce = named("stanza nonce", 12)
        encryptor = Cipher(algorithms.AES(named(kek_name, 32)), modes.GCM(nonce)).encryptor()
        encryptor.authenticate_additional_data(aad)
        body = encryptor.update(self.key) + encryptor.finalize() + encryptor.tag
        return 2, named(kek_name + " id", 16) + nonce + body

    def record(self, label_block, stanzas=(), count=None, zero=0, commitment=None):
        body = b"SLTG" + bytes([1, self.suite, self.partition, self.kind])
        body += struct.pack(">II", self.generation, self.first_ordinal) + self.volume + self.key_id
        body += commitment or self.subkey("commit")
        body += struct.pack(">HH", len(stanzas) if count is None else count, zero)
        for kind, stanza in stanzas:
            body += struct.pack(">HH", kind, len(stanza)) + stanza
        return self.close_record(label_block, body)

    def close_record(self, label_block, body):
        mac = hmac.new(self.subkey("mac"), b"sealtape generation 1" + label_block + body, hashlib.sha256).digest()
        return with_crc(body + mac)


def link_to(record):
    """The link of a session that follows `record` (a whole sealed record)."""
    return hashlib.sha256(b"sealtape link 1" + record[32:48] + record[-20:-4]).digest()[:16]


class Session:
    """Seals records of one session, in order."""

    def __init__(self, generation, ordinal, after=None, name=None):
        self.generation, self.ordinal = generation, ordinal
        self.id = named("session %s %d %s" % (name or generation.volume_name, ordinal, name or generation.generation), 16)
        self.link = link_to(after) if after else bytes(16)
        self.first, self.counter = None, 0

    def seal(self, place, filemarks, plain, compression=NONE, kind=0, stored=None, suite=None):
        if self.first is None:
            self.first = place
        g = self.generation
        suite = suite or g.suite
        if stored is None:
            compression, stored = compress(compression, plain)
        header = b"SLTR" + bytes([1, kind, suite, compression, g.partition, 0, 0, 0])
        header += struct.pack(">IIII", g.generation, self.ordinal, len(plain), len(stored)) + bytes(4)
        header += self.id + self.link + struct.pack(">QQQQ", self.first, self.counter, place, filemarks)
        key = g.subkey("record", self.id, suite)
        record = with_crc(header + seal_aead(suite, key, self.counter, stored, header + g.volume))
        self.counter += 1
        return record


def stream(label_block, generation_record, records):
    return label_block + struct.pack(">I", len(generation_record)) + generation_record + b"".join(records)
