//! The vectors: chains of proxies, good and bad, each with what the verifier is to say.

use super::writer::*;

/// A chain before it is written: from the CA down to the lowest proxy.
#[derive(Clone)]
pub struct Chain {
    pub specs: Vec<Spec>,
    /// How many of `specs`, from the top, are trusted and not presented.
    pub trusted: usize,
    pub lists: Vec<List>,
    /// Done to what is presented (from the lowest up).
    pub arrange: Option<fn(&mut Vec<Vec<u8>>)>,
}

impl Chain {
    /// CA, person, and so many proxies.
    fn of(proxies: usize) -> Self {
        let mut this = Self {
            specs: vec![ca("CA", "CA", "ca", "ca"), person()],
            trusted: 1,
            lists: Vec::new(),
            arrange: None,
        };
        for _ in 0..proxies {
            this.extend();
        }
        this
    }

    /// One proxy more.
    fn extend(&mut self) -> &mut Spec {
        let number = self.specs.len() - 1;
        let proxy = proxy(
            self.specs.last().unwrap(),
            KEY_NAMES[number + 2],
            10 + number as u8,
        );
        self.specs.push(proxy);
        self.specs.last_mut().unwrap()
    }

    fn last(&mut self) -> &mut Spec {
        self.specs.last_mut().unwrap()
    }

    fn person(&mut self) -> &mut Spec {
        &mut self.specs[1]
    }

    /// Names and signers again, after something above was changed.
    fn again(&mut self) {
        for index in 2..self.specs.len() {
            let (above, own) = self.specs.split_at_mut(index);
            let (above, own) = (&above[index - 1], &mut own[0]);
            own.issuer = above.subject.clone();
            own.subject = below(
                &above.subject,
                &[rdn(CN, 12, own.serial[0].to_string().as_bytes())],
            );
            own.signer = above.key;
        }
    }
}

pub struct Vector {
    pub name: String,
    pub chain: Chain,
    /// The policy that is left, or the rule that is broken.
    pub expected: &'static str,
}

fn vector(
    all: &mut Vec<Vector>,
    name: &str,
    proxies: usize,
    expected: &'static str,
    change: impl FnOnce(&mut Chain),
) {
    let mut chain = Chain::of(proxies);
    change(&mut chain);
    assert!(
        all.iter().all(|other| other.name != name),
        "{name} is there twice"
    );
    all.push(Vector {
        name: name.to_owned(),
        chain,
        expected,
    });
}

pub fn all() -> Vec<Vector> {
    let mut all = Vec::new();
    depths(&mut all);
    policies(&mut all);
    path_lengths(&mut all);
    keys(&mut all);
    names(&mut all);
    signatures(&mut all);
    times(&mut all);
    extensions(&mut all);
    infos(&mut all);
    shapes(&mut all);
    end_entities(&mut all);
    lists(&mut all);
    all
}

fn depths(all: &mut Vec<Vector>) {
    for depth in 0..=11 {
        let expected = if depth > 10 { "too-deep" } else { "inheritAll" };
        vector(all, &format!("depth-{depth}"), depth, expected, |_| ());
    }
    vector(all, "below-an-intermediate", 2, "inheritAll", |chain| {
        chain.specs.insert(1, ca("Middle", "CA", "middle", "ca"));
        (chain.specs[2].issuer, chain.specs[2].signer) = (name(&["Middle"]), "middle");
    });
    vector(all, "root-presented", 1, "inheritAll", |chain| chain.trusted = 0);
}

fn policies(all: &mut Vec<Vector>) {
    let policies = [
        ("inheritAll", INHERIT_ALL),
        ("limited", LIMITED),
        ("independent", INDEPENDENT),
    ];
    for (upper, (upper_name, upper_oid)) in policies.into_iter().enumerate() {
        for (lower, (lower_name, lower_oid)) in policies.into_iter().enumerate() {
            let expected = policies[upper.max(lower)].0;
            let name = format!("policy-{upper_name}-above-{lower_name}");
            vector(all, &name, 2, expected, |chain| {
                chain.specs[2].set(PROXY_CERT_INFO, true, &info(&[], upper_oid, &[]));
                chain.specs[3].set(PROXY_CERT_INFO, true, &info(&[], lower_oid, &[]));
            });
        }
    }
    vector(all, "policy-limited-is-sticky", 3, "limited", |chain| {
        chain.specs[2].set(PROXY_CERT_INFO, true, &info(&[], LIMITED, &[]));
    });
}

