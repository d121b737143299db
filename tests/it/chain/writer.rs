//! Writes certificates and revocation lists byte by byte, right ones and wrong ones: what no tool would make.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};

pub const NOW: i64 = 1_800_000_000;
pub const DAY: i64 = 86_400;

/// Object identifiers (their DER value).
pub const CN: &[u8] = &[0x55, 4, 3];
pub const OU: &[u8] = &[0x55, 4, 11];
pub const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
pub const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 17];
pub const ISSUER_ALT_NAME: &[u8] = &[0x55, 0x1d, 18];
pub const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
pub const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 30];
pub const POLICIES: &[u8] = &[0x55, 0x1d, 32];
pub const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];
pub const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 20];
pub const PROXY_CERT_INFO: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 14];
pub const DRAFT: &[u8] = &[0x2b, 6, 1, 4, 1, 0x9b, 0x50, 1, 0x81, 0x5e];
pub const UNKNOWN: &[u8] = &[0x2b, 6, 1, 4, 1, 0x9b, 0x50, 99];
pub const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
pub const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
pub const ANY_USAGE: &[u8] = &[0x55, 0x1d, 37, 0];
pub const INHERIT_ALL: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 21, 1];
pub const INDEPENDENT: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 21, 2];
pub const ANY_LANGUAGE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 21, 0];
pub const LIMITED: &[u8] = &[0x2b, 6, 1, 4, 1, 0x9b, 0x50, 1, 1, 1, 9];

pub const ECDSA_SHA256: &[u8] = &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
pub const ECDSA_SHA384: &[u8] = &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
pub const ED25519: &[u8] = &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70];
pub const RSA_SHA256: &[u8] = &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 11, 5, 0];
pub const RSA_SHA1: &[u8] = &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 5, 5, 0];

pub fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut out = vec![tag];
    match body.len() {
        short @ 0..=127 => out.push(short as u8),
        long => {
            let bytes = (long as u32).to_be_bytes();
            let from = bytes.iter().position(|byte| *byte != 0).unwrap();
            out.push(0x80 | (4 - from) as u8);
            out.extend(&bytes[from..]);
        }
    }
    out.extend(body);
    out
}

pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, parts)
}

pub fn oid(value: &[u8]) -> Vec<u8> {
    tlv(6, &[value])
}

pub fn bits(unused: u8, bytes: &[u8]) -> Vec<u8> {
    tlv(3, &[&[unused], bytes])
}

/// An RDN with one attribute.
pub fn rdn(kind: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
    tlv(0x31, &[&attribute(kind, tag, value)])
}

pub fn attribute(kind: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
    sequence(&[&oid(kind), &tlv(tag, &[value])])
}

/// A name (DER) plus RDNs.
pub fn below(name: &[u8], rdns: &[Vec<u8>]) -> Vec<u8> {
    let header = if name[1] < 128 {
        2
    } else {
        2 + usize::from(name[1] & 0x7f)
    };
    sequence(&[&name[header..], &rdns.concat()])
}

/// A name of CNs (UTF8String).
pub fn name(cns: &[&str]) -> Vec<u8> {
    let rdns: Vec<Vec<u8>> = cns.iter().map(|cn| rdn(CN, 12, cn.as_bytes())).collect();
    sequence(&[&rdns.concat()])
}

pub fn extension(id: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let flag: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    sequence(&[&oid(id), flag, &tlv(4, &[value])])
}

/// proxyCertInfo with what stands before and behind the language.
pub fn info(before: &[u8], language: &[u8], behind: &[u8]) -> Vec<u8> {
    sequence(&[before, &sequence(&[&oid(language), behind])])
}

fn time(at: i64) -> Vec<u8> {
    let at = countersign::clock::Timestamp::from_secs(at).to_offset();
    let (year, month) = (at.year(), u8::from(at.month()));
    let rest = format!(
        "{month:02}{:02}{:02}{:02}{:02}Z",
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    );
    match year {
        ..2050 => tlv(23, &[format!("{:02}{rest}", year % 100).as_bytes()]),
        _ => tlv(24, &[format!("{year}{rest}").as_bytes()]),
    }
}

/// The keys of all vectors, made once.
pub struct Keys(BTreeMap<&'static str, KeyPair>);

pub const KEY_NAMES: [&str; 16] = [
    "ca", "middle", "person", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9", "p10", "p11", "p12",
    "other",
];

impl Keys {
    pub fn make() -> Self {
        let mut keys: BTreeMap<_, _> = KEY_NAMES
            .iter()
            .map(|name| (*name, KeyPair::generate().unwrap()))
            .collect();
        let read = |text: &str| KeyPair::from_pem(text).unwrap();
        keys.insert("rsa", read(include_str!("../../../certs/vo-rsa.key")));
        keys.insert(
            "p384",
            KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap(),
        );
        keys.insert("ed25519", KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap());
        Self(keys)
    }

    fn spki(&self, key: &str) -> Vec<u8> {
        match key {
            "rsa1024" => openssl(
                &["pkey", "-pubout", "-outform", "DER", "-in", "certs/rsa1024.key"],
                &[],
            ),
            key => self.0[key].subject_public_key_info(),
        }
    }

    fn algorithm(key: &str) -> &'static [u8] {
        match key {
            "rsa" | "rsa1024" => RSA_SHA256,
            "p384" => ECDSA_SHA384,
            "ed25519" => ED25519,
            _ => ECDSA_SHA256,
        }
    }

    fn sign(&self, key: &str, algorithm: &[u8], message: &[u8]) -> Vec<u8> {
        match (key, algorithm) {
            // What the library does not do any more, openssl does.
            ("rsa", RSA_SHA1) => openssl(&["dgst", "-sha1", "-sign", "certs/vo-rsa.key"], message),
            ("rsa1024", _) => openssl(&["dgst", "-sha256", "-sign", "certs/rsa1024.key"], message),
            _ => self.0[key].sign(message).unwrap(),
        }
    }
}

fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl is missing: apt-get install openssl");
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}");
    output.stdout
}

/// What a certificate is to be.
#[derive(Clone)]
pub struct Spec {
    pub version: Vec<u8>,
    pub serial: Vec<u8>,
    pub issuer: Vec<u8>,
    pub subject: Vec<u8>,
    pub from: i64,
    pub to: i64,
    pub key: &'static str,
    pub signer: &'static str,
    pub extensions: Vec<Vec<u8>>,
    /// Algorithms in the signed part and outside of it, where they are not those of the signer's key.
    pub inner: Option<&'static [u8]>,
    pub outer: Option<&'static [u8]>,
    /// Done to the finished bytes.
    pub damage: Option<fn(&mut Vec<u8>)>,
}

impl Spec {
    pub fn write(&self, keys: &Keys) -> Vec<u8> {
        let own = Keys::algorithm(self.signer);
        let (inner, outer) = (self.inner.unwrap_or(own), self.outer.unwrap_or(own));
        let extensions = match self.extensions.is_empty() {
            true => Vec::new(),
            false => tlv(0xa3, &[&sequence(&[&self.extensions.concat()])]),
        };
        let body = sequence(&[
            &self.version,
            &tlv(2, &[&self.serial]),
            inner,
            &self.issuer,
            &sequence(&[&time(self.from), &time(self.to)]),
            &self.subject,
            &keys.spki(self.key),
            &extensions,
        ]);
        let signature = keys.sign(self.signer, outer, &body);
        let mut der = sequence(&[&body, outer, &bits(0, &signature)]);
        if let Some(damage) = self.damage {
            damage(&mut der);
        }
        der
    }

    /// Replaces the extension of this kind, or adds it.
    pub fn set(&mut self, id: &[u8], critical: bool, value: &[u8]) {
        self.unset(id);
        self.extensions.push(extension(id, critical, value));
    }

    pub fn unset(&mut self, id: &[u8]) {
        let id = oid(id);
        self.extensions
            .retain(|extension| !extension[2..].starts_with(&id));
    }
}

pub fn ca(subject: &str, issuer: &str, key: &'static str, signer: &'static str) -> Spec {
    Spec {
        version: vec![0xa0, 3, 2, 1, 2],
        serial: vec![1],
        issuer: name(&[issuer]),
        subject: name(&[subject]),
        from: NOW - 1_000 * DAY,
        to: NOW + 1_000 * DAY,
        key,
        signer,
        extensions: vec![
            extension(BASIC_CONSTRAINTS, true, &sequence(&[&[1, 1, 0xff]])),
            extension(KEY_USAGE, true, &bits(1, &[0x06])),
        ],
        inner: None,
        outer: None,
        damage: None,
    }
}

pub fn person() -> Spec {
    Spec {
        serial: vec![2],
        subject: name(&["Grid", "John Smith"]),
        from: NOW - 100 * DAY,
        to: NOW + 100 * DAY,
        extensions: vec![
            extension(BASIC_CONSTRAINTS, true, &sequence(&[])),
            extension(KEY_USAGE, true, &bits(5, &[0xa0])),
        ],
        ..ca("", "CA", "person", "ca")
    }
}

/// The proxy of number `serial` below `above`.
pub fn proxy(above: &Spec, key: &'static str, serial: u8) -> Spec {
    Spec {
        serial: vec![serial],
        issuer: above.subject.clone(),
        subject: below(&above.subject, &[rdn(CN, 12, serial.to_string().as_bytes())]),
        from: NOW - 300,
        to: NOW + 43_200,
        key,
        signer: above.key,
        extensions: vec![
            extension(PROXY_CERT_INFO, true, &info(&[], INHERIT_ALL, &[])),
            extension(KEY_USAGE, true, &bits(7, &[0x80])),
        ],
        ..person()
    }
}

/// What a revocation list is to be.
#[derive(Clone)]
pub struct List {
    pub issuer: Vec<u8>,
    pub signer: &'static str,
    pub made: i64,
    pub due: i64,
    pub revoked: Vec<u8>,
}

impl List {
    pub fn of(issuer: &Spec, revoked: &[u8]) -> Self {
        Self {
            issuer: issuer.subject.clone(),
            signer: issuer.key,
            made: NOW - DAY,
            due: NOW + DAY,
            revoked: revoked.to_vec(),
        }
    }

    pub fn write(&self, keys: &Keys) -> Vec<u8> {
        let entries: Vec<Vec<u8>> = self
            .revoked
            .iter()
            .map(|serial| sequence(&[&tlv(2, &[&[*serial]]), &time(self.made)]))
            .collect();
        let revoked = match entries.is_empty() {
            true => Vec::new(),
            false => sequence(&[&entries.concat()]),
        };
        let number = tlv(0xa0, &[&sequence(&[&extension(CRL_NUMBER, false, &[2, 1, 7])])]);
        let algorithm = Keys::algorithm(self.signer);
        let body = sequence(&[
            &[2, 1, 1],
            algorithm,
            &self.issuer,
            &time(self.made),
            &time(self.due),
            &revoked,
            &number,
        ]);
        let signature = keys.sign(self.signer, algorithm, &body);
        sequence(&[&body, algorithm, &bits(0, &signature)])
    }
}
