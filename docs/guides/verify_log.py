#!/usr/bin/env python3
"""Verifies a log folder of Countersign without Countersign.

    verify_log.py LOG_FOLDER LOG_PUB [CHECKPOINT]

LOG_FOLDER is the folder `log` of a data folder (or a copy of it), LOG_PUB the public key that `init` printed (a file
`log.pub`), CHECKPOINT a checkpoint that was kept elsewhere. Prints what was found and exits with 0, or names the first
thing that is wrong and exits with 1. Needs Python 3.9 or newer and the package `cryptography`.

The form of the files, in the order in which it is checked below:

* log.pub: `NAME+ID+KEY` (C2SP signed-note). KEY is base64 of 0x01 and 32 bytes of Ed25519; ID is the first 4 bytes of
  SHA-256(NAME, "\n", 0x01, key) in hexadecimal.
* A checkpoint is a signed note (C2SP tlog-checkpoint): the lines `NAME/EPOCH`, number of records, base64 of the root; an
  empty line; a line `— NAME SIGNATURE`, where SIGNATURE is base64 of ID and the 64 bytes of Ed25519 over the lines before
  the empty one. The file `checkpoints` has all of them, each followed by an empty line; `checkpoint` has the newest.
* NNNNNNNNNN.log: a header of 4096 bytes, then frames, then zeros. All integers are little-endian.
  Header: magic (16), format 1 (4), epoch (8), index (8), time in microseconds (8), SHA-256 of NAME (32), position of the
  first record (8), the tree's edge there (32 for each bit set in that position, largest subtree first), zeros, CRC-32 of
  everything before it (4).
  Frame: magic (4), length of the record (4), batch (4; the highest bit marks the last frame of a batch, the next one a frame
  that holds no record but the batch's tag), CRC-32 of length, batch and record (4), the record. A record is JSON and begins
  `{"v":1,"seq":POSITION,`. A tag is a code under a key that only the gateway has; it says who wrote the batch until a
  checkpoint does, and nothing that can be checked here.
* NNNNNNNNNN.log.zst: such a file, compressed (Zstandard; needs the program `zstd`). It may be a link to where it was moved.
  While both forms are there, the plain one counts.
* The tree is that of RFC 6962 (SHA-256): leaf = H(0x00, record), node = H(0x01, left, right).
* What an older file holds beyond the position at which the next one begins was never acknowledged and does not count.
  After the last whole batch of the last file there may be the rest of one write that broke off, of the batch that comes next.
* epoch-NNNNNN/ has the files of epoch NNNNNN, which ended because something acknowledged was missing, or because the log was
  restored or its key changed. The first batch of the next epoch has records `epoch`, which list the files of all ended epochs
  (name, bytes, SHA-256); `total` is how many there are. `signed` and `root` are the newest head that was known of the epoch
  before: it must have it, or a record `recovery` of that batch says the damage.
* key_changed: a record in the first batch of an epoch that has another key than the ones before. `old` and `new` are public keys in
  the form of log.pub; `old_signature` and `new_signature` are base64 of Ed25519 by each over the lines `countersign log key change`,
  NAME, the epoch, old, new (each ended by "\n"). An epoch has one key; either key leads to the other. The epoch that is not in a
  folder `epoch-NNNNNN` has the newest one, and a higher number than all that are: the keys before sign nothing more.
* dropped: JSON, where old files were dropped (`[audit] keep`): files before `segments` and whole epochs up to `epochs` are
  gone, with the first `records` records; `peaks` is the tree's edge there, `root` its root. Nobody's word: record number `record`
  must be a `log_dropped` with the same epoch, segments, records, root and epochs, and a checkpoint must cover it.
"""

import base64
import hashlib
import json
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

HEADER = 4096
MAGIC = b"countersign log\0"
FRAME = b"\xc5fr1"
LONGEST = 65535
POSITION = re.compile(rb'\{"v":1,"seq":(0|[1-9][0-9]*),')


class Wrong(Exception):
    """The log is not what it should be."""


def sha256(*parts):
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def ended(folder):
    """The folders of the epochs that ended, in order."""
    found = [(int(old.name[6:]), old) for old in folder.glob("epoch-*") if old.name[6:].isdecimal()]
    return sorted(found)