fn path_lengths(all: &mut Vec<Vector>) {
    for allowed in 0..4_u8 {
        for beneath in 0..4_usize {
            let expected = if beneath > usize::from(allowed) {
                "path-length"
            } else {
                "inheritAll"
            };
            let name = format!("path-length-{allowed}-with-{beneath}-below");
            vector(all, &name, beneath + 1, expected, |chain| {
                chain.specs[2].set(PROXY_CERT_INFO, true, &info(&[2, 1, allowed], INHERIT_ALL, &[]));
            });
        }
    }
    vector(all, "path-length-of-the-second", 4, "path-length", |chain| {
        chain.specs[3].set(PROXY_CERT_INFO, true, &info(&[2, 1, 1], INHERIT_ALL, &[]));
    });
    vector(
        all,
        "path-length-not-raised-from-below",
        3,
        "path-length",
        |chain| {
            chain.specs[2].set(PROXY_CERT_INFO, true, &info(&[2, 1, 1], INHERIT_ALL, &[]));
            chain.specs[3].set(PROXY_CERT_INFO, true, &info(&[2, 1, 9], INHERIT_ALL, &[]));
        },
    );
    vector(all, "path-length-of-six-bytes", 2, "inheritAll", |chain| {
        chain.specs[2].set(
            PROXY_CERT_INFO,
            true,
            &info(&[2, 6, 1, 0, 0, 0, 0, 0], INHERIT_ALL, &[]),
        );
    });
}

fn keys(all: &mut Vec<Vector>) {
    for key in ["rsa", "p384", "ed25519"] {
        vector(all, &format!("person-{key}"), 2, "inheritAll", |chain| {
            chain.person().key = key;
            chain.again();
        });
        vector(all, &format!("proxy-{key}"), 2, "inheritAll", |chain| {
            chain.specs[2].key = key;
            chain.again();
        });
    }
    vector(all, "proxy-rsa1024-signs", 2, "signature", |chain| {
        chain.specs[2].key = "rsa1024";
        chain.again();
    });
    vector(all, "person-rsa1024-signs", 1, "signature", |chain| {
        chain.person().key = "rsa1024";
        chain.again();
    });
}

fn names(all: &mut Vec<Vector>) {
    vector(all, "cn-printable", 1, "inheritAll", |chain| {
        let issuer = chain.person().subject.clone();
        chain.last().subject = below(&issuer, &[rdn(CN, 19, b"11")]);
    });
    let mut subject = |name: &str, expected, rdns: fn() -> Vec<Vec<u8>>| {
        vector(all, name, 1, expected, |chain| {
            let issuer = chain.person().subject.clone();
            chain.last().subject = below(&issuer, &rdns());
        });
    };
    subject("cn-words", "inheritAll", || vec![rdn(CN, 12, b"limited proxy")]);
    subject("cn-none", "subject", Vec::new);
    subject("cn-two", "subject", || vec![rdn(CN, 12, b"1"), rdn(CN, 12, b"2")]);
    subject("cn-empty", "subject", || vec![rdn(CN, 12, b"")]);
    subject("cn-bmp", "subject", || vec![rdn(CN, 30, &[0, b'1'])]);
    subject("cn-not-utf8", "subject", || vec![rdn(CN, 12, &[0xff, 0xfe])]);
    subject("ou-instead-of-cn", "subject", || vec![rdn(OU, 12, b"1")]);
    subject("cn-multi-valued", "subject", || {
        vec![tlv(0x31, &[&attribute(CN, 12, b"1"), &attribute(OU, 12, b"2")])]
    });
    subject("rdn-empty", "subject", || vec![vec![0x31, 0]]);
    vector(all, "subject-of-another", 1, "subject", |chain| {
        chain.last().subject = name(&["Grid", "Jane Doe", "11"]);
    });
    vector(all, "subject-cn-inserted-in-front", 1, "subject", |chain| {
        chain.last().subject = name(&["11", "Grid", "John Smith"]);
    });
    vector(all, "subject-is-the-issuer", 1, "subject", |chain| {
        chain.last().subject = chain.person().subject.clone();
    });
    vector(all, "issuer-of-another", 1, "issuer", |chain| {
        chain.last().issuer = name(&["Grid", "Jane Doe"]);
        chain.last().subject = name(&["Grid", "Jane Doe", "11"]);
    });
    vector(all, "issuer-in-other-letters", 1, "issuer", |chain| {
        chain.last().issuer = name(&["Grid", "JOHN SMITH"]);
        chain.last().subject = name(&["Grid", "JOHN SMITH", "11"]);
    });
    vector(all, "issuer-in-another-string-type", 1, "issuer", |chain| {
        let issuer = sequence(&[&rdn(CN, 19, b"Grid"), &rdn(CN, 19, b"John Smith")]);
        chain.last().subject = below(&issuer, &[rdn(CN, 12, b"11")]);
        chain.last().issuer = issuer;
    });
    vector(all, "issuer-empty", 1, "issuer", |chain| {
        chain.last().issuer = name(&[]);
        chain.last().subject = name(&["11"]);
    });
    vector(all, "issued-by-the-ca", 1, "path-is-authority", |chain| {
        // A proxy directly below a CA: the CA is what stands where the end entity belongs.
        chain.specs.remove(1);
        let above = chain.specs[0].clone();
        chain.specs[1] = proxy(&above, "p1", 11);
        chain.trusted = 0;
    });
}

