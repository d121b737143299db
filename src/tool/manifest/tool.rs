//! The `[tool]` table.

use std::time::Duration;

use http::HeaderName;

use super::{names, not_yet};
use crate::id::ToolId;
use crate::settings::Table;
use crate::tool::{
    Assurance, Delegation, MyProxy, ProxyKey, ProxyPolicy, ProxySettings, Renew, Routes, Tool, ToolTarget,
};
use crate::vo::is_name;

const NAME: &str = "1 to 40 of a-z, 0-9 and `-`, not at the ends, not a reserved name";
const MINUTE: Duration = Duration::from_secs(60);
const MONTH: Duration = Duration::from_secs(31 * 86_400);

pub(super) fn read(root: &mut Table<'_>, text: &str) -> Tool {
    let mut tool = Tool {
        id: ToolId::from(uuid::Uuid::nil()),
        name: String::new(),
        version: 0,
        target: ToolTarget::Upstream(String::new()),
        hosts: Vec::new(),
        delegation: Delegation::None,
        credential_header: None,
        myproxy: None,
        spool: None,
        renew: None,
        proxy: ProxySettings::default(),
        named: false,
        basic: false,
        min_assurance: Assurance::Aal1,
        strict: false,
        upstream_host_header: None,
        foreign_authorization: false,
        keep_cookies: true,
        case_insensitive: false,
        origins: Vec::new(),
        unique: Vec::new(),
        tasks: Vec::new(),
        routes: Routes::default(),
        manifest: text.to_owned(),
    };
    match root.table("tool") {
        Some(mut table) => {
            fill(&mut table, &mut tool);
            table.end();
        }
        None if root.has("tool") => {}
        None => root.flaw("tool", "is missing: a manifest begins with a `[tool]` table"),
    }
    tool
}

fn fill(table: &mut Table<'_>, tool: &mut Tool) {
    tool.name = name(table, "name");
    tool.target = ToolTarget::Upstream(name(table, "upstream"));
    tool.hosts = hosts(table);
    tool.delegation = delegation(table);
    tool.credential_header = credential_header(table, tool.delegation);
    tool.proxy = proxy(table, tool.delegation);
    tool.named = named(table, tool.delegation);
    tool.myproxy = myproxy(table, tool.delegation);
    tool.spool = spool(table, tool.delegation);
    tool.renew = renew(table, tool.delegation);
    tool.basic = table.boolean("basic", false);
    tool.min_assurance = assurance(table);
    tool.strict = table.boolean("strict", false);
    tool.upstream_host_header = choice(table, "host_header", [("public", false), ("upstream", true)]);
    tool.foreign_authorization =
        choice(table, "authorization", [("drop", false), ("foreign", true)]).unwrap_or(false);
    tool.keep_cookies = choice(table, "cookies", [("keep", true), ("drop", false)]).unwrap_or(true);
    tool.case_insensitive = table.boolean("case_insensitive", false);
    tool.origins = origins(table);
    not_yet(
        table,
        &[
            ("require_grant", "a grant of the resource's own"),
            ("health", "asking the tool how it is"),
        ],
    );
}

/// `min_assurance` of a tool or of a task.
pub(super) fn assurance(table: &mut Table<'_>) -> Assurance {
    table
        .parsed("min_assurance", Assurance::NAMES, Assurance::parse)
        .unwrap_or_default()
}

fn name(table: &mut Table<'_>, key: &str) -> String {
    let name = table.required_text(key);
    if table.is_text(key) && !is_name(&name) {
        table.flaw(key, format!("has the value `{name}`; accepted: {NAME}"));
    }
    name
}

fn choice(table: &mut Table<'_>, key: &str, choices: [(&str, bool); 2]) -> Option<bool> {
    let accepted = choices.map(|(name, _)| name).join(", ");
    table.parsed(key, &accepted, |text| {
        choices
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, value)| *value)
    })
}

