"""Containers of the corpus: the objects file, and the file-backed cartridge (docs/image-format.md)."""
import struct
import uuid

from writer import crc32c, named, with_crc

FILEMARK = None


def objects_file(partitions):
    """`partitions`: {number: [block or FILEMARK, ...]}. Format: README.md."""
    out = b"STOBJ001"
    for number, objects in partitions.items():
        out += struct.pack(">BIB", 3, 1, number)
        for body in objects:
            out += struct.pack(">BI", 2, 0) if body is FILEMARK else struct.pack(">BI", 1, len(body)) + body
        out += struct.pack(">BI", 4, 0)
    return out


DATA = 36864
CAPACITY = 1 << 15


def frame(partition, number, body, epoch, salt, payload_crc=None):
    kind, payload = (2, b"") if body is FILEMARK else (1, body)
    crc = payload_crc if payload_crc is not None else crc32c(payload) if payload else 0
    head = with_crc(b"STOB" + struct.pack(">BBHQQ8sIII", kind, partition, 0, number, epoch, salt, len(payload), crc, 0))
    return head + payload + bytes(-len(payload) % 8)


def superblock(sequence, partitions):
    body = b"STSUPER1" + struct.pack(">QIBBH8x", sequence, 160, 0, len(partitions), 0)
    for base, end, objects, filemarks, epoch, salt in partitions:
        body += struct.pack(">5Q8sQ8x", base, CAPACITY, end, objects, epoch, salt, filemarks)
    return with_crc(body.ljust(160, b"\0")).ljust(16384, b"\0")


def image_header(name):
    raw = uuid.UUID(bytes=named("image " + name, 16))
    text = ("SEALTAPE IMAGE 1\nA cartridge of the Sealtape test corpus.\nfields:\nuuid: %s\nserial: CORPUS01\nmedium: data\n"
            "capacity: %d\nearly-warning: 0\nsuperblocks: 4096 20480\nsuperblock-size: 16384\ndata: %d\n"
            % (raw, 2 * CAPACITY, DATA)).encode()
    text += b"crc32c: %08x\nend\n" % crc32c(text)
    return text.ljust(4095) + b"\n"


def image(name, partitions, unsynchronised=0, stale=(), unreadable=()):
    """A cartridge. The last `unsynchronised` objects of each partition stand behind the synchronised end; `stale` objects of an
    older epoch stand behind the end of data; `unreadable`: (partition, number) of blocks whose payload CRC is wrong."""
    out, tables = bytearray(), []
    for number, objects in partitions.items():
        base = DATA if number == 0 else -(-(DATA + CAPACITY) // 4096) * 4096
        epoch, salt = 2, named("salt %s %d" % (name, number), 8)
        frames = [frame(number, i, body, 1 if i == 0 else epoch, named("old salt", 8) if i == 0 else salt,
                        0xBAD if (number, i) in unreadable else None) for i, body in enumerate(objects)]
        covered = len(frames) - unsynchronised
        end = base + sum(map(len, frames[:covered]))
        marks = sum(1 for body in objects[:covered] if body is FILEMARK)
        frames += [frame(number, len(objects) + i, body, 1, named("old salt", 8)) for i, body in enumerate(stale)]
        tables.append((base, end, covered, marks, epoch, salt))
        out = bytearray(out.ljust(base - DATA, b"\0")) + b"".join(frames)
    return image_header(name) + superblock(6, tables) + superblock(5, [tables[0][:1] + (tables[0][0], 0, 0, 1, bytes(8))]
                                                                   ) + bytes(out)
