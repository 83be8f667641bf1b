#!/usr/bin/env python3
"""Independent verifier of exports of Sealtape's custody log (see custody-log.md beside this file).

Needs Python 3.11 and the package `cryptography`, and shares no code with the product: its purpose is to show that the
specification suffices, and that an auditor does not have to trust the program that wrote the export.

    verify.py --key KEY [--key KEY ...] [--witness VKEY ...] FILE [FILE ...]

KEY is a verifier key (name+hash+key) or a file with some, one per line (custody.pub). VKEY is that of a witness (type 0x04),
or a file with some: each of them has to have cosigned a checkpoint of the export, and none of its cosignatures may be bad.
For each FILE one line of JSON is printed: `{"verdict":"verified",...}` or `{"verdict":"refused","kind":...,...}` with the
first line that is wrong, or with the witnesses that are missing. Exit code 0: all are verified. 1: usage or I/O. 2: something
was refused.
"""
import argparse
import base64
import binascii
import csv
import datetime
import hashlib
import io
import json
import os
import re
import sys
import unicodedata

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FORMAT = "sealtape custody export 1"
KEY_FORMAT = "sealtape log key 1"
MAX_LINE = 65536
MAX_LEAF = 8192
MAX_DEPTH = 127
U64 = 2**64 - 1
ED25519, ECDSA, COSIGNATURE = 1, 2, 4
I64 = 2**63 - 1
LAST_SECOND = 253402300799  # the end of the year 9999
# Encodings of the points of small order, without the sign of x. Under such a key any signature verifies over some texts.
SMALL_ORDER = {bytes.fromhex(text) for text in (
    "00" * 32,
    "01" + "00" * 31,
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ec" + "ff" * 30 + "7f",
    "ed" + "ff" * 30 + "7f",
    "ee" + "ff" * 30 + "7f",
)}
P256_SPKI = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
OUTCOMES = {"intent", "done", "refused", "failed", "interrupted"}
PROVEN = ("leaf", "key_leaf", "root_leaf")
COLUMNS = ("seq", "time", "op", "outcome", "actor", "role", "authentication", "unit", "volume", "partition", "generation",
           "key", "tenant", "tenant_seq", "reason")


class Wrong(Exception):
    """What is wrong with a line, in words."""


class Refused(Exception):
    """Why a file is refused, and where."""

    def __init__(self, kind, what, **place):
        super().__init__(what)
        self.kind, self.what, self.place = kind, what, place


def need(condition, what):
    if not condition:
        raise Wrong(what)


# ------------------------------------------------------------------------------------------------- canonical JSON

def parse_json(text):
    def number(digits):
        value = int(digits)
        if not -(2**63) <= value <= U64:
            raise Wrong("a number is too large")
        return value

    def constant(name):
        raise Wrong(f"{name} is no JSON")

    try:
        return json.loads(text, parse_int=number, parse_constant=constant)
    except (ValueError, RecursionError) as e:
        raise Wrong(f"not JSON: {e}") from None


def canonical(value, depth=0):
    if value is None or isinstance(value, (bool, int, str)):
        return json.dumps(value, ensure_ascii=False)
    need(depth < MAX_DEPTH, "nested too deeply")
    if isinstance(value, list):
        return "[" + ",".join(canonical(item, depth + 1) for item in value) + "]"
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-8", "surrogatepass"))
        return "{" + ",".join(f"{canonical(n)}:{canonical(value[n], depth + 1)}" for n in names) + "}"
    raise Wrong("a number is not an integer")


def parse_canonical(text):
    value = parse_json(text)
    need(canonical(value) == text, "not in canonical form")
    return value


def decode64(text):
    need(isinstance(text, str), "no base64")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Wrong("no base64") from None
    need(base64.b64encode(data).decode() == text, "no base64 of the one form")
    return data


def is_hex(value, count):
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{%d}" % (2 * count), value) is not None


def is_uuid(value):
    return isinstance(value, str) and UUID.fullmatch(value) is not None


def is_uint(value, most=U64):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def has_members(value, *names):
    return isinstance(value, dict) and set(value) == set(names)


# ------------------------------------------------------------------------------------------------- keys and notes

