//! What is removed from heads by name: what ends at this hop, and the gateway's own cookies. Which names are whose is said
//! once, in `tool/header.rs`, since a manifest may not judge what no tool gets.

use http::{HeaderMap, HeaderName};

pub(super) use crate::tool::{is_claim, is_hop_by_hop, is_ours};

/// Beginning of the gateway's own cookie names, in lower case, without `__Host-` or `__Secure-`.
const OUR_COOKIE: &str = "countersign";

/// The first header that claims to be the gateway's word, in any spelling. Such a request is refused.
#[must_use]
pub fn claims_identity(headers: &HeaderMap) -> Option<&HeaderName> {
    headers.keys().find(|name| is_ours(name.as_str()))
}

/// Removes what ends at this hop, and everything that `Connection` names.
pub(super) fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(http::header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    drop_if(headers, is_hop_by_hop);
}

/// Removes every header whose name is of a kind.
pub(super) fn drop_if(headers: &mut HeaderMap, is_dropped: impl Fn(&str) -> bool) {
    let dropped: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_dropped(name.as_str()))
        .cloned()
        .collect();
    for name in dropped {
        headers.remove(name);
    }
}

/// Whether a cookie of this name is the gateway's.
pub(super) fn is_our_cookie(name: &str) -> bool {
    let name = name.trim().trim_matches('"').to_ascii_lowercase();
    let bare = name
        .strip_prefix("__host-")
        .or_else(|| name.strip_prefix("__secure-"))
        .unwrap_or(&name);
    bare.starts_with(OUR_COOKIE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_cookies_are_known_in_every_prefix() {
        for name in [
            "__Host-countersign",
            "__host-Countersign-child",
            " countersign_nonce",
            "__Secure-countersign",
        ] {
            assert!(is_our_cookie(name), "{name}");
        }
        assert!(!is_our_cookie("session") && !is_our_cookie("__Host-tool"));
    }
}
