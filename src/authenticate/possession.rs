//! Proof that the key of a certificate wants it linked: a signature over a text that is good for one gateway, one account and one
//! certificate, as `openssl dgst` makes it.

use data_encoding::{BASE64, HEXLOWER};

use crate::trust::chain::{self, EndEntity};

/// The first line of what is signed. Nothing else that a grid key signs begins so.
const TITLE: &str = "countersign certificate";

/// What a certificate is to be linked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account<'a> {
    /// The gateway's host name.
    pub gateway: &'a str,
    /// User name.
    pub username: &'a str,
}

impl Account<'_> {
    /// Checks `proof` (base64): the signature of [`Account::text`] by the end entity's key.
    ///
    /// # Errors
    /// What is wrong, with the command that makes the proof.
    pub(super) fn prove(&self, end_entity: &EndEntity, proof: Option<&str>) -> Result<(), String> {
        let signature = proof.map(|proof| BASE64.decode(proof.trim().as_bytes()));
        let is_signed = |signature: &[u8]| {
            let mut own = end_entity.chain.iter().take(1);
            own.any(|der| chain::key_signed(der, self.text(end_entity).as_bytes(), signature))
        };
        let flaw = match signature {
            Some(Ok(signature)) if is_signed(&signature) => return Ok(()),
            Some(Ok(_)) => "`proof` was not made by the key of this certificate for this account",
            Some(Err(_)) => "`proof` is not base64",
            None => "`proof` is missing",
        };
        Err(format!(
            "{flaw}; accepted: the signature that the holder of its key makes: {}",
            self.command(end_entity)
        ))
    }

    /// What is signed.
    fn text(&self, end_entity: &EndEntity) -> String {
        let (gateway, username) = (self.gateway, self.username);
        format!("{TITLE}\n{gateway}\n{username}\n{}\n", hex(end_entity))
    }

    /// What its person runs. Host and user names hold nothing that a shell would read.
    fn command(&self, end_entity: &EndEntity) -> String {
        format!(
            "printf '{TITLE}\\n%s\\n%s\\n%s\\n' {} {} {} | openssl dgst -sha256 -sign userkey.pem -out proof",
            self.gateway,
            self.username,
            hex(end_entity)
        )
    }
}

fn hex(end_entity: &EndEntity) -> String {
    HEXLOWER.encode(&end_entity.sha256.0)
}

#[cfg(test)]
mod tests {
    use rcgen::{
        CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SigningKey,
    };

    use super::*;

    fn end_entity(key: &KeyPair) -> EndEntity {
        let certificate = CertificateParams::default().self_signed(key).unwrap();
        chain::end_entity(&[certificate.der().to_vec()]).unwrap()
    }

    #[test]
    fn a_proof_is_of_the_certificates_own_key_for_this_gateway_account_and_certificate() {
        let account = Account {
            gateway: "gw.localhost",
            username: "john",
        };
        for kind in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384] {
            let (key, other) = (
                KeyPair::generate_for(kind).unwrap(),
                KeyPair::generate_for(kind).unwrap(),
            );
            let (own, renewed) = (end_entity(&key), end_entity(&key));
            let signed = |key: &KeyPair, text: String| BASE64.encode(&key.sign(text.as_bytes()).unwrap());
            let proof = signed(&key, account.text(&own));
            assert_eq!(account.prove(&own, Some(&proof)), Ok(()));
            assert_eq!(account.prove(&own, Some(&format!("{proof}\n"))), Ok(()));
            let elsewhere = Account {
                gateway: "gw.example.org",
                ..account
            };
            let zoe = Account {
                username: "zoe",
                ..account
            };
            let by_other = signed(&other, account.text(&own));
            for (account, end_entity, proof, flaw) in [
                (&elsewhere, &own, Some(proof.as_str()), "was not made by the key"),
                (&zoe, &own, Some(&proof), "was not made by the key"),
                (&account, &renewed, Some(&proof), "was not made by the key"),
                (&account, &own, Some(&by_other), "was not made by the key"),
                (&account, &own, Some(""), "was not made by the key"),
                (&account, &own, Some("no base64"), "is not base64"),
                (&account, &own, None, "is missing"),
            ] {
                let refused = account.prove(end_entity, proof).unwrap_err();
                assert!(
                    refused.contains(flaw) && refused.contains("openssl dgst -sha256 -sign"),
                    "{refused}"
                );
            }
        }
    }

    #[test]
    fn a_key_of_a_kind_that_no_grid_uses_proves_nothing() {
        let account = Account {
            gateway: "gw.localhost",
            username: "john",
        };
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let own = end_entity(&key);
        let proof = BASE64.encode(&key.sign(account.text(&own).as_bytes()).unwrap());
        assert!(account.prove(&own, Some(&proof)).is_err());
    }
}
