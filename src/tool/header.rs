//! Which header names are whose: the rule behind promise 8, and one way to compare spellings.

use std::borrow::Cow;

/// Headers that end at the next hop (RFC 9110 section 7.6.1, with those that older programs still obey).
pub const HOP_BY_HOP: &[&str] = &[
    "connection",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Names that say who asks, from where, or that the request is another one than it is. A client's are removed.
const CLAIMS: &[&str] = &[
    "base-url",
    "client-cert",
    "client-cert-chain",
    "client-ip",
    "cluster-client-ip",
    "forwarded",
    "front-end-https",
    "path-info",
    "path-translated",
    "query-string",
    "request-method",
    "request-uri",
    "script-name",
    "true-client-ip",
    "x-account",
    "x-arr-clientcert",
    "x-cluster-client-ip",
    "x-email",
    "x-group",
    "x-groups",
    "x-host",
    "x-http-destinationurl",
    "x-login",
    "x-method-override",
    "x-principal",
    "x-path",
    "x-path-info",
    "x-query-string",
    "x-request-method",
    "x-request-path",
    "x-request-uri",
    "x-request-url",
    "x-role",
    "x-roles",
    "x-scheme",
    "x-script-name",
    "x-subject",
    "x-uri",
    "x-url",
    "x-url-scheme",
    "x-wsgi-user",
];

/// Beginnings of such names.
const CLAIM_PREFIXES: &[&str] = &[
    "auth-user",
    "authenticated",
    "cf-access-",
    "cf-connecting-",
    "remote-",
    "ssl-",
    "tailscale-",
    "x-accel-",
    "x-amzn-oidc-",
    "x-auth",
    "x-client-",
    "x-credential",
    "x-envoy-",
    "x-forwarded",
    "x-goog-authenticated-",
    "x-goog-iap-",
    "x-http-method",
    "x-identity",
    "x-middleware-",
    "x-ms-client-principal",
    "x-original-",
    "x-pomerium-",
    "x-proxy-",
    "x-real",
    "x-remote",
    "x-rewrite-",
    "x-sendfile",
    "x-ssl-",
    "x-tls-",
    "x-user",
    "iv-",
    "sm-",
    "sso-",
    "x-sso",
    "x-vouch-",
    "x-webauth-",
];

/// Words that make a name a claim wherever they stand in it, separators aside: programs invent such names freely, so no
/// list of whole names is ever complete.
const CLAIM_WORDS: &[&str] = &[
    "account",
    "admin",
    "auth",
    "cert",
    "clientip",
    "consumer",
    "countersign",
    "credential",
    "email",
    "eppn",
    "forwarded",
    "groups",
    "httpmethod",
    "identity",
    "impersonat",
    "login",
    "oidc",
    "originalurl",
    "override",
    "principal",
    "proxied",
    "realip",
    "remote",
    "rewrite",
    "roles",
    "saml",
    "shib",
    "sslclient",
    "subject",
    "trusted",
    "user",
];

/// Standard names that pass although a word of theirs is one of [`CLAIM_WORDS`].
const PASSING: &[&str] = &["authorization", "user-agent"];

/// Beginnings of standard names that pass.
const PASSING_PREFIXES: &[&str] = &["accept-", "content-", "if-", "sec-"];

/// Beginning of the gateway's own header names.
const OURS: &str = "x-countersign";

/// One spelling for all that a program may take for the same name: lower case, `-` for everything else.
///
/// CGI, WSGI and their kin fold `X-User`, `x_user` and often `x.user` or `x!user` into one variable.
fn folded(name: &str) -> Cow<'_, str> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if name.bytes().all(plain) {
        return Cow::Borrowed(name);
    }
    let fold = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    Cow::Owned(name.chars().map(fold).collect())
}

/// Whether a name may have this byte: `tchar` of RFC 9110 section 5.6.2.
#[must_use]
pub const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Whether the name, in any spelling, is one of the gateway's own.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    folded(name).starts_with(OURS)
}

/// Whether a client's header of this name never reaches a tool.
#[must_use]
pub fn is_claim(name: &str) -> bool {
    let folded = folded(name);
    // A name that folds into another goes whatever it says: no client needs it, and tools fold it.
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return true;
    }
    // `Authorization` has rules of its own; `Sec-Fetch-User` and `User-Agent` say nothing of who asks.
    if PASSING.contains(&&*folded) || PASSING_PREFIXES.iter().any(|prefix| folded.starts_with(prefix)) {
        return false;
    }
    folded.starts_with(OURS)
        || CLAIMS.contains(&&*folded)
        || CLAIM_PREFIXES.iter().any(|prefix| folded.starts_with(prefix))
        || has_claim_word(&folded)
}

/// Whether one of [`CLAIM_WORDS`] stands in the name, however its words are separated.
fn has_claim_word(folded: &str) -> bool {
    let bare: String = folded.chars().filter(|c| *c != '-').collect();
    CLAIM_WORDS.iter().any(|word| bare.contains(word))
}