/// SECURITY: whose name leaves the VO is its own choice, for each tool, and no name leaves without one.
fn named(table: &mut Table<'_>, delegation: Delegation) -> bool {
    let named = choice(table, "identity", [("opaque", false), ("username", true)]).unwrap_or(false);
    if named && delegation != Delegation::Assertion {
        table.flaw(
            "identity",
            "has the value `username`, which is only for `delegation = \"assertion\"`; accepted: opaque",
        );
    }
    named
}

/// What it is about stands in the tasks, and is filled in when they are read.
fn renew(table: &mut Table<'_>, delegation: Delegation) -> Option<Renew> {
    let renew = table.parsed("renew", "arc", |text| (text == "arc").then(Renew::default))?;
    if delegation != Delegation::ClientCertificate {
        table.flaw("renew", "is only for `delegation = \"client-certificate\"`");
    }
    Some(renew)
}

fn spool(table: &mut Table<'_>, delegation: Delegation) -> Option<String> {
    let accepted =
        "the `name` of a `[[delegation.spool]]` of the settings: 1 to 40 of a-z, 0-9 and inner `-`";
    let spool = table.parsed("spool", accepted, |text| is_name(text).then(|| text.to_owned()))?;
    if delegation != Delegation::Pem {
        table.flaw("spool", "is only for `delegation = \"pem\"`");
    }
    Some(spool)
}

fn hosts(table: &mut Table<'_>) -> Vec<String> {
    let hosts = names(table, "hosts");
    for (index, host) in hosts.iter().enumerate() {
        if !is_host(host) {
            table.flaw(
                "hosts",
                format!("has `{host}`; accepted: a DNS name in lower case, without scheme and port"),
            );
        }
        if hosts.iter().take(index).any(|other| other == host) {
            table.flaw("hosts", format!("has `{host}` twice"));
        }
    }
    hosts
}

fn origins(table: &mut Table<'_>) -> Vec<String> {
    let origins = names(table, "origins");
    for (index, origin) in origins.iter().enumerate() {
        if !is_origin(origin) {
            table.flaw(
                "origins",
                format!("has `{origin}`; accepted: an origin as browsers write it, e.g. `https://viewer.example.org`, without the port 443"),
            );
        }
        if origins.iter().take(index).any(|other| other == origin) {
            table.flaw("origins", format!("has `{origin}` twice"));
        }
    }
    origins
}

/// Whether `origin` is one of `https`, or of `http` on this machine, as browsers write it (RFC 6454 section 6.2).
fn is_origin(origin: &str) -> bool {
    let (authority, usual, local) = match origin.split_once("://") {
        Some(("https", authority)) => (authority, "443", false),
        Some(("http", authority)) => (authority, "80", true),
        _ => return false,
    };
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let port = port.is_none_or(|port| {
        port != usual
            && !port.starts_with('0')
            && port.parse::<u16>().is_ok()
            && port.bytes().all(|b| b.is_ascii_digit())
    });
    // SECURITY: what comes over plain HTTP may have been written by anybody on the way.
    let local = !local || host == "localhost" || host.ends_with(".localhost");
    port && local && (is_host(host) || host == "localhost")
}

/// Whether `host` is a DNS name in lower case (RFC 1123 section 2.1) and not an address.
fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253
        && host.split('.').all(label)
        && host
            .rsplit('.')
            .next()
            .is_some_and(|last| last.bytes().any(|byte| byte.is_ascii_lowercase()))
}

fn delegation(table: &mut Table<'_>) -> Delegation {
    const ALL: [Delegation; 6] = [
        Delegation::None,
        Delegation::Static,
        Delegation::Assertion,
        Delegation::ClientCertificate,
        Delegation::Pem,
        Delegation::MyProxy,
    ];
    table
        .parsed(
            "delegation",
            "none, static, assertion, client-certificate, pem, myproxy",
            |text| ALL.into_iter().find(|way| way.as_str() == text),
        )
        .unwrap_or(Delegation::None)
}

fn credential_header(table: &mut Table<'_>, delegation: Delegation) -> Option<String> {
    let name = table.text("header")?;
    if delegation != Delegation::Static {
        table.flaw("header", "is only for `delegation = \"static\"`");
    }
    fit_header(table, "header", &name);
    Some(name.to_ascii_lowercase())
}

