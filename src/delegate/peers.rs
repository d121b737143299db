//! Which peers will refuse a tool's proxies, said when the tool is configured and not at two in the morning.
//!
//! All of it was seen with real peers: OpenSSL 3.0, Apache with mod_gridsite 3.0, ARC 6.17, Globus GridFTP 13.24, xrootd 5.5,
//! MyProxy 6.2.

use std::time::Duration;

use crate::tool::{Delegation, ProxyKey, ProxyPolicy, Tool};
use crate::trust::signer::Algorithm;

/// One sentence for each thing that some peer will not take. `issuer` is the VO's key, where it has one; `most` is the
/// longest life that a proxy can have here.
pub(super) fn refusals(tool: &Tool, issuer: Option<Algorithm>, most: Duration) -> Vec<String> {
    let proxy = &tool.proxy;
    // What the gateway itself calls over TLS is ARC, Apache or OpenSSL, which take every key; a file can go anywhere.
    let anywhere =
        matches!(tool.delegation, Delegation::Pem | Delegation::MyProxy) || proxy.key == ProxyKey::Rsa2048;
    let mut said = Vec::new();
    if tool.delegation == Delegation::Pem && proxy.key == ProxyKey::P256 {
        said.push(
            "`key = \"p256\"`: OpenSSL, ARC and Apache take such a proxy; GridFTP, xrootd and MyProxy will refuse it \
             (`rsa2048` fits all)"
                .to_owned(),
        );
    }
    if let Some(algorithm @ (Algorithm::P256 | Algorithm::P384)) = issuer.filter(|_| anywhere) {
        said.push(format!(
            "the VO certificate's key is {algorithm}: GridFTP and MyProxy will refuse every proxy below it, also one with an \
             RSA key (a VO certificate with an RSA key fits all)"
        ));
    }
    if proxy.policy == ProxyPolicy::Independent {
        said.push(
            "`policy = \"independent\"`: the proxy inherits no right of the virtual organisation's, and GridFTP will \
             refuse it"
                .to_owned(),
        );
    }
    if proxy.path_length == Some(0) {
        said.push(
            "`path_length = 0`: nobody may delegate on, which GridFTP and MyProxy do, so they will refuse the proxy"
                .to_owned(),
        );
    }
    if proxy.lifetime > most {
        said.push(format!(
            "`lifetime`: {} s are asked for, and no proxy lives longer than {} s here: that is what the tool gets",
            proxy.lifetime.as_secs(),
            most.as_secs()
        ));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::{ProxySettings, ToolTarget};

    const HOUR: Duration = Duration::from_secs(3_600);

    fn said(delegation: Delegation, proxy: ProxySettings, issuer: Option<Algorithm>) -> String {
        let tool = Tool {
            target: ToolTarget::Upstream("ce".to_owned()),
            delegation,
            proxy,
            ..Tool::own(Vec::new()).unwrap()
        };
        refusals(&tool, issuer, HOUR).join("\n")
    }

    fn with(key: ProxyKey) -> ProxySettings {
        ProxySettings {
            key,
            ..ProxySettings::default()
        }
    }

    #[test]
    fn rsa_for_both_keys_is_refused_by_nobody() {
        let rsa = Some(Algorithm::Rsa(2048));
        assert_eq!(said(Delegation::Pem, with(ProxyKey::Rsa2048), rsa), "");
        assert_eq!(
            said(Delegation::ClientCertificate, with(ProxyKey::Rsa2048), rsa),
            ""
        );
        assert_eq!(said(Delegation::Pem, with(ProxyKey::Rsa2048), None), "");
    }

    #[test]
    fn what_the_gateway_calls_itself_takes_p256() {
        let ec = Some(Algorithm::P256);
        assert_eq!(said(Delegation::ClientCertificate, with(ProxyKey::P256), ec), "");
    }

    #[test]
    fn each_combination_is_told_with_the_peers_that_refuse_it() {
        let rsa = Some(Algorithm::Rsa(2048));
        let text = said(Delegation::Pem, with(ProxyKey::P256), rsa);
        assert!(text.starts_with("`key = ") && text.contains("GridFTP, xrootd and MyProxy will refuse"));
        for way in [Delegation::Pem, Delegation::ClientCertificate] {
            let text = said(way, with(ProxyKey::Rsa2048), Some(Algorithm::P384));
            assert!(
                text.contains("key is P-384: GridFTP and MyProxy will refuse"),
                "{text}"
            );
        }
        let odd = ProxySettings {
            policy: ProxyPolicy::Independent,
            path_length: Some(0),
            lifetime: HOUR * 48,
            key: ProxyKey::Rsa2048,
        };
        let text = said(Delegation::ClientCertificate, odd, rsa);
        assert_eq!(text.lines().count(), 3, "{text}");
        for part in [
            "`policy = \"independent\"`",
            "`path_length = 0`",
            "172800 s are asked for, and no proxy lives longer than 3600 s",
        ] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }
}