/// Whether the header ends at this hop.
#[must_use]
pub fn is_hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_headers_are_no_claims() {
        for name in [
            "accept",
            "accept-language",
            "content-type",
            "x-requested-with",
            "x-csrf-token",
            "range",
            "origin",
            "referer",
            "user-agent",
            "if-match",
            "x-request-id",
            "x-api-version",
            "sec-fetch-site",
            "dnt",
        ] {
            assert!(!is_claim(name), "{name}");
        }
    }

    /// Names that portals, proxies and tools take for who asks (finding 9 of a review: none was in the list).
    const FOUND: &[&str] = &[
        "impersonate-user",
        "impersonate-group",
        "impersonate-extra-scopes",
        "x-jupyterhub-user",
        "x-grafana-user",
        "x-consumer-username",
        "x-consumer-id",
        "x-kubeflow-userid",
        "kubeflow-userid",
        "oidc-claim-sub",
        "iv-user",
        "iv-groups",
        "iv-creds",
        "sm-user",
        "sm-serversessionid",
        "smuser",
        "shib-session-id",
        "x-shib-mail",
        "eppn",
        "remoteuser",
        "x-sso-name",
        "x-proxied-for",
        "x-trusted-ip",
        "x-oidc-sub",
        "x-admin",
        "x-administrator",
        "x-methodoverride",
        "x-login-name",
        "x-real-ip",
        "x-original-url",
        "x-saml-nameid",
        "x-dn-subject",
        "x-my-identity",
    ];

    /// Names that tools and browsers need.
    const NEEDED: &[&str] = &[
        "accept",
        "accept-encoding",
        "access-control-request-headers",
        "access-control-request-method",
        "authorization",
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-range",
        "content-type",
        "cookie",
        "depth",
        "destination",
        "dnt",
        "if",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "last-event-id",
        "lock-token",
        "origin",
        "overwrite",
        "pragma",
        "prefer",
        "priority",
        "range",
        "referer",
        "sec-ch-ua",
        "sec-fetch-dest",
        "sec-fetch-mode",
        "sec-fetch-site",
        "sec-fetch-user",
        "soapaction",
        "timeout",
        "traceparent",
        "tracestate",
        "upgrade-insecure-requests",
        "user-agent",
        "x-csrf-token",
        "x-request-id",
        "x-requested-with",
        "x-xsrf-token",
    ];

    #[test]
    fn what_changes_the_method_or_the_target_is_a_claim() {
        for name in [
            "x-http-method",
            "x-http-method-override",
            "x-httpmethod",
            "http-method-override",
            "x-method-override",
            "method-override",
            "x-request-method",
            "x-original-url",
            "x-original-uri",
            "x-original-path",
            "x-original-host",
            "x-original-method",
            "x-rewrite-url",
            "x-rewrite-uri",
            "x-forwarded-path",
            "x-forwarded-prefix",
            "x-forwarded-uri",
            "x-forwarded-method",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-forwarded-scheme",
            "x-forwarded-port",
            "x-forwarded-server",
            "x-forwarded-ssl",
            "x-forwarded",
            "forwarded-for",
            "x-proxied-uri",
            "x-request-uri",
            "x-request-url",
            "x-request-path",
            "x-envoy-original-path",
            "x-middleware-rewrite",
            "x-accel-redirect",
            "x-script-name",
            "x-path-info",
            "x-url",
            "x-uri",
            "x-host",
            "x-http-destinationurl",
            "path-info",
            "path-translated",
            "script-name",
            "request-uri",
            "base-url",
        ] {
            assert!(is_claim(name), "{name}");
            assert!(is_claim(&name.to_ascii_uppercase()), "{name}");
            assert!(is_claim(&name.replace('-', "_")), "{name}");
        }
    }

    #[test]
    fn standard_names_pass_although_claims_are_found_by_pattern() {
        for name in NEEDED {
            assert!(!is_claim(name), "{name}");
            assert!(!is_claim(&name.to_ascii_uppercase()), "{name}");
        }
    }

    #[test]
    fn the_known_aliases_are_claims() {
        for name in [
            "x-countersign-user",
            "X-Forwarded-For",
            "forwarded",
            "X-Real-IP",
            "Remote-User",
            "REMOTE_USER",
            "x-remote-user",
            "x-auth-request-email",
            "x-user",
            "x-user-id",
            "x-ssl-client-dn",
            "SSL_CLIENT_S_DN",
            "ssl-client-cert",
            "x-client-cert",
            "x-client-verify",
            "x-original-url",
            "x-rewrite-url",
            "x-http-method-override",
            "x-method-override",
            "x-http-method",
            "x-forwarded-client-cert",
            "cf-connecting-ip",
            "true-client-ip",
            "x-webauth-user",
            "x-ms-client-principal-name",
            "a_b",
            "a.b",
        ] {
            assert!(is_claim(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_spelling_of_a_claim_survives(
            base in prop::sample::select([CLAIMS, &["x-countersign-user", "x-countersign-vo", "x-forwarded-for",
                "remote-user", "x-real-ip", "ssl-client-s-dn", "x-auth-token"], FOUND].concat()),
            upper in prop::collection::vec(any::<bool>(), 32),
            fold in prop::collection::vec(0_u8..4, 32),
        ) {
            let spelled: String = base.chars().enumerate().map(|(at, c)| match (c, fold[at % 32]) {
                ('-', 1) => '_',
                ('-', 2) => '.',
                ('-', 3) => '!',
                (c, _) if upper[at % 32] => c.to_ascii_uppercase(),
                (c, _) => c,
            }).collect();
            prop_assert!(is_claim(&spelled), "{}", spelled);
            if base.starts_with(OURS) {
                prop_assert!(is_ours(&spelled));
            }
        }

        #[test]
        fn a_claim_word_is_found_wherever_it_stands(
            before in "(x-)?[a-z]{0,6}-?",
            word in prop::sample::select(CLAIM_WORDS),
            at in 1_usize..16,
            after in "-?[a-z]{0,6}",
        ) {
            let (first, last) = word.split_at(at.min(word.len()));
            let name = format!("{before}{first}-{last}{after}");
            let passes = PASSING.contains(&name.as_str()) || PASSING_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
            prop_assert!(passes || is_claim(&name), "{}", name);
        }
    }
}