def name_ok(name):
    return name != "" and not any(c.isspace() or unicodedata.category(c) == "Cc" or c == "+" for c in name)


class VerifierKey:
    def __init__(self, text):
        parts = text.strip().split("+", 2)
        need(len(parts) == 3, "a verifier key has three parts")
        self.name, digits, key = parts
        data = decode64(key)
        need(name_ok(self.name) and is_hex(digits, 4) and data, "a verifier key is malformed")
        if data[0] == ED25519:
            need(len(data) == 33, "an Ed25519 key has 32 bytes")
            self.key = Ed25519PublicKey.from_public_bytes(data[1:])
            hashed = self.name.encode() + b"\n" + data
        elif data[0] == ECDSA:
            need(data[1:].startswith(P256_SPKI) and len(data) == 1 + len(P256_SPKI) + 65, "no uncompressed P-256 key")
            try:
                self.key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), data[1 + len(P256_SPKI):])
            except ValueError:
                raise Wrong("no point of the curve") from None
            hashed = data[1:]
        else:
            raise Wrong("neither Ed25519 nor ECDSA")
        self.id = hashlib.sha256(hashed).digest()[:4]
        need(self.id.hex() == digits, "name and key do not go together")
        self.text = f"{self.name}+{digits}+{key}"

    def verifies(self, text, signature):
        try:
            if isinstance(self.key, Ed25519PublicKey):
                self.key.verify(signature, text.encode())
            else:
                self.key.verify(signature, text.encode(), ec.ECDSA(hashes.SHA256()))
            return True
        except InvalidSignature:
            return False

    def open(self, note):
        """Origin, size and root of a checkpoint that this key has signed, and the names of others under it."""
        text, signatures = parse_note(note)
        mine = signature_of(signatures, self)
        need(mine is not None, f"no signature of {self.name}")
        need(self.verifies(text, mine), f"the signature of {self.name} does not verify")
        lines = text[:-1].split("\n")
        need(len(lines) >= 3, "origin, size and root are not all there")
        origin, size, root = lines[:3]
        need(origin != "" and re.fullmatch(r"0|[1-9][0-9]*", size) is not None and int(size) <= U64, "malformed size")
        root = decode64(root)
        need(len(root) == 32, "the root is malformed")
        return origin, int(size), root, [name for name, key, _ in signatures if (name, key) != (self.name, self.id)]


def parse_note(note):
    """The text of a signed note, and its signatures: name, key id, the rest."""
    need(not any(unicodedata.category(c) == "Cc" and c != "\n" for c in note), "the note holds control characters")
    split = note.rfind("\n\n")
    need(split >= 0 and note.endswith("\n"), "no signed note")
    text, rest = note[:split + 1], note[split + 2:]
    need(rest != "", "no signed note")
    signatures = []
    for line in rest[:-1].split("\n"):
        need(line.startswith("\u2014 "), "a signature line is malformed")
        name, blank, signature = line[2:].partition(" ")
        need(blank == " " and name_ok(name), "a signature line is malformed")
        data = decode64(signature)
        need(len(data) > 4, "a signature line is malformed")
        signatures.append((name, data[:4], data[4:]))
    return text, signatures


def signature_of(signatures, key):
    """What stands behind the key id in the one line of this key; None if there is none."""
    mine = [data for name, id, data in signatures if (name, id) == (key.name, key.id)]
    need(len(mine) <= 1, "two signatures by one key")
    return mine[0] if mine else None


def small_order(point):
    return point[:31] + bytes([point[31] & 0x7F]) in SMALL_ORDER


