//! A MyProxy server that is filled in the middle of a request, before the tool is called.

use std::sync::Arc;

use super::Act;
use super::end::{End, Failure};
use crate::audit::Receipt;
use crate::delegate::myproxy::{Command, Request};
use crate::delegate::{Credential, Left, Upload};
use crate::gateway::pipeline::Pipeline;
use crate::gateway::uploads::UploadError;
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{Ending, SignedEntry};
use crate::vo::{Upstream, UpstreamAddress};

/// Has removed from its server what was put there, when it is dropped: at the end of the request, however that came.
pub(super) struct Tidy {
    pipeline: Arc<Pipeline>,
    left: Option<Left>,
}

impl Drop for Tidy {
    fn drop(&mut self) {
        if let Some(left) = self.left.take() {
            let pipeline = self.pipeline.clone();
            let going = pipeline.acts.begin();
            going.go_on(async move { pipeline.tidy(&left).await });
        }
    }
}

impl Act {
    /// Fills the server, and gives what the tool is told of it.
    pub(super) async fn upload(&mut self, upload: Upload, receipt: &Receipt) -> Result<Credential, Failure> {
        let at = upload.left.upstream.clone();
        let filled = Box::pin(self.filled(upload, receipt)).await;
        let (credential, signed) = filled.map_err(|error| {
            let problem = match &error {
                UploadError::Delegate(error) => error.as_problem(),
                UploadError::Store(error) => error.as_problem(),
                error => Problem::new(
                    Kind::DelegationFailed,
                    format!("the MyProxy server `{at}` could not be filled: {error}"),
                ),
            };
            End::failure(Ending::Failed, problem)
        })?;
        self.signed = Some(signed);
        Ok(credential)
    }

    async fn filled(
        &mut self,
        upload: Upload,
        receipt: &Receipt,
    ) -> Result<(Credential, SignedEntry), UploadError> {
        let pipeline = self.pipeline.clone();
        let upstream = pipeline.myproxy_server(&upload.left)?;
        // INVARIANT: a name is noted before it is used, so that what a killed gateway leaves is found.
        pipeline.delegate.note_upload(&upload.left).await?;
        self.tidy = Some(Tidy {
            pipeline: pipeline.clone(),
            left: Some(upload.left.clone()),
        });
        let client = pipeline.myproxy(&upstream, upload.identity.clone()).await?;
        let request = Request::new(
            Command::Put,
            &upload.left.username,
            upload.passphrase().clone(),
            upload.lifetime,
        );
        let put = client.put(&request).await?;
        let (left, outside, passphrase, headers) = upload.into_parts();
        let intended = receipt.intended();
        let certified = pipeline
            .delegate
            .certify(outside, put.asked(), &pipeline.audit, &intended);
        let (chain, signed) = certified.await?;
        // Signed is signed, whether or not the server keeps it.
        self.signed = Some(signed.clone());
        put.finish(&chain).await?;
        let credential = Upload::told(passphrase, headers, &left.username, server(&upstream));
        Ok((credential, signed))
    }
}

/// The server as clients of it name it.
fn server(upstream: &Upstream) -> String {
    match &upstream.address {
        UpstreamAddress::Tcp(host, port) | UpstreamAddress::Tls { host, port, .. } => {
            format!("{host}:{port}")
        }
        UpstreamAddress::Unix(path) => path.display().to_string(),
    }
}
