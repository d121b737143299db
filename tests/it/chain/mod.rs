//! Chains of proxies: each vector, judged by the gateway's verifier and by `openssl verify`, and the table in
//! `docs/reference/proxy-chains.md` of where the two differ.

mod vectors;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use countersign::clock::Timestamp;
use countersign::trust::chain::{Anchors, Limits, verify};

use vectors::{Vector, all};
use writer::{Keys, NOW};

const TABLE: &str = "docs/reference/proxy-chains.md";

/// A vector as bytes.
struct Written {
    /// From the bottom up.
    presented: Vec<Vec<u8>>,
    trusted: Vec<u8>,
    lists: Vec<Vec<u8>>,
}

fn write(vector: &Vector, keys: &Keys) -> Written {
    let chain = &vector.chain;
    let written: Vec<Vec<u8>> = chain.specs.iter().map(|spec| spec.write(keys)).collect();
    let mut presented: Vec<Vec<u8>> = written[chain.trusted..].iter().rev().cloned().collect();
    if let Some(arrange) = chain.arrange {
        arrange(&mut presented);
    }
    Written {
        presented,
        trusted: written[0].clone(),
        lists: chain.lists.iter().map(|list| list.write(keys)).collect(),
    }
}

/// What the gateway says: the policy that is left, or the rule.
fn ours(written: &Written) -> String {
    let anchors = Anchors::new("vector", [&written.trusted], &written.lists).unwrap();
    match verify(
        &written.presented,
        &anchors,
        &Limits::default(),
        Timestamp::from_secs(NOW),
    ) {
        Ok(verified) => verified.policy.as_str().to_owned(),
        Err(refused) => refused.rule.name().to_owned(),
    }
}

fn pem(label: &str, ders: &[Vec<u8>]) -> String {
    let block = |der: &Vec<u8>| {
        let text = data_encoding::BASE64.encode(der);
        let lines: Vec<&str> = text
            .as_bytes()
            .chunks(64)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect();
        format!(
            "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
            lines.join("\n")
        )
    };
    ders.iter().map(block).collect()
}

/// Whether OpenSSL takes it.
fn openssl(written: &Written, folder: &Path) -> bool {
    let file = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let ca = file(
        "ca.pem",
        pem("CERTIFICATE", std::slice::from_ref(&written.trusted)),
    );
    let leaf = file("leaf.pem", pem("CERTIFICATE", &written.presented[..1]));
    let above = file("above.pem", pem("CERTIFICATE", &written.presented[1..]));
    let lists = file("lists.pem", pem("X509 CRL", &written.lists));
    let mut command = Command::new("openssl");
    command.args([
        "verify",
        "-allow_proxy_certs",
        "-purpose",
        "sslclient",
        "-attime",
        &NOW.to_string(),
    ]);
    command.arg("-CAfile").arg(ca);
    if written.presented.len() > 1 {
        command.arg("-untrusted").arg(above);
    }
    if !written.lists.is_empty() {
        command.arg("-crl_check_all").arg("-CRLfile").arg(lists);
    }
    let output = command
        .arg(leaf)
        .output()
        .expect("openssl is missing: apt-get install openssl");
    output.status.success()
}

/// The rows of the table: vector, verdict here, verdict of OpenSSL, and why.
fn table() -> BTreeMap<String, (String, String)> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(TABLE)).unwrap();
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, here, there, why] = cells[..] else {
            panic!("`{line}` has not four cells");
        };
        assert!(why.len() > 20, "{name} is not explained");
        let verdict = |cell: &str| cell.trim_matches('`').to_owned();
        rows.insert(verdict(name), (verdict(here), verdict(there)));
    }
    rows
}

#[test]
fn a14_every_vector_has_its_verdict_and_every_difference_from_openssl_is_explained() {
    let keys = Keys::make();
    let vectors = all();
    assert!(vectors.len() >= 100, "{} vectors", vectors.len());
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    let mut differences = BTreeMap::new();
    for vector in &vectors {
        let written = write(vector, &keys);
        let said = ours(&written);
        if said != vector.expected {
            wrong.push(format!("{}: {said}, not {}", vector.name, vector.expected));
        }
        // An independent proxy holds, and acts for nobody: that it signs nobody in is said elsewhere.
        let accepted = ["inheritAll", "limited", "independent"].contains(&said.as_str());
        let theirs = openssl(&written, folder.path());
        if accepted != theirs {
            let there = if theirs { "accepted" } else { "refused" };
            let here = if accepted { "accepted" } else { &said };
            differences.insert(vector.name.clone(), (here.to_owned(), there.to_owned()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(
        table(),
        differences,
        "the table of differences in {TABLE} is not what was seen"
    );
}

#[test]
fn a_refusal_names_the_certificate_and_the_rule() {
    let keys = Keys::make();
    let vectors = all();
    let vector = vectors
        .iter()
        .find(|vector| vector.name == "upper-ca-true")
        .unwrap();
    let written = write(vector, &keys);
    let anchors = Anchors::new("vector", [&written.trusted], &written.lists).unwrap();
    let refused = verify(
        &written.presented,
        &anchors,
        &Limits::default(),
        Timestamp::from_secs(NOW),
    )
    .unwrap_err();
    assert_eq!(refused.position, 2);
    let said = refused.to_string();
    assert!(
        said.contains("CN=John Smith, CN=11") && said.contains("CA:TRUE"),
        "{said}"
    );
}