class WitnessKey:
    """The key of a witness (c2sp.org/tlog-cosignature): Ed25519, type 0x04."""

    def __init__(self, text):
        parts = text.strip().split("+", 2)
        need(len(parts) == 3, "a witness's key has three parts")
        self.name, digits, key = parts
        data = decode64(key)
        need(name_ok(self.name) and is_hex(digits, 4), "a witness's key is malformed")
        need(len(data) == 33 and data[0] == COSIGNATURE, "no Ed25519 cosignature key (type 0x04)")
        need(not small_order(data[1:]), "a point of small order")
        self.key = Ed25519PublicKey.from_public_bytes(data[1:])
        self.id = hashlib.sha256(self.name.encode() + b"\n" + data).digest()[:4]
        need(self.id.hex() == digits, "name and key do not go together")
        self.text = f"{self.name}+{digits}+{key}"

    def cosigned(self, note):
        """When this witness cosigned a note, in seconds since 1970; None if it did not."""
        text, signatures = parse_note(note)
        data = signature_of(signatures, self)
        if data is None:
            return None
        bad = f"the cosignature of {self.name} does not verify"
        need(len(data) == 8 + 64, bad)
        time, signature = int.from_bytes(data[:8], "big"), data[8:]
        need(0 < time <= I64 and not small_order(signature[:32]), bad)
        try:
            self.key.verify(signature, f"cosignature/v1\ntime {time}\n{text}".encode())
        except InvalidSignature:
            raise Wrong(bad) from None
        return time


class Cosigned:
    """What the witnesses that are asked for have cosigned: of each the checkpoint over most leaves."""

    def __init__(self, witnesses):
        self.witnesses, self.found = witnesses, {}

    def look(self, note, size):
        for witness in self.witnesses:
            time = witness.cosigned(note)
            if time is None or self.found.get(witness.text, {"entries": 0})["entries"] > size:
                continue
            at = datetime.datetime.fromtimestamp(min(time, LAST_SECOND), datetime.timezone.utc)
            self.found[witness.text] = {"witness": witness.name, "key": witness.text, "entries": size,
                                        "time": at.strftime("%Y-%m-%dT%H:%M:%S.000Z")}

    def missing(self):
        return sorted({witness.text for witness in self.witnesses} - set(self.found))

    def anchoring(self):
        if not self.found:
            return "internally_consistent_only"
        return {"anchored": [self.found[text] for text in sorted(self.found)]}

    def unchecked(self, others):
        names = {found["witness"] for found in self.found.values()}
        return [name for name in others if name not in names]


def follow(change, old):
    """The new key of a change that begins at `old`, if both have signed it."""
    need(change["old"] == old.text, "the key that is replaced is not the one that signed until here")
    new = VerifierKey(change["new"])
    need(new.text == change["new"] and new.name == old.name, "the new key is malformed, or is that of another log")
    statement = canonical({"format": KEY_FORMAT, "new": new.text, "old": old.text, "origin": old.name})
    for key, signature in ((old, "old_signature"), (new, "new_signature")):
        need(key.verifies(statement, decode64(change[signature])), f"{signature} does not verify")
    return new


# ------------------------------------------------------------------------------------------------------------ tree

def leaf_hash(data):
    return hashlib.sha256(b"\0" + data).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


class Tree:
    """The roots of the complete subtrees of an RFC 6962 tree, largest first."""

    def __init__(self):
        self.size, self.subtrees = 0, []

    def append(self, node):
        size = self.size
        while size & 1:
            node = node_hash(self.subtrees.pop(), node)
            size >>= 1
        self.subtrees.append(node)
        self.size += 1

    def root(self):
        if not self.subtrees:
            return hashlib.sha256(b"").digest()
        node = self.subtrees[-1]
        for left in reversed(self.subtrees[:-1]):
            node = node_hash(left, node)
        return node


def root_from_path(index, size, node, path):
    """RFC 9162 section 2.1.3.2; None when the path has the wrong length."""
    if index >= size:
        return None
    at, last = index, size - 1
    for sibling in path:
        if last == 0:
            return None
        if at & 1 or at == last:
            node = node_hash(sibling, node)
            while at & 1 == 0 and at != 0:
                at, last = at >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        at, last = at >> 1, last >> 1
    return node if last == 0 else None


# ---------------------------------------------------------------------------------------------------------- leaves

def is_text(value):
    return isinstance(value, str)


def are_blobs(value):
    return isinstance(value, list) and value != [] and all(
        has_members(b, "kek", "sha256") and is_uuid(b["kek"]) and is_hex(b["sha256"], 32) for b in value)


def are_approvals(value):
    return isinstance(value, list) and value != [] and all(
        has_members(a, "key", "person", "signature") and all(map(is_text, a.values())) for a in value)


def is_key_change(value):
    return has_members(value, "new", "new_signature", "old", "old_signature") and all(map(is_text, value.values()))