fn signatures(all: &mut Vec<Vector>) {
    vector(all, "signed-by-another-key", 1, "signature", |chain| {
        chain.last().signer = "other"
    });
    vector(all, "signed-by-itself", 1, "signature", |chain| {
        chain.last().signer = "p1"
    });
    vector(all, "signed-by-the-ca", 1, "signature", |chain| {
        chain.last().signer = "ca"
    });
    vector(all, "upper-signed-by-another-key", 2, "signature", |chain| {
        chain.specs[2].signer = "other"
    });
    vector(all, "lower-signed-by-the-person", 2, "signature", |chain| {
        chain.last().signer = "person"
    });
    vector(all, "signature-damaged", 1, "signature", |chain| {
        chain.last().damage = Some(|der| {
            let at = der.len() - 5;
            der[at] ^= 1;
        });
    });
    vector(all, "algorithms-differ", 1, "two-algorithms", |chain| {
        chain.last().inner = Some(ECDSA_SHA384)
    });
    vector(all, "algorithm-of-another-kind-of-key", 1, "signature", |chain| {
        (chain.last().inner, chain.last().outer) = (Some(RSA_SHA256), Some(RSA_SHA256));
    });
    vector(all, "sha1", 1, "signature", |chain| {
        chain.person().key = "rsa";
        chain.again();
        (chain.last().inner, chain.last().outer) = (Some(RSA_SHA1), Some(RSA_SHA1));
    });
}

fn times(all: &mut Vec<Vector>) {
    vector(all, "proxy-expired", 1, "expired", |chain| {
        chain.last().to = NOW - 1
    });
    vector(all, "proxy-ends-now", 1, "inheritAll", |chain| {
        chain.last().to = NOW
    });
    vector(all, "proxy-not-yet-valid", 1, "not-yet-valid", |chain| {
        chain.last().from = NOW + 60
    });
    vector(all, "proxy-begins-now", 1, "inheritAll", |chain| {
        chain.last().from = NOW
    });
    vector(all, "upper-expired", 2, "expired", |chain| {
        chain.specs[2].to = NOW - 1
    });
    vector(all, "upper-not-yet-valid", 2, "not-yet-valid", |chain| {
        chain.specs[2].from = NOW + 60
    });
    vector(all, "proxy-outlives-the-person", 1, "inheritAll", |chain| {
        chain.person().to = NOW + 3_600;
    });
    vector(all, "proxy-of-twelve-days", 1, "inheritAll", |chain| {
        (chain.last().from, chain.last().to) = (NOW - 300, NOW - 300 + 12 * DAY);
    });
    vector(all, "proxy-of-a-year", 1, "too-lasting", |chain| {
        chain.last().to = NOW + 365 * DAY
    });
    vector(all, "end-before-begin", 1, "expired", |chain| {
        (chain.last().from, chain.last().to) = (NOW - 60, NOW - 120);
    });
    vector(all, "person-expired", 1, "path-time", |chain| {
        chain.person().to = NOW - 1
    });
    vector(all, "person-not-yet-valid", 1, "path-time", |chain| {
        chain.person().from = NOW + 60
    });
    vector(all, "ca-expired", 1, "path-time", |chain| {
        chain.specs[0].to = NOW - 1
    });
}