def segments(folder):
    """The files of the records in order, one of each number."""
    files = {file.name[:10]: file for pattern in (".log.zst", ".log") for file in folder.glob("?" * 10 + pattern)}
    return [files[number] for number in sorted(files)]


def content(file):
    """The bytes of a file of records, whether it is compressed or not."""
    if file.suffix != ".zst":
        return file.read_bytes()
    try:
        with open(file, "rb") as packed:
            run = subprocess.run(["zstd", "-dcq"], stdin=packed, capture_output=True, check=True)
        return run.stdout
    except subprocess.CalledProcessError as error:
        raise Wrong(f"{file} cannot be decompressed: {error.stderr.decode(errors='replace').strip()}") from None


class Key:
    """The log's name and public key."""

    def __init__(self, text):
        self.text = text.strip()
        try:
            self.name, number, key = text.strip().split("+", 2)
            key = base64.b64decode(key, validate=True)
            self.id = sha256(self.name.encode(), b"\n", key)[:4]
            if key[0] != 1 or len(key) != 33 or self.id.hex() != number:
                raise ValueError
        except (ValueError, IndexError):
            raise Wrong("this is not a log's public key: NAME+ID+KEY") from None
        self.key = Ed25519PublicKey.from_public_bytes(key[1:])

    def signed(self, signature, text):
        try:
            self.key.verify(base64.b64decode(signature, validate=True), text)
            return True
        except (InvalidSignature, ValueError):
            return False

    def opened(self, note):
        """(epoch, records, root) of a checkpoint, once its signature was found right."""
        try:
            text, signatures = note.rsplit(b"\n\n", 1)
            text += b"\n"
            origin, records, root = text.decode().split("\n")[:3]
            name, epoch = origin.rsplit("/", 1)
            found = int(epoch), int(records), base64.b64decode(root, validate=True)
            lines = [line.split(" ") for line in signatures.decode().splitlines()]
            signed = [base64.b64decode(line[2]) for line in lines if line[:2] == ["—", self.name]]
        except (ValueError, IndexError):
            raise Wrong("this is not a checkpoint") from None
        if name != self.name:
            raise Wrong(f"the checkpoint is of `{name}`, not of `{self.name}`")
        for signature in signed:
            try:
                if signature[:4] == self.id:
                    self.key.verify(signature[4:], text)
                    return found
            except InvalidSignature:
                pass
        raise Wrong(f"the checkpoint over {records} records is not signed by the log's key")


class Tree:
    """The right edge of the Merkle tree: the roots of its complete subtrees, largest first."""

    def __init__(self):
        self.size, self.peaks = 0, []

    def push(self, record):
        node, rest = sha256(b"\0", record), self.size
        while rest & 1:
            node = sha256(b"\1", self.peaks.pop(), node)
            rest >>= 1
        self.peaks.append(node)
        self.size += 1

    def root(self):
        if not self.peaks:
            return sha256()
        node = self.peaks[-1]
        for left in reversed(self.peaks[:-1]):
            node = sha256(b"\1", left, node)
        return node


def header(data, index):
    """(epoch, index, SHA-256 of the name, position, edge) of a file."""
    block = data[:HEADER]
    if len(block) < HEADER or zlib.crc32(block[:-4]) != struct.unpack("<I", block[-4:])[0]:
        raise Wrong(f"the header of file {index} was changed")
    magic, form, epoch, own, _, name, position = struct.unpack_from("<16sIQQq32sQ", block)
    if magic != MAGIC or form != 1:
        raise Wrong(f"file {index} is of another form")
    at = struct.calcsize("<16sIQQq32sQ")
    edge = [block[at + 32 * n : at + 32 * n + 32] for n in range(bin(position).count("1"))]
    return epoch, own, name, position, edge


def frame(data, at):
    """(record or tag, batch, whether it is the batch's last, whether it is a tag) of the whole frame at an offset; None where
    there is none."""
    if data[at : at + 4] != FRAME or len(data) < at + 16:
        return None
    length, batch, checksum = struct.unpack_from("<III", data, at + 4)
    record = data[at + 16 : at + 16 + length]
    if not 1 <= length <= LONGEST or len(record) != length:
        return None
    if zlib.crc32(data[at + 4 : at + 12] + record) != checksum:
        return None
    return record, batch & 0x3FFFFFFF, bool(batch >> 31), bool(batch >> 30 & 1)


