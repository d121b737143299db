#!/usr/bin/env python3
"""Checks a proof of `countersign audit prove` without Countersign.

    check_proof.py PROOF LOG_PUB [WITNESS_PUB ...]

PROOF is the file, LOG_PUB the log's public key as it was noted (a file `log.pub`), WITNESS_PUB the key of a witness that
must have cosigned. Prints the record and what the proof shows and exits with 0, or says what is wrong and exits with 1.
Needs Python 3.9 or newer and the package `cryptography`.

The form of the file (C2SP tlog-proof), in the order in which it is checked below:

* `c2sp.org/tlog-proof@v1`; `extra` and the record in base64; `index` and its position; the hashes of the proof in base64,
  one a line, from the leaf up; an empty line; the checkpoint. Every line ends with a newline; every number and every base64
  has one spelling.
* A checkpoint is a signed note (C2SP tlog-checkpoint): the lines `NAME/EPOCH`, number of records, base64 of the root; an
  empty line; lines `— NAME SIGNATURE`. SIGNATURE is base64 of the key's ID and a signature of the lines before the empty one.
  The first line of a name and ID counts; those of unknown keys are passed over.
* A public key is `NAME+ID+KEY`. KEY is base64 of a type and 32 bytes of Ed25519; ID is the first 4 bytes of
  SHA-256(NAME, "\n", type, key) in hexadecimal. Type 1 (a log) signs the text. Type 4 (a witness, C2SP tlog-cosignature)
  has 8 bytes of time (seconds, big-endian) before the 64 of the signature, and signs `cosignature/v1`, `time SECONDS` and
  the text.
* The tree is that of RFC 6962 (SHA-256): leaf = H(0x00, record), node = H(0x01, left, right). The hashes lead from the leaf to
  the root (RFC 9162 section 2.1.3.2).
* A record is JSON and begins `{"v":1,"seq":POSITION,`.
"""

import base64
import datetime
import hashlib
import re
import sys
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

NUMBER = re.compile(r"0|[1-9][0-9]*")
END_OF_TIME = 253402300799


class Wrong(Exception):
    """The proof does not hold."""


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def number(text):
    if not NUMBER.fullmatch(text) or int(text) >= 1 << 64:
        raise Wrong(f"`{text}` is not a number")
    return int(text)


def decoded(text, length=None):
    try:
        found = base64.b64decode(text, validate=True)
    except ValueError:
        raise Wrong(f"`{text}` is not base64") from None
    if base64.b64encode(found).decode() != text or length not in (None, len(found)):
        raise Wrong(f"`{text}` is not the base64 that belongs there")
    return found


class Key:
    """A name with a public key: type 1 of a log, type 4 of a witness."""

    def __init__(self, text, kind):
        try:
            self.name, identity, key = text.strip().split("+", 2)
        except ValueError:
            raise Wrong("this is not a public key: NAME+ID+KEY") from None
        key = decoded(key, 33)
        self.id = sha256(self.name.encode(), b"\n", key)[:4]
        if key[0] != kind or self.id.hex() != identity:
            raise Wrong(f"this is not a public key of type {kind}")
        self.key = Ed25519PublicKey.from_public_bytes(key[1:])

    def signature(self, lines):
        for name, signature in lines:
            if name == self.name and signature[:4] == self.id:
                return signature[4:]
        raise Wrong(f"no signature of `{self.name}` with this key is there")

    def verify(self, signature, message):
        try:
            self.key.verify(signature, message)
        except InvalidSignature:
            raise Wrong(f"the signature of `{self.name}` is wrong") from None


def signatures(text):
    """[(name, bytes)] of the lines behind a checkpoint."""
    if not text.endswith("\n"):
        raise Wrong("the checkpoint ends too early")
    found = []
    for line in text[:-1].split("\n"):
        match = re.fullmatch(r"— ([^\s+]+) ([^ ]+)", line)
        if not match or len(decoded(match[2])) < 5:
            raise Wrong(f"`{line}` is not a signature")
        found.append((match[1], decoded(match[2])))
    return found


def cosigned(witness, lines, text):
    """When a witness saw the checkpoint."""
    signature = witness.signature(lines)
    seconds = int.from_bytes(signature[:8], "big")
    if len(signature) != 72 or seconds > END_OF_TIME:
        raise Wrong(f"the cosignature of `{witness.name}` is of another form")
    witness.verify(signature[8:], f"cosignature/v1\ntime {seconds}\n{text}".encode())
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat()


def root_by(node, index, size, hashes):
    """The root of a tree of that size that has the leaf there."""
    if index >= size:
        raise Wrong(f"record {index} is not one of {size}")
    at, last = index, size - 1
    for other in hashes:
        if last == 0:
            raise Wrong("the proof has too many hashes")
        if at & 1 or at == last:
            node = sha256(b"\1", other, node)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            node = sha256(b"\1", node, other)
        at, last = at >> 1, last >> 1
    if last:
        raise Wrong("the proof has too few hashes")
    return node


def check(data, key, witnesses):
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise Wrong("this is not text") from None
    head, _, note = text.partition("\n\n")
    lines = head.split("\n")
    if len(lines) < 3 or lines[0] != "c2sp.org/tlog-proof@v1" or lines[1][:6] != "extra " or lines[2][:6] != "index ":
        raise Wrong("this is not a proof with a record in it")
    record, index = decoded(lines[1][6:]), number(lines[2][6:])
    hashes = [decoded(line, 32) for line in lines[3:]]

    signed, empty, below = note.rpartition("\n\n")
    body = (signed + "\n").split("\n")
    if not empty or len(body) < 4 or any(ord(character) < 32 and character != "\n" for character in note):
        raise Wrong("there is no checkpoint")
    name, slash, epoch = body[0].rpartition("/")
    size, root = number(body[1]), decoded(body[2], 32)
    below = signatures(below)
    if not slash or name != key.name:
        raise Wrong(f"the checkpoint is of `{name}`, not of `{key.name}`")
    key.verify(key.signature(below), (signed + "\n").encode())
    if root_by(sha256(b"\0", record), index, size, hashes) != root:
        raise Wrong(f"the record is not number {index} of the {size} that were signed")
    if not record.startswith(b'{"v":1,"seq":%d,' % index):
        raise Wrong(f"this is not record {index} of a log")
    times = [(witness.name, cosigned(witness, below, signed + "\n")) for witness in witnesses]
    return name, number(epoch), index, size, times, record.decode()


def main(arguments):
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    key = Key(Path(arguments[1]).read_text(), 1)
    witnesses = [Key(Path(path).read_text(), 4) for path in arguments[2:]]
    name, epoch, index, size, times, record = check(Path(arguments[0]).read_bytes(), key, witnesses)
    print(f"record {index} of the first {size} of {name}, epoch {epoch}")
    for witness, time in times:
        print(f"{witness} saw this checkpoint on {time}")
    print(record)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (Wrong, OSError) as error:
        print(f"NOT PROVED: {error}", file=sys.stderr)
        sys.exit(1)