fn extensions(all: &mut Vec<Vector>) {
    let mut with = |name: &str, expected, id: &'static [u8], critical: bool, value: Vec<u8>| {
        vector(all, name, 1, expected, |chain| {
            chain.last().set(id, critical, &value)
        });
    };
    let dns = sequence(&[&tlv(0x82, &[b"gw.example.org"])]);
    with(
        "subject-alt-name",
        "alternative-name",
        SUBJECT_ALT_NAME,
        false,
        dns.clone(),
    );
    with(
        "subject-alt-name-critical",
        "alternative-name",
        SUBJECT_ALT_NAME,
        true,
        dns.clone(),
    );
    with("issuer-alt-name", "alternative-name", ISSUER_ALT_NAME, false, dns);
    with(
        "ca-true",
        "authority",
        BASIC_CONSTRAINTS,
        true,
        sequence(&[&[1, 1, 0xff]]),
    );
    with(
        "ca-true-not-critical",
        "authority",
        BASIC_CONSTRAINTS,
        false,
        sequence(&[&[1, 1, 0xff]]),
    );
    with("ca-false", "inheritAll", BASIC_CONSTRAINTS, true, sequence(&[]));
    with(
        "ca-path-length",
        "authority",
        BASIC_CONSTRAINTS,
        true,
        sequence(&[&[2, 1, 0]]),
    );
    with(
        "ca-unreadable",
        "extension-malformed",
        BASIC_CONSTRAINTS,
        true,
        vec![5, 0],
    );
    with(
        "usage-cert-sign",
        "may-sign-certificates",
        KEY_USAGE,
        true,
        bits(2, &[0x84]),
    );
    with(
        "usage-without-signature",
        "may-not-sign",
        KEY_USAGE,
        true,
        bits(5, &[0x20]),
    );
    with(
        "usage-with-encipherment",
        "inheritAll",
        KEY_USAGE,
        true,
        bits(5, &[0xa0]),
    );
    with(
        "usage-not-critical",
        "inheritAll",
        KEY_USAGE,
        false,
        bits(7, &[0x80]),
    );
    with(
        "usage-unreadable",
        "extension-malformed",
        KEY_USAGE,
        true,
        vec![4, 1, 0x80],
    );
    with(
        "extended-usage-client",
        "inheritAll",
        EXTENDED_KEY_USAGE,
        false,
        sequence(&[&oid(CLIENT_AUTH)]),
    );
    with(
        "extended-usage-any",
        "no-client",
        EXTENDED_KEY_USAGE,
        false,
        sequence(&[&oid(ANY_USAGE)]),
    );
    with(
        "extended-usage-server",
        "no-client",
        EXTENDED_KEY_USAGE,
        false,
        sequence(&[&oid(SERVER_AUTH)]),
    );
    with(
        "extended-usage-empty",
        "no-client",
        EXTENDED_KEY_USAGE,
        false,
        sequence(&[]),
    );
    with("unknown-critical", "unknown-critical", UNKNOWN, true, vec![5, 0]);
    with("unknown-not-critical", "inheritAll", UNKNOWN, false, vec![5, 0]);
    let policies = sequence(&[&sequence(&[&oid(&[0x2a, 3, 4])])]);
    with(
        "certificate-policies-critical",
        "unknown-critical",
        POLICIES,
        true,
        policies,
    );
    let dns_below = sequence(&[&tlv(0xa0, &[&sequence(&[&tlv(0x82, &[b"example.org"])])])]);
    with(
        "name-constraints-critical",
        "unknown-critical",
        NAME_CONSTRAINTS,
        true,
        dns_below,
    );
    vector(all, "usage-none", 1, "inheritAll", |chain| {
        chain.last().unset(KEY_USAGE)
    });
    vector(all, "usage-twice", 1, "twice-extended", |chain| {
        let usage = extension(KEY_USAGE, true, &bits(7, &[0x80]));
        chain.last().extensions.push(usage);
    });
    vector(all, "upper-subject-alt-name", 2, "alternative-name", |chain| {
        let dns = sequence(&[&tlv(0x82, &[b"gw.example.org"])]);
        chain.specs[2].set(SUBJECT_ALT_NAME, false, &dns);
    });
    vector(all, "upper-ca-true", 2, "authority", |chain| {
        chain.specs[2].set(BASIC_CONSTRAINTS, true, &sequence(&[&[1, 1, 0xff]]));
    });
    vector(all, "upper-may-not-sign", 2, "may-not-sign", |chain| {
        chain.specs[2].set(KEY_USAGE, true, &bits(5, &[0x20]));
    });
}

