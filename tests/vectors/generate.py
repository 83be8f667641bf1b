#!/usr/bin/env python3
"""Makes format-1.json: every value on the way to each key and record of format version 1.

Uses the corpus's writer; needs the packages of docs/format/requirements.txt. `--check` compares with what stands there.
"""
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "corpus"))

from writer import (  # noqa: E402  (the path comes first)
    LZ4, NONE, SIV, XCHACHA, GCM, ZSTD, Generation, Session, compress, crc32c, hchacha20, key_info, label, link_to,
    named, nonce_for)


def key_schedule():
    out = []
    for suite, partition, generation in ((SIV, 0, 1), (GCM, 1, 2), (XCHACHA, 0, 0xFFFFFFFF)):
        g = Generation("vector", partition, generation, suite)
        session = named("vector session", 16)
        for purpose, sid in (("record", session), ("mac", bytes(16)), ("commit", bytes(16))):
            out.append({"data_key": g.key.hex(), "purpose": purpose, "suite": suite, "partition": partition,
                        "generation": generation, "volume": g.volume.hex(), "session_id": sid.hex(),
                        "info": key_info(purpose, suite, partition, generation, g.volume, sid).hex(),
                        "key": g.subkey(purpose, sid).hex()})
    return out


def records():
    out = []
    for suite in (SIV, GCM, XCHACHA):
        for compression in (NONE, ZSTD, LZ4):
            g = Generation("vector", 1, 7, suite, first_ordinal=2)
            before = Session(g, 2)
            previous = before.seal(0, 0, b"the record before")
            session = Session(g, 4, previous)
            session.seal(3, 2, b"the first record of the session")
            plain = b"sealed once, read in thirty years; " * 8
            record = session.seal(4, 2, plain, compression)
            stored = compress(compression, plain)[1]
            case = {"suite": suite, "compression": compression, "data_key": g.key.hex(), "volume": g.volume.hex(), "partition": 1,
                    "generation": 7, "ordinal": 4, "session_id": session.id.hex(), "first_object": 3, "counter": 1, "object": 4,
                    "filemarks": 2, "record_before_session": previous.hex(), "link": link_to(previous).hex(),
                    "record_key": g.subkey("record", session.id).hex(), "nonce": nonce_for(suite, 1).hex(), "plain": plain.hex(),
                    "stored": stored.hex(), "header": record[:96].hex(), "aad": (record[:96] + g.volume).hex(),
                    "ciphertext": record[96:-20].hex(), "tag": record[-20:-4].hex(), "crc32c": record[-4:].hex(), "record": record.hex()}
            if suite == XCHACHA:
                case["hchacha20_subkey"] = hchacha20(g.subkey("record", session.id), bytes(16)).hex()
            out.append(case)
    return out


def hidden():
    g = Generation("vector", 1, 7, SIV, first_ordinal=2)
    block = label(g.volume, partition=1, partitions=2, name="Büro 7", barcode="AB1234L8")
    stanzas = [g.stanza_kw(), g.stanza_gcm()]
    record = g.record(block, stanzas)
    return {"data_key": g.key.hex(), "volume": g.volume.hex(), "partition": 1, "generation": 7, "suite": SIV, "first_ordinal": 2,
            "key_id": g.key_id.hex(), "label_text": block.rstrip(b" \n").decode() + "\n", "label_block": block.hex(),
            "label_crc32c": "%08x" % crc32c(block[:block.index(b"crc32c: ")]), "commitment": g.subkey("commit").hex(),
            "mac_key": g.subkey("mac").hex(), "mac": record[-36:-4].hex(),
            "stanzas": [{"type": kind, "body": body.hex()} for kind, body in stanzas],
            "kek_aes_key_wrap": named("kek", 32).hex(), "kek_aes_gcm": named("kek gcm", 32).hex(), "record": record.hex()}


def main():
    made = json.dumps({"about": "Sealtape format version 1; all bytes in hexadecimal; made by tests/vectors/generate.py",
                       "key_schedule": key_schedule(), "records": records(), "label_and_generation": hidden()}, indent=1) + "\n"
    path = os.path.join(HERE, "format-1.json")
    if "--check" in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            same = file.read() == made
        print("format-1.json is as generated" if same else "format-1.json differs")
        return 0 if same else 1
    with open(path, "w", encoding="utf-8") as file:
        file.write(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