def highest_batch(data, at):
    """Of the whole frames anywhere from an offset on; 0 when there are none."""
    highest = 0
    while (at := data.find(FRAME, at)) >= 0:
        found = frame(data, at)
        highest = max(highest, found[1]) if found else highest
        at += 16 + len(found[0]) if found else 1
    return highest


def checkpoints(folder, key):
    """All signed heads of a folder as (epoch, records, root)."""
    notes = []
    if (folder / "checkpoints").exists():
        # Text and signature alternate; what follows the last empty line was not written whole.
        parts = (folder / "checkpoints").read_bytes().split(b"\n\n")[:-1]
        notes = [text + b"\n\n" + signature + b"\n" for text, signature in zip(parts[::2], parts[1::2])]
    if (folder / "checkpoint").exists():
        notes.append((folder / "checkpoint").read_bytes())
    return [key.opened(note) for note in notes if note]


def first_batch(files):
    """The events of the first batch of an epoch whose beginning is there."""
    data, at = content(files[0]) if files and int(files[0].name[:10]) == 0 else b"", HEADER
    while (found := frame(data, at)) and found[1] == 1:
        try:
            event = json.loads(found[0])["event"]
        except (ValueError, KeyError, TypeError):
            event = None
        if isinstance(event, dict):
            yield event
        at += 16 + len(found[0])


class Keys:
    """The keys of a log, by epoch, to which a given one leads."""

    def __init__(self, folder, given):
        self.keys = []
        for part in [*(old for _, old in ended(folder)), folder]:
            files = segments(part)
            for event in first_batch(files):
                if "key_changed" in event:
                    change = event["key_changed"]
                    if header(content(files[0]), 0)[0] != change["epoch"]:
                        raise Wrong(f"a change of the key at epoch {change['epoch']} stands in another epoch")
                    self.follow(change, given)
        texts = [key.text for _, key in self.keys]
        if given.text not in texts:
            self.keys = [(0, given)]

    def follow(self, change, given):
        wrong = Wrong(f"the change of the key at the beginning of epoch {change['epoch']} is not signed by both keys")
        old, new = Key(change["old"]), Key(change["new"])
        lines = ["countersign log key change", given.name, str(change["epoch"]), change["old"], change["new"]]
        text = "".join(line + "\n" for line in lines).encode()
        if not (old.signed(change["old_signature"], text) and new.signed(change["new_signature"], text)):
            raise wrong
        if {old.name, new.name} != {given.name}:
            raise wrong
        if self.keys and (self.keys[-1][1].text != old.text or self.keys[-1][0] >= change["epoch"]):
            raise wrong
        self.keys = (self.keys or [(0, old)]) + [(change["epoch"], new)]

    def of(self, epoch):
        return [key for first, key in self.keys if first <= epoch][-1]

    def newest(self):
        return self.keys[-1][1]

    def opened(self, note):
        """What a checkpoint says, once the key of its epoch was found to have signed it."""
        try:
            epoch = int(note.split(b"\n", 1)[0].rsplit(b"/", 1)[1])
        except (ValueError, IndexError):
            raise Wrong("this is not a checkpoint") from None
        return self.of(epoch).opened(note)


def put_aside(folder):
    """{name: (bytes, SHA-256)} of the files of all epochs that ended."""
    files = (file for old in folder.glob("epoch-*") for file in old.iterdir() if file.is_file())
    return {f"{file.parent.name}/{file.name}": (file.stat().st_size, sha256(file.read_bytes()).hex()) for file in files}


class Dropped:
    """What is gone of a folder, by its file `dropped`."""

    def __init__(self, folder):
        self.segments, self.epochs, self.record, self.said, self.tree = 0, 0, None, None, Tree()
        if not (folder / "dropped").exists():
            return
        try:
            found = json.loads((folder / "dropped").read_bytes())
            self.said = {name: found[name] for name in ("epoch", "segments", "records", "root", "epochs")}
            self.segments, self.epochs, self.record = found["segments"], found["epochs"], found["record"]
            self.tree.size, self.tree.peaks = found["records"], [bytes.fromhex(peak) for peak in found["peaks"]]
            fits = len(self.tree.peaks) == bin(self.tree.size).count("1") and self.tree.root().hex() == found["root"]
        except (ValueError, KeyError, TypeError):
            fits = False
        if not fits or self.epochs >= self.said["epoch"]:
            raise Wrong("the file `dropped` was changed")

    def is_said_by(self, record):
        try:
            said = json.loads(record)["event"]["log_dropped"]
            return all(said[name] == value for name, value in self.said.items())
        except (ValueError, KeyError, TypeError):
            return False