fn infos(all: &mut Vec<Vector>) {
    let mut with = |name: &str, expected, critical: bool, value: Vec<u8>| {
        vector(all, name, 1, expected, |chain| {
            chain.last().set(PROXY_CERT_INFO, critical, &value)
        });
    };
    with(
        "info-not-critical",
        "info-not-critical",
        false,
        info(&[], INHERIT_ALL, &[]),
    );
    with("info-empty", "info-malformed", true, vec![]);
    with("info-null", "info-malformed", true, vec![5, 0]);
    with("info-without-policy", "info-malformed", true, sequence(&[]));
    with(
        "info-negative-path-length",
        "info-malformed",
        true,
        info(&[2, 1, 0xff], INHERIT_ALL, &[]),
    );
    with(
        "info-padded-path-length",
        "info-malformed",
        true,
        info(&[2, 2, 0, 1], INHERIT_ALL, &[]),
    );
    with(
        "info-bytes-behind",
        "info-malformed",
        true,
        [info(&[], INHERIT_ALL, &[]), vec![5, 0]].concat(),
    );
    with(
        "language-any",
        "unknown-policy",
        true,
        info(&[], ANY_LANGUAGE, &[]),
    );
    with(
        "language-unknown",
        "unknown-policy",
        true,
        info(&[], UNKNOWN, &[]),
    );
    with(
        "language-unknown-with-policy",
        "unknown-policy",
        true,
        info(&[], UNKNOWN, &tlv(4, &[b"no"])),
    );
    with(
        "inherit-all-with-policy",
        "policy-text",
        true,
        info(&[], INHERIT_ALL, &tlv(4, &[b"no"])),
    );
    with(
        "limited-with-policy",
        "policy-text",
        true,
        info(&[], LIMITED, &tlv(4, &[b"no"])),
    );
    vector(all, "info-twice", 1, "twice-extended", |chain| {
        let second = extension(PROXY_CERT_INFO, true, &info(&[], LIMITED, &[]));
        chain.last().extensions.push(second);
    });
    vector(all, "draft-proxy", 1, "draft", |chain| {
        chain.last().unset(PROXY_CERT_INFO);
        chain.last().set(DRAFT, true, &info(&[], INHERIT_ALL, &[]));
    });
    vector(
        all,
        "legacy-proxy-without-info",
        1,
        "path-issuer-is-no-authority",
        |chain| {
            chain.last().unset(PROXY_CERT_INFO);
        },
    );
    vector(
        all,
        "plain-certificate-below-a-proxy",
        2,
        "path-unknown-critical",
        |chain| {
            chain.last().unset(PROXY_CERT_INFO);
        },
    );
    vector(all, "upper-language-unknown", 2, "unknown-policy", |chain| {
        chain.specs[2].set(PROXY_CERT_INFO, true, &info(&[], UNKNOWN, &[]));
    });
}