MEMBERS = {
    "actor": is_text,
    "approvals": are_approvals,
    "authentication": is_text,
    "blobs": are_blobs,
    "digest": lambda v: is_hex(v, 32),
    "generation": lambda v: is_uint(v, 2**32 - 1),
    "key": is_uuid,
    "log_key": is_key_change,
    "op": is_text,
    "outcome": lambda v: isinstance(v, str) and v in OUTCOMES,
    "partition": lambda v: is_uint(v, 255),
    "reason": is_text,
    "role": is_text,
    "salt": lambda v: is_hex(v, 16),
    "seq": is_uint,
    "tenant": is_uuid,
    "tenant_root": lambda v: is_hex(v, 32),
    "tenant_seq": is_uint,
    "tenant_size": is_uint,
    "time": lambda v: isinstance(v, str) and TIME.fullmatch(v) is not None,
    "unit": is_text,
    "volume": is_uuid,
}
ALWAYS = ("actor", "op", "outcome", "salt", "seq", "time")


def check_leaf(leaf, text):
    need(len(text.encode()) <= MAX_LEAF, "the leaf is too long")
    need(isinstance(leaf, dict), "a leaf is an object")
    for name in ALWAYS:
        need(name in leaf, f"the leaf lacks {name}")
    for name, value in leaf.items():
        need(name not in MEMBERS or MEMBERS[name](value), f"the leaf's {name} is malformed")
    about = tuple(name in leaf for name in ("tenant", "tenant_seq", "tenant_root", "tenant_size"))
    root = about == (True, False, True, True) and leaf["op"] == "tenant.root"
    need(about in ((False,) * 4, (True, True, False, False)) or root, "its members about a tenant do not go together")
    change = leaf["op"] == "log.key" and leaf["outcome"] == "done"
    need(("log_key" in leaf) == change, "log_key stands in entries of a new signing key, and only there")


class Times:
    def __init__(self):
        self.first = self.last = ""

    def enter(self, leaf):
        need(leaf["time"] >= self.last, "its time is before that of the leaf before it")
        self.first = self.first or leaf["time"]
        self.last = leaf["time"]


# ----------------------------------------------------------------------------------------------------------- lines

def csv_row(cells):
    return ",".join('"' + cell.replace('"', '""') + '"' for cell in cells)


def csv_cell(leaf, name):
    value = leaf.get(name) if isinstance(leaf, dict) else None
    if isinstance(value, bool):
        return ""
    text = str(value) if isinstance(value, (int, float)) else value if isinstance(value, str) else ""
    text = "".join(" " if c < " " or c == "\x7f" else c for c in text)
    return "'" + text if text[:1] in ("=", "+", "-", "@") else text


def csv_line(text, first):
    value = parse_json(text)
    kind, leaf = "leaf", value
    if not isinstance(value, dict):
        kind, leaf = "other", None
    elif first:
        kind, leaf = "header", None
    elif has_members(value, "checkpoint"):
        kind, leaf = "checkpoint", None
    elif has_members(value, "end"):
        kind, leaf = "end", None
    else:
        for name in PROVEN:
            if has_members(value, name, "proof"):
                kind, leaf = name, value[name]
    return csv_row([kind] + [csv_cell(leaf, name) for name in COLUMNS] + [text])


class Lines:
    """The lines of the JSON form, whichever form the file has; `number` is that of the line read last."""

    def __init__(self, file):
        self.file, self.number, self.csv, self.header_read = file, 0, False, False

    def wrong(self, what):
        return Refused("line", what, line=self.number)

    def raw(self):
        data = self.file.readline(MAX_LINE)
        if not data:
            return None
        self.number += 1
        if not data.endswith(b"\n"):
            raise self.wrong("it does not end, or is too long")
        try:
            return data[:-1].decode("utf-8")
        except UnicodeDecodeError:
            raise self.wrong("it is not UTF-8") from None

    def next(self):
        text = self.raw()
        if text is None:
            return None
        if self.number == 1 and text.startswith('"'):
            if text != csv_row(["kind", *COLUMNS, "json"]):
                raise self.wrong("its columns are not those of an export")
            self.csv = True
            text = self.raw()
            if text is None:
                return None
        first, self.header_read = not self.header_read, True
        if not self.csv:
            return text
        try:
            row = next(csv.reader(io.StringIO(text, newline=""), strict=True))
            need(len(row) == len(COLUMNS) + 2, "the number of columns is wrong")
            need(csv_line(row[-1], first) == text, "its columns do not agree with the last one")
            return row[-1]
        except (Wrong, csv.Error, StopIteration) as e:
            raise self.wrong(str(e)) from None