def is_gone(name, epochs):
    """Whether a file is one of the epochs up to a number."""
    found = re.match("epoch-([0-9]+)", name)
    return bool(found) and int(found[1]) <= epochs


def recorded(files):
    """What the first batch of an epoch says of the ones before: {name: (bytes, SHA-256)}, None when nothing; the head that was
    known of the one before, (records, root), or None; and whether it names damage."""
    listed, total, head, damaged = {}, None, None, False
    for event in first_batch(files):
        if "epoch" in event:
            begun = event["epoch"]
            total = begun["total"]
            head = (begun["signed"], begun["root"]) if begun.get("root") else None
            listed.update((file["name"], (file["bytes"], file["hash"])) for file in begun["files"])
        damaged |= bool(event.get("recovery", {}).get("damage"))
    if total not in (None, len(listed)):
        raise Wrong("the list of the files of earlier epochs is not whole")
    return None if total is None else listed, head, damaged


def same(listed, there, epochs):
    for name, was in listed.items():
        if there.get(name) != was and not is_gone(name, epochs):
            raise Wrong(f"{name}, of an epoch that ended, is missing or was changed since")


def verify_epoch(folder, key, kept, head=None):
    """Checks the files of one epoch against its key, its own checkpoints and one that was kept elsewhere. Says at the end whether
    it has the head that the next epoch names."""
    # Read before the records, so that a log that is being written is never shorter than its checkpoints.
    heads = checkpoints(folder, key)
    gone = Dropped(folder)
    first = gone.segments
    files = [file for file in segments(folder) if int(file.name[:10]) >= first]
    if not files:
        raise Wrong(f"there is no log in {folder}")
    if [file.name[:10] for file in files] != [f"{first + n:010}" for n in range(len(files))]:
        raise Wrong("a file is missing: " + ", ".join(file.name for file in files))
    epoch = header(content(files[0]), first)[0]
    if gone.said and gone.said["epoch"] != epoch:
        raise Wrong("the file `dropped` was changed")
    if any(signed[0] != epoch for signed in heads):
        raise Wrong("a checkpoint is of another epoch")
    own = bool(heads)
    if kept and kept[0] == epoch:
        if kept[1] < gone.tree.size:
            raise Wrong(f"records before {gone.tree.size} were dropped: take a newer checkpoint than one of {kept[1]} records")
        heads.append(kept)
    roots = {}
    for _, records, root in heads:
        if records >= gone.tree.size:
            roots.setdefault(records, set()).add(root)
    signed = max(roots, default=0)

    # The edge is believed no more than anything else: it has to give the root of every checkpoint that follows.
    tree, torn, told = gone.tree, 0, gone.said is None
    has_head = head is None or head == (tree.size, tree.root().hex())
    if roots.pop(tree.size, {tree.root()}) != {tree.root()}:
        raise Wrong(f"the first {tree.size} records are not those that were signed")
    for index, file in enumerate(files, first):
        data = content(file)
        if header(data, index) != (epoch, index, sha256(key.name.encode()), tree.size, tree.peaks):
            raise Wrong(f"file {index} does not continue the log at record {tree.size}")
        last = file == files[-1]
        end = None if last else header(content(files[index + 1 - first]), index + 1)[3]
        at, batch, within = HEADER, 1, False
        whole = at, tree.size, tree.peaks[:]
        while (within or tree.size != end) and (found := frame(data, at)):
            record, number, closes, is_tag = found
            at, batch, within = at + 16 + len(record), number + 1 if closes else number, not closes
            if is_tag:
                whole = (at, tree.size, tree.peaks[:]) if last else whole
                continue
            position = POSITION.match(record)
            if not position or int(position[1]) != tree.size:
                raise Wrong(f"record {tree.size} in file {index} is out of place")
            if tree.size == gone.record:
                told = gone.is_said_by(record) and signed > tree.size
            tree.push(record)
            if roots.get(tree.size, {tree.root()}) != {tree.root()}:
                raise Wrong(f"the first {tree.size} records are not those that were signed")
            roots.pop(tree.size, None)
            has_head = has_head or head == (tree.size, tree.root().hex())
            if closes and last:
                whole = at, tree.size, tree.peaks[:]
        if last:
            at, tree.size, tree.peaks = whole
        if (not last and tree.size != end) or (last and highest_batch(data, at) > batch):
            raise Wrong(f"record {tree.size} in file {index} is missing or was changed")
        torn += len(data[at:].rstrip(b"\0"))
    if not told:
        raise Wrong(f"records before {gone.said['records']} are gone, and no signed record says that they were dropped")
    if not own:
        raise Wrong(f"{tree.size} records are there, but no checkpoint: nothing is signed")
    if roots:
        raise Wrong(f"the log was cut: {max(roots)} records were signed, {tree.size} are there")
    return epoch, tree, len(files), len({records for _, records, _ in heads}), torn, has_head


