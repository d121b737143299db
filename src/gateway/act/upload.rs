//! A MyProxy server that is filled in the middle of a request, before the tool is called.

use std::sync::Arc;

use super::Act;
use super::end::{End, Failure};
use crate::audit::Receipt;
use crate::delegate::myproxy::{Command, Request};
use crate::delegate::{Credential, DelegateError, Left, Slot, Upload};
use crate::gateway::pipeline::Pipeline;
use crate::gateway::uploads::{Got, UploadError};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{Ending, SignedEntry};
use crate::vo::{Upstream, UpstreamAddress};

/// Has removed from its server what was put there, when it is dropped: at the end of the request, however that came.
pub(super) struct Tidy {
    pipeline: Arc<Pipeline>,
    /// How far it got.
    got: Got,
    left: Option<(Left, Slot)>,
}

impl Drop for Tidy {
    fn drop(&mut self) {
        if let Some((left, slot)) = self.left.take() {
            let (pipeline, got) = (self.pipeline.clone(), self.got);
            let going = pipeline.acts.begin();
            going.go_on(async move { pipeline.tidy(left, slot, got).await });
        }
    }
}

/// What comes of filling a server, also when that is broken off.
#[derive(Default)]
struct Filling {
    signed: Option<SignedEntry>,
    tidy: Option<Tidy>,
}

impl Act {
    /// Fills the server, for as long as the lease holds, and gives what the tool is told of it.
    pub(super) async fn upload(&mut self, upload: Upload, receipt: &Receipt) -> Result<Credential, Failure> {
        let (pipeline, at) = (self.pipeline.clone(), upload.left.upstream.clone());
        let mut filling = Filling::default();
        let filled = self.lease.during(filling.run(&pipeline, upload, receipt)).await;
        // Signed is signed, and put is put, whatever came of it.
        (self.signed, self.tidy) = (filling.signed, filling.tidy);
        filled?.map_err(|error| {
            let problem = match &error {
                // The server asked for it, not who is answered.
                UploadError::Delegate(error) if !matches!(error, DelegateError::KnownKey) => {
                    error.as_problem()
                }
                UploadError::Store(error) => error.as_problem(),
                error => Problem::new(
                    Kind::DelegationFailed,
                    format!("the MyProxy server `{at}` could not be filled: {error}"),
                ),
            };
            End::failure(Ending::Failed, problem)
        })
    }
}

impl Filling {
    async fn run(
        &mut self,
        pipeline: &Arc<Pipeline>,
        upload: Upload,
        receipt: &Receipt,
    ) -> Result<Credential, UploadError> {
        let upstream = pipeline.myproxy_server(&upload.left)?;
        let request = Request::new(
            Command::Put,
            &upload.left.username,
            upload.passphrase().clone(),
            upload.lifetime,
        );
        let identity = upload.identity.clone();
        let (upload, slot) = upload.into_parts();
        // INVARIANT: a name is noted before it is used, so that what a killed gateway leaves is found.
        let tidy = self.tidy.insert(Tidy {
            pipeline: pipeline.clone(),
            got: Got::Nothing,
            left: Some((upload.left.clone(), slot)),
        });
        pipeline.delegate.note_upload(&upload.left).await?;
        let client = pipeline.myproxy(&upstream, identity).await?;
        let put = client.put(&request).await?;
        let intended = receipt.intended();
        let certified = pipeline
            .delegate
            .certify(upload.outside, put.asked(), &pipeline.audit, &intended);
        let (chain, signed) = certified.await?;
        self.signed = Some(signed);
        tidy.got = Got::Perhaps;
        put.finish(&chain).await?;
        tidy.got = Got::All;
        Ok(Upload::told(
            upload.passphrase,
            upload.headers,
            &upload.left.username,
            server(&upstream),
        ))
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