# -------------------------------------------------------------------------------------------------------- the header

class Head:
    def __init__(self, text, given):
        header = parse_canonical(text)
        members = {"format", "keys", "origin", "scope", "size"}
        need(isinstance(header, dict) and members <= set(header) <= members | {"filter", "tenant"}, "no export header")
        need(header["format"] == FORMAT, "another format")
        self.origin, self.scope, self.size, self.tenant = (header.get(n) for n in ("origin", "scope", "size", "tenant"))
        keys = header["keys"]
        need(is_text(self.origin) and is_uint(self.size) and isinstance(keys, list) and all(map(is_text, keys)),
             "no export header")
        need(any(key.name == self.origin for key in given), "it is an export of another log")
        self.keys = [VerifierKey(key) for key in keys]
        need(all(k.text == t and k.name == self.origin for k, t in zip(self.keys, keys)), "its keys are not this log's")
        need(any(k.text == g.text for k in self.keys for g in given), "the key given is none of its keys")
        need("filter" not in header or isinstance(header["filter"], dict), "no export header")
        need("tenant" not in header or is_uuid(self.tenant), "no export header")
        fits = {"full": (False, False), "tenant": (False, True), "selection": (True, False)}
        need(is_text(self.scope) and fits.get(self.scope) == ("filter" in header, "tenant" in header),
             "scope, tenant and filter do not go together")


# ------------------------------------------------------------------------------------------------------ full exports

class Full:
    def __init__(self, head, lines, cosigned):
        self.head, self.lines, self.cosigned = head, lines, cosigned
        self.tree, self.tenants, self.key, self.times = Tree(), {}, 0, Times()
        self.checkpoints, self.verified_to, self.closed, self.suspect = 0, lines.number, None, None
        self.opened = None

    def verify(self):
        while (text := self.lines.next()) is not None:
            number = self.lines.number
            try:
                need(self.closed is None or self.tree.size != self.head.size, "something follows the last checkpoint")
                if text.startswith('{"checkpoint":'):
                    self.checkpoint(number, text)
                else:
                    self.leaf(number, text)
            except Wrong as e:
                raise Refused("line", str(e), line=number) from None
        number = self.lines.number
        if self.closed is None:
            raise Refused("cut", "it ends before its last checkpoint", line=number)
        if self.opened != self.head.origin:
            raise Refused("line", "no leaf opens this log", line=number)
        if self.tree.size != self.head.size:
            raise Refused("line", "not as many leaves as the header says", line=number)
        if self.key + 1 != len(self.head.keys):
            raise Refused("line", "the header names keys that the log does not bring in", line=number)
        return {"completeness": "complete", "entries": self.tree.size, "root": self.tree.root().hex(),
                "checkpoints": self.checkpoints, "others": self.closed, "times": self.times}

    def checkpoint(self, number, text):
        line = parse_canonical(text)
        need(has_members(line, "checkpoint") and is_text(line["checkpoint"]), "no checkpoint")
        origin, size, root, others = self.head.keys[self.key].open(line["checkpoint"])
        need(origin == self.head.origin, "the checkpoint is of another log")
        need(size == self.tree.size, "the checkpoint is over another number of leaves")
        need(self.closed is None, "a second checkpoint over the same leaves")
        if root != self.tree.root():
            raise Refused("root", "these lines are not what the checkpoint was signed over",
                          first=self.verified_to + 1, last=number - 1, checkpoint=number)
        if self.suspect is not None:
            raise Refused("line", "the root of a tenant is not that of its leaves", line=self.suspect)
        self.cosigned.look(line["checkpoint"], size)
        self.checkpoints += 1
        self.verified_to, self.closed = number, others

    def leaf(self, number, text):
        leaf = parse_canonical(text)
        check_leaf(leaf, text)
        need(leaf["seq"] == self.tree.size, f"leaf {self.tree.size} belongs here")
        if leaf["op"] == "log.open" and leaf["outcome"] == "done":
            need(self.checkpoints == 0, "a log is opened behind a checkpoint of this one")
            self.opened = leaf.get("reason")
        else:
            need(leaf["seq"] != 0, "the first leaf does not open a log")
        self.times.enter(leaf)
        # A key change from before a restore concerns the keys of the log as it was called then.
        if "log_key" in leaf and leaf["log_key"]["new"].split("+")[0] == self.head.origin:
            new = follow(leaf["log_key"], self.head.keys[self.key])
            self.key += 1
            need(self.key < len(self.head.keys) and self.head.keys[self.key].text == new.text,
                 "its new key is not the next one of the header")
        node = leaf_hash(text.encode())
        if "tenant" in leaf:
            tree = self.tenants.setdefault(leaf["tenant"], Tree())
            if "tenant_seq" in leaf:
                need(leaf["tenant_seq"] == tree.size, f"leaf {tree.size} of the tenant belongs here")
                tree.append(node)
            elif (leaf["tenant_size"], leaf["tenant_root"]) != (tree.size, tree.root().hex()):
                # Which leaf is wrong, this one or one of the tenant's, is known at the next checkpoint.
                self.suspect = self.suspect or number
        self.tree.append(node)
        self.closed = None