/// Notes a flaw where a credential may not stand under this name.
fn fit_header(table: &mut Table<'_>, key: &'static str, name: &str) {
    // SECURITY: a credential under one of these names would change framing, routing or identity instead.
    let ours = [
        "host",
        "connection",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "cookie",
        "forwarded",
    ];
    let accepted = name.parse::<HeaderName>().is_ok_and(|header| {
        let header = header.as_str();
        !ours.contains(&header)
            && ![
                "content-",
                "transfer-",
                "proxy-",
                "x-forwarded-",
                "x-countersign-",
                "sec-",
            ]
            .iter()
            .any(|prefix| header.starts_with(prefix))
    });
    if !accepted {
        table.flaw(
            key,
            format!("has the value `{name}`; accepted: a header name such as `Authorization` or `X-Api-Key`"),
        );
    }
}

fn myproxy(table: &mut Table<'_>, delegation: Delegation) -> Option<MyProxy> {
    let keys = ["myproxy", "username_header", "passphrase_header"];
    if delegation != Delegation::MyProxy {
        for key in keys {
            if table.has(key) {
                table.flaw(key, "is only for `delegation = \"myproxy\"`");
            }
        }
        return None;
    }
    if table.has("path_length") && table.integer("path_length", 0..=255, Some(0)) == 0 {
        table.flaw(
            "path_length",
            "is `0`, and a MyProxy server delegates on; accepted: 1 to 255, or nothing",
        );
    }
    if table.has("key") {
        table.flaw(
            "key",
            "is for the MyProxy server to choose, which makes an RSA key",
        );
    }
    let mut header = |key: &'static str, usual: &str| match table.text(key) {
        // What stands for it where nothing is said may be said.
        Some(name) if name.eq_ignore_ascii_case(usual) => usual.to_owned(),
        Some(name) => {
            fit_header(table, key, &name);
            name.to_ascii_lowercase()
        }
        None => usual.to_owned(),
    };
    let username_header = header("username_header", "x-countersign-myproxy-username");
    let passphrase_header = header("passphrase_header", "x-countersign-myproxy-passphrase");
    if username_header == passphrase_header {
        table.flaw("passphrase_header", "is the header of the user name too");
    }
    Some(MyProxy {
        upstream: name(table, "myproxy"),
        username_header,
        passphrase_header,
    })
}

fn proxy(table: &mut Table<'_>, delegation: Delegation) -> ProxySettings {
    let default = ProxySettings::default();
    for key in ["lifetime", "policy", "path_length", "key"] {
        if table.has(key) && !delegation.is_proxy() {
            table.flaw(
                key,
                "is only for `delegation = \"client-certificate\"`, `\"pem\"` or `\"myproxy\"`",
            );
        }
    }
    ProxySettings {
        lifetime: table.duration("lifetime", MINUTE * 5..=MONTH, default.lifetime),
        policy: table
            .parsed("policy", "inheritAll, limited, independent", |text| {
                [
                    ProxyPolicy::InheritAll,
                    ProxyPolicy::Limited,
                    ProxyPolicy::Independent,
                ]
                .into_iter()
                .find(|policy| policy.as_str() == text)
            })
            // A proxy that leaves the gateway's hands is limited unless the manifest says otherwise.
            .unwrap_or(if matches!(delegation, Delegation::Pem | Delegation::MyProxy) {
                ProxyPolicy::Limited
            } else {
                default.policy
            }),
        path_length: table
            .has("path_length")
            .then(|| u8::try_from(table.integer("path_length", 0..=255, Some(0))).unwrap_or(0)),
        key: table
            .parsed("key", "p256, rsa2048", |text| {
                [ProxyKey::P256, ProxyKey::Rsa2048]
                    .into_iter()
                    .find(|key| key.as_str() == text)
            })
            // Grid tools read it from a file, and half of them take nothing but RSA.
            .unwrap_or(if delegation == Delegation::Pem {
                ProxyKey::Rsa2048
            } else {
                default.key
            }),
    }
}