fn shapes(all: &mut Vec<Vector>) {
    vector(all, "version-1", 1, "version", |chain| {
        chain.last().version = Vec::new()
    });
    vector(all, "version-2", 1, "version", |chain| {
        chain.last().version = vec![0xa0, 3, 2, 1, 1]
    });
    vector(all, "bytes-behind", 1, "unreadable", |chain| {
        chain.last().damage = Some(|der| der.push(0))
    });
    vector(all, "cut-short", 1, "unreadable", |chain| {
        chain.last().damage = Some(|der| der.truncate(der.len() - 3));
    });
    vector(all, "no-end-entity", 1, "no-end-entity", |chain| {
        chain.trusted = 2
    });
    vector(all, "only-a-proxy", 2, "no-end-entity", |chain| {
        chain.arrange = Some(|presented| presented.truncate(1));
    });
    vector(all, "middle-proxy-missing", 3, "issuer", |chain| {
        chain.arrange = Some(|presented| {
            presented.remove(1);
        });
    });
    vector(all, "order-of-proxies-swapped", 3, "issuer", |chain| {
        chain.arrange = Some(|presented| presented.swap(1, 2));
    });
    vector(all, "another-person-in-between", 1, "issuer", |chain| {
        let mut other = person();
        (other.subject, other.serial, other.key) = (name(&["Grid", "Jane Doe"]), vec![3], "other");
        chain.specs.insert(1, other);
        chain.arrange = Some(|presented| presented.swap(1, 2));
    });
    vector(all, "middle-proxy-unreadable", 2, "unreadable", |chain| {
        chain.specs[2].damage = Some(|der| der.truncate(40));
    });
}

fn end_entities(all: &mut Vec<Vector>) {
    vector(all, "person-of-an-unknown-ca", 1, "path-untrusted", |chain| {
        chain.person().issuer = name(&["Other CA"]);
    });
    vector(
        all,
        "person-signed-by-another-key",
        1,
        "path-signature",
        |chain| chain.person().signer = "other",
    );
    vector(all, "person-may-not-sign", 1, "may-not-sign", |chain| {
        chain.person().set(KEY_USAGE, true, &bits(5, &[0x20]));
    });
    vector(all, "person-alone-may-not-sign", 0, "may-not-sign", |chain| {
        chain.person().set(KEY_USAGE, true, &bits(5, &[0x20]));
    });
    vector(all, "person-without-usage", 1, "inheritAll", |chain| {
        chain.person().unset(KEY_USAGE)
    });
    vector(all, "person-for-servers", 1, "path-no-client", |chain| {
        chain
            .person()
            .set(EXTENDED_KEY_USAGE, false, &sequence(&[&oid(SERVER_AUTH)]));
    });
    vector(all, "person-for-clients", 1, "inheritAll", |chain| {
        chain
            .person()
            .set(EXTENDED_KEY_USAGE, false, &sequence(&[&oid(CLIENT_AUTH)]));
    });
    vector(
        all,
        "person-unknown-critical",
        1,
        "path-unknown-critical",
        |chain| {
            chain.person().set(UNKNOWN, true, &[5, 0]);
        },
    );
    vector(all, "person-is-a-ca", 1, "path-is-authority", |chain| {
        chain
            .person()
            .set(BASIC_CONSTRAINTS, true, &sequence(&[&[1, 1, 0xff]]));
    });
    vector(all, "person-with-alternative-name", 1, "inheritAll", |chain| {
        let mail = sequence(&[&tlv(0x81, &[b"john@example.org"])]);
        chain.person().set(SUBJECT_ALT_NAME, false, &mail);
    });
    vector(
        all,
        "intermediate-is-no-ca",
        1,
        "path-issuer-is-no-authority",
        |chain| {
            let mut middle = ca("Middle", "CA", "middle", "ca");
            middle.set(BASIC_CONSTRAINTS, true, &sequence(&[]));
            chain.specs.insert(1, middle);
            (chain.specs[2].issuer, chain.specs[2].signer) = (name(&["Middle"]), "middle");
        },
    );
    vector(all, "ca-allows-no-intermediate", 1, "path-constraint", |chain| {
        chain.specs[0].set(BASIC_CONSTRAINTS, true, &sequence(&[&[1, 1, 0xff], &[2, 1, 0]]));
        chain.specs.insert(1, ca("Middle", "CA", "middle", "ca"));
        (chain.specs[2].issuer, chain.specs[2].signer) = (name(&["Middle"]), "middle");
    });
    vector(all, "intermediate-missing", 1, "path-untrusted", |chain| {
        chain.specs.insert(1, ca("Middle", "CA", "middle", "ca"));
        (chain.specs[2].issuer, chain.specs[2].signer) = (name(&["Middle"]), "middle");
        chain.arrange = Some(|presented| presented.truncate(2));
    });
    vector(
        all,
        "proxy-as-an-intermediate-of-a-person",
        1,
        "path-unknown-critical",
        |chain| {
            // A proxy that plays the CA for a made-up person.
            let mut forged = person();
            (forged.issuer, forged.signer) = (chain.last().subject.clone(), "p1");
            (forged.subject, forged.key) = (name(&["Grid", "Jane Doe"]), "p2");
            chain.specs.push(forged);
        },
    );
}