# ---------------------------------------------------------------------------------- exports of tenants and selections

class Proven:
    def __init__(self, head, lines, cosigned):
        self.head, self.lines, self.cosigned = head, lines, cosigned
        self.key, self.last_key_leaf, self.root_leaf = 0, None, None
        self.tree, self.entries, self.last, self.times = Tree(), 0, None, Times()

    def next(self):
        text = self.lines.next()
        if text is None:
            raise Refused("cut", "it ends before its last line", line=self.lines.number)
        return text

    def verify(self):
        try:
            text = self.next()
            self.begin(text)
            while self.line(self.next()):
                pass
        except Wrong as e:
            raise self.lines.wrong(str(e)) from None
        if self.lines.next() is not None:
            raise self.lines.wrong("something follows the end")
        completeness = "inclusion_only"
        if self.head.tenant is not None:
            completeness = {"tenant": self.head.tenant, "as_of": self.root_leaf["seq"], "time": self.root_leaf["time"]}
        return {"completeness": completeness, "entries": self.entries, "root": self.root.hex(), "checkpoints": 1,
                "others": self.others, "times": self.times}

    def begin(self, text):
        line = parse_canonical(text)
        need(has_members(line, "checkpoint") and is_text(line["checkpoint"]), "no checkpoint follows the header")
        need(self.head.keys, "the header names no key")
        origin, size, self.root, self.others = self.head.keys[-1].open(line["checkpoint"])
        need(origin == self.head.origin and size == self.head.size, "the checkpoint is not the header's")
        self.cosigned.look(line["checkpoint"], size)

    def keys_known(self):
        need(self.key + 1 == len(self.head.keys), "the header names more keys than there are changes of the key")

    def line(self, text):
        line = parse_canonical(text)
        if has_members(line, "end"):
            need(is_uint(line["end"]), "no number")
            self.end(line["end"])
            return False
        for name in PROVEN:
            if has_members(line, name, "proof"):
                need(isinstance(line["proof"], list), "the proof is no list")
                path = [decode64(node) for node in line["proof"]]
                need(all(len(node) == 32 for node in path), "the proof is no list of hashes")
                leaf, text = line[name], canonical(line[name])
                check_leaf(leaf, text)
                found = root_from_path(leaf["seq"], self.head.size, leaf_hash(text.encode()), path)
                need(found == self.root, "the proof does not lead from the leaf to the checkpoint's root")
                {"leaf": self.leaf, "key_leaf": self.change, "root_leaf": self.tenant_root}[name](leaf, text)
                return True
        raise Wrong("no line of this kind belongs here")

    def change(self, leaf, _):
        need(self.entries == 0 and self.root_leaf is None, "changes of the key come before everything else")
        need("log_key" in leaf, "no change of the signing key")
        need(self.last_key_leaf is None or leaf["seq"] > self.last_key_leaf, "out of order")
        need(self.key < len(self.head.keys), "a key too many")
        new = follow(leaf["log_key"], self.head.keys[self.key])
        self.key += 1
        need(self.key < len(self.head.keys) and self.head.keys[self.key].text == new.text,
             "its new key is not the next one of the header")
        self.last_key_leaf = leaf["seq"]

    def tenant_root(self, leaf, _):
        self.keys_known()
        need(self.head.tenant is not None and self.root_leaf is None, "no root belongs here")
        need("tenant_root" in leaf and leaf["tenant"] == self.head.tenant, "not the root of this tenant")
        self.root_leaf = leaf

    def leaf(self, leaf, text):
        self.keys_known()
        need(self.last is None or leaf["seq"] > self.last, "the leaves are out of order")
        self.times.enter(leaf)
        if self.head.tenant is not None:
            need(self.root_leaf is not None, "the root of the tenant's tree is missing before the leaves")
            need(leaf.get("tenant") == self.head.tenant and "tenant_seq" in leaf, "no leaf of this tenant")
            need(leaf["tenant_seq"] == self.tree.size and leaf["seq"] < self.root_leaf["seq"],
                 f"leaf {self.tree.size} of the tenant belongs here")
            self.tree.append(leaf_hash(text.encode()))
        self.last = leaf["seq"]
        self.entries += 1

    def end(self, entries):
        self.keys_known()
        need(entries == self.entries, "not as many leaves as the last line says")
        if self.head.tenant is not None:
            need(self.root_leaf is not None, "the root of the tenant's tree is missing")
            have = (self.tree.size, self.tree.root().hex())
            need(have == (self.root_leaf["tenant_size"], self.root_leaf["tenant_root"]),
                 "the tenant's leaves are not those under its root")


