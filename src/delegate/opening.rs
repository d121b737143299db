//! Where the keys of VO certificates are opened: from their envelopes, or on the tokens that hold them.

use std::sync::Arc;

use crate::id::VoId;
use crate::record::Change;
use crate::store::Tx;
use crate::trust::certificate::{self, Checked, Opened, Source, Use, VoCertificate};
use crate::trust::client::Trust;
use crate::trust::seal::SealingKey;
use crate::trust::signer::{SignError, Signer};
use crate::trust::token::{TokenKey, Tokens, Uri};
use crate::vo::Directory;

use super::{Delegate, DelegateError, Imported};

/// What opens the key of a VO certificate.
pub(super) struct Opening<'d> {
    pub(super) sealing: Option<&'d SealingKey>,
    pub(super) tokens: &'d Tokens,
    pub(super) directory: &'d Directory,
}

impl Opening<'_> {
    /// The key. One on a token is not looked for before it signs.
    pub(super) fn signer(&self, certificate: &VoCertificate) -> Result<Arc<dyn Signer>, DelegateError> {
        match certificate.open(self.sealing)? {
            Opened::Here(key) => Ok(key),
            Opened::OnToken(uri) => {
                let vo = self.directory.vo(certificate.vo);
                let name = vo.map_or("", |vo| vo.name.as_str());
                let (algorithm, spki) = (certificate.facts.algorithm, certificate.spki());
                Ok(Arc::new(self.tokens.key(name, &uri, algorithm, spki)?))
            }
        }
    }
}

impl Delegate {
    /// The key of a VO certificate.
    pub(super) fn signer(&self, certificate: &VoCertificate) -> Result<Arc<dyn Signer>, DelegateError> {
        let opening = Opening {
            sealing: self.sealing.as_ref(),
            tokens: &self.tokens,
            directory: &self.directory.load(),
        };
        opening.signer(certificate)
    }

    /// Checks a VO's certificate whose key is on a token, and has the token show that it is. For [`Delegate::import_checked`].
    ///
    /// # Errors
    /// [`DelegateError::Flaws`], [`DelegateError::Uri`]; [`DelegateError::NotOnToken`] when the token is not the VO's, is away,
    /// refuses, or holds another key or one that can leave it.
    pub async fn check_on_token(
        &self,
        vo: &str,
        certificate: Source<'_>,
        uri: &str,
    ) -> Result<Checked, DelegateError> {
        let uri = Uri::parse(uri.trim())?;
        let checked = certificate::check_certificate(certificate, &**self.ids.clock())?;
        let (algorithm, spki) = (checked.facts().algorithm, checked.spki());
        let key = self
            .tokens
            .key(vo, &uri, algorithm, spki)
            .map_err(DelegateError::NotOnToken)?;
        prove(key).await?;
        Ok(checked.on_token(&uri))
    }

    /// Checks a VO's certificate and key, seals the key, and makes them the VO's for this use; those before end. After the
    /// commit, [`Delegate::load`] takes them into use: requests under way keep what they have.
    ///
    /// # Errors
    /// [`DelegateError::Flaws`] with everything that is wrong; [`DelegateError::NamedAlike`] when a certificate for another
    /// use has, or had, the same subject; [`DelegateError::Seal`] while the gateway is sealed.
    pub async fn import_certificate(
        &self,
        tx: &mut Tx,
        named: (VoId, Use),
        certificate: Source<'_>,
        key: Source<'_>,
        trust: Option<&Trust>,
    ) -> Result<Imported, DelegateError> {
        let checked = certificate::check(certificate, key, &**self.ids.clock())?;
        self.import_checked(tx, named, certificate.name, checked, trust)
            .await
    }
}

async fn prove(key: TokenKey) -> Result<(), DelegateError> {
    // A token takes its time: no business of a lane.
    let shown = tokio::task::spawn_blocking(move || key.prove()).await;
    match shown.unwrap_or(Err(SignError::Refused)) {
        Ok(()) => Ok(()),
        Err(SignError::Token(error)) => Err(DelegateError::NotOnToken(error)),
        Err(error) => Err(DelegateError::Mint(error.into())),
    }
}

/// Where the key of a certificate that was imported is, for its record.
pub(super) fn noted(change: &mut Change, token: Option<String>) {
    if let (Some(after), Some(token)) = (
        change.after.as_mut().and_then(|after| after.as_object_mut()),
        token,
    ) {
        after.insert("token".to_owned(), token.into());
    }
}