fn lists(all: &mut Vec<Vector>) {
    let mut with = |name: &str, proxies, expected, lists: fn(&Chain) -> Vec<List>| {
        vector(all, name, proxies, expected, |chain| chain.lists = lists(chain));
    };
    with("list-names-nobody", 1, "inheritAll", |chain| {
        vec![List::of(&chain.specs[0], &[])]
    });
    with("list-names-others", 1, "inheritAll", |chain| {
        vec![List::of(&chain.specs[0], &[99])]
    });
    with("list-names-the-person", 1, "path-revoked", |chain| {
        vec![List::of(&chain.specs[0], &[99, 2])]
    });
    with("list-names-the-person-alone", 0, "path-revoked", |chain| {
        vec![List::of(&chain.specs[0], &[2])]
    });
    with("list-out-of-date", 1, "path-revocation-unknown", |chain| {
        vec![List {
            due: NOW - 1,
            ..List::of(&chain.specs[0], &[])
        }]
    });
    with(
        "list-signed-by-another-key",
        1,
        "path-revocation-unknown",
        |chain| {
            vec![List {
                signer: "other",
                ..List::of(&chain.specs[0], &[])
            }]
        },
    );
    with("list-of-another-ca-only", 1, "path-revocation-unknown", |chain| {
        vec![List {
            issuer: name(&["Other CA"]),
            ..List::of(&chain.specs[0], &[])
        }]
    });
    with("list-newer-revokes", 1, "path-revoked", |chain| {
        let old = List {
            made: NOW - 3 * DAY,
            ..List::of(&chain.specs[0], &[])
        };
        vec![old, List::of(&chain.specs[0], &[2])]
    });
    let with_own = |own: List, chain: &Chain| vec![List::of(&chain.specs[0], &[]), own];
    with("list-older-revokes", 1, "path-revoked", |chain| {
        let old = List {
            made: NOW - 3 * DAY,
            ..List::of(&chain.specs[0], &[2])
        };
        vec![List::of(&chain.specs[0], &[]), old]
    });
    vector(all, "list-of-the-person-names-the-proxy", 1, "revoked", |chain| {
        chain.lists = with_own(List::of(&chain.specs[1], &[11]), chain);
    });
    vector(
        all,
        "list-of-the-person-names-another",
        1,
        "inheritAll",
        |chain| {
            chain.lists = with_own(List::of(&chain.specs[1], &[12]), chain);
        },
    );
    vector(
        all,
        "list-of-the-person-names-the-upper-proxy",
        3,
        "revoked",
        |chain| {
            chain.lists = with_own(List::of(&chain.specs[1], &[11]), chain);
        },
    );
    vector(
        all,
        "list-of-the-person-signed-by-another-key",
        1,
        "revocation-list",
        |chain| {
            let own = List {
                signer: "other",
                ..List::of(&chain.specs[1], &[])
            };
            chain.lists = with_own(own, chain);
        },
    );
    vector(
        all,
        "list-of-the-person-beside-one-by-another-key",
        1,
        "inheritAll",
        |chain| {
            // Of somebody with the same name: it names a proxy of hers.
            let other = List {
                signer: "other",
                made: NOW - DAY / 2,
                ..List::of(&chain.specs[1], &[11])
            };
            chain.lists = with_own(other, chain);
            chain.lists.push(List::of(&chain.specs[1], &[]));
        },
    );
    vector(
        all,
        "older-list-of-the-person-names-the-proxy",
        1,
        "revoked",
        |chain| {
            let older = List {
                made: NOW - 2 * DAY,
                due: NOW - DAY,
                ..List::of(&chain.specs[1], &[11])
            };
            chain.lists = with_own(List::of(&chain.specs[1], &[]), chain);
            chain.lists.push(older);
        },
    );
    vector(
        all,
        "list-of-the-person-out-of-date",
        1,
        "revocation-list",
        |chain| {
            let own = List {
                due: NOW - 1,
                ..List::of(&chain.specs[1], &[])
            };
            chain.lists = with_own(own, chain);
        },
    );
}