def main(arguments):
    if len(arguments) not in (2, 3):
        print(__doc__, file=sys.stderr)
        return 2
    folder, key = Path(arguments[0]), Key(Path(arguments[1]).read_text())
    key = Keys(folder, key)
    kept = key.opened(Path(arguments[2]).read_bytes()) if len(arguments) == 3 else None
    epoch, tree, files, signed, torn, _ = verify_epoch(folder, key.newest(), kept)
    if any(number >= epoch for number, _ in ended(folder)):
        raise Wrong(f"epoch {epoch} goes on, but a later one ended")
    holds = kept is not None and kept[0] == epoch
    gone = Dropped(folder)
    there = {name: was for name, was in put_aside(folder).items() if not is_gone(name, gone.epochs)}
    listed, head, damaged = ({}, None, False) if gone.segments else recorded(segments(folder))
    if listed is None and epoch > 1:
        raise Wrong(f"epoch {epoch} does not say what the epochs before it left")
    same(listed or {}, there, gone.epochs)
    if there.keys() - (listed or {}).keys():
        raise Wrong(f"{sorted(there.keys() - (listed or {}).keys())[0]} was added since epoch {epoch} began")
    print(f"epoch {epoch}: {tree.size} records in {files} files, {signed} checkpoints, {torn} bytes broken off")
    print(f"root {tree.root().hex()}")
    if gone.said:
        epochs = f"the epochs up to {gone.epochs}, and " if gone.epochs else ""
        records = gone.said["records"]
        print(f"dropped: {epochs}the first {records} records, as record {gone.record} says; verified from {records} on")
    # The newest first, for each says what the one before it was.
    for number, old in reversed([(number, old) for number, old in ended(folder) if number > gone.epochs]):
        before = Dropped(old)
        named, told = head, damaged
        listed, head, damaged = ({}, None, False) if before.segments else recorded(segments(old))
        same(listed or {}, there, before.epochs)
        try:
            found, tree, *_, has_head = verify_epoch(old, key.of(number), kept, named)
            if found != number:
                raise Wrong(f"its files are of epoch {found}")
        except Wrong as wrong:
            if kept is not None and number == kept[0]:
                raise
            print(f"{old.name}: damaged ({wrong})")
            continue
        holds = holds or (kept is not None and kept[0] == number)
        if has_head:
            print(f"{old.name}: {tree.size} records")
        elif told:
            print(f"{old.name}: damaged (it has not the {named[0]} records that were signed)")
        else:
            raise Wrong(f"epoch {number} has not the {named[0]} records that were signed, by the first records of the next one")
    if kept is None:
        print("no checkpoint was given: whoever holds the folder could have put an older state back; with the log key, rebuilt it")
    elif holds:
        print(f"the checkpoint holds: the first {kept[1]} records of epoch {kept[0]} were not changed since")
    else:
        raise Wrong(f"the checkpoint is of epoch {kept[0]}, of which there are no files")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (Wrong, OSError) as error:
        print(f"NOT VERIFIED: {error}", file=sys.stderr)
        sys.exit(1)