# -------------------------------------------------------------------------------------------------------------- main

def verify(file, given, witnesses):
    lines = Lines(file)
    text = lines.next()
    if text is None:
        raise Refused("cut", "it is empty", line=0)
    try:
        head = Head(text, given)
    except Wrong as e:
        raise lines.wrong(str(e)) from None
    cosigned = Cosigned(witnesses)
    result = (Full if head.scope == "full" else Proven)(head, lines, cosigned).verify()
    if cosigned.missing():
        raise Refused("witness", "it is internally consistent, and witnesses asked for have not cosigned it",
                      missing=cosigned.missing())
    times = result.pop("times")
    others = cosigned.unchecked(result.pop("others"))
    return {"verdict": "verified", "origin": head.origin, "size": head.size, **result, "keys": [k.text for k in head.keys],
            "first_time": times.first, "last_time": times.last, "anchoring": cosigned.anchoring(),
            "unchecked_cosignatures": others}


def given_keys(arguments, kind):
    keys = []
    for argument in arguments:
        if os.path.exists(argument):
            with open(argument, encoding="utf-8") as file:
                keys += [kind(line) for line in file if line.strip()]
        else:
            keys.append(kind(argument))
    return keys


def main():
    parser = argparse.ArgumentParser(description="Verifies exports of Sealtape's custody log.")
    parser.add_argument("--key", action="append", required=True, help="verifier key, or a file with some")
    parser.add_argument("--witness", action="append", default=[], metavar="VKEY",
                        help="key of a witness that has to have cosigned, or a file with some")
    parser.add_argument("files", nargs="+", metavar="FILE")
    arguments = parser.parse_args()
    try:
        keys = given_keys(arguments.key, VerifierKey)
    except (Wrong, OSError) as e:
        sys.exit(f"verify.py: the key: {e}")
    try:
        witnesses = given_keys(arguments.witness, WitnessKey)
    except (Wrong, OSError) as e:
        sys.exit(f"verify.py: the witness: {e}")
    refused = False
    for name in arguments.files:
        try:
            with open(name, "rb") as file:
                result = verify(file, keys, witnesses)
        except OSError as e:
            sys.exit(f"verify.py: {name}: {e}")
        except Refused as e:
            refused = True
            result = {"verdict": "refused", "kind": e.kind, "what": e.what, **e.place}
        print(json.dumps({"file": name, **result}), flush=True)
    sys.exit(2 if refused else 0)


if __name__ == "__main__":
    main()
