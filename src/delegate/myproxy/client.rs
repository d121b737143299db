//! Speaks to a MyProxy server, over a connection that somebody else has made.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::{Inbox, Reply, Request, Response, Unfit, chain};
use crate::delegate::pkcs10::{Asked, RequestError};

/// Why a server did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It said no.
    #[error("it refused: {0}")]
    Refused(String),
    /// It wants another proof.
    #[error("it wants another proof of who asks than a certificate")]
    MoreWanted,
    /// It does not speak the protocol.
    #[error("it does not keep to the protocol: {0}")]
    Unfit(#[from] Unfit),
    /// It asked for something that is not certified.
    #[error("{0}")]
    Request(#[from] RequestError),
    /// It took too long.
    #[error("it took longer than {} s in all", .0.as_secs())]
    Late(Duration),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(std::io::Error),
}

impl ClientError {
    /// Whether a server that was to remove something says, in the words of MyProxy 6, that it keeps nothing of that name. The
    /// protocol has no code for it (GFD-E.54), and a refusal for any other reason must not be taken for it.
    #[must_use]
    pub fn says_that_nothing_is_there(&self) -> bool {
        let Self::Refused(reason) = self else { return false };
        let reason = reason.trim().to_ascii_lowercase();
        matches!(
            reason.as_str(),
            "credentials do not exist." | "credentials do not exist"
        ) || reason.starts_with("no credentials exist for username")
            || reason.starts_with("no credentials exist with username")
            || reason.starts_with("no credentials found for user ")
    }
}

/// A conversation with a server, which ends within a time, however slowly the server speaks.
#[derive(Debug)]
pub struct Client<S> {
    stream: S,
    inbox: Inbox,
    patience: Duration,
    until: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Begins a conversation that takes no longer than `patience` in all.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn begin(stream: S, patience: Duration) -> Result<Self, ClientError> {
        let mut client = Self {
            stream,
            inbox: Inbox::default(),
            patience,
            until: Instant::now() + patience,
        };
        // Nothing is delegated within the handshake.
        client.write(b"0").await?;
        Ok(client)
    }

    /// Offers a credential; the server answers with the request for its certificate.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put(mut self, request: &Request) -> Result<Put<S>, ClientError> {
        self.ask(request).await?;
        let der = loop {
            // Where it cannot make a key it says so instead.
            if self.inbox.peek() == Some(b'V') {
                self.answered().await?;
                return Err(Unfit::Der.into());
            }
            match self.inbox.request()? {
                Some(der) => break der,
                None => self.read().await?,
            }
        };
        let asked = Asked::read(&der)?;
        Ok(Put { client: self, asked })
    }

    /// Has done what takes no more than a request: removes what is kept under a name.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ask(&mut self, request: &Request) -> Result<Response, ClientError> {
        self.write(request.write().expose().as_bytes()).await?;
        self.answered().await
    }

    async fn answered(&mut self) -> Result<Response, ClientError> {
        let message = loop {
            match self.inbox.message()? {
                Some(message) => break message,
                None => self.read().await?,
            }
        };
        let response = Response::read(&message)?;
        match response.reply {
            Reply::Fine => Ok(response),
            Reply::Refused(reason) => Err(ClientError::Refused(reason)),
            Reply::MoreWanted => Err(ClientError::MoreWanted),
        }
    }

    async fn read(&mut self) -> Result<(), ClientError> {
        let mut room = [0; 2 * 1024];
        let late = |_| ClientError::Late(self.patience);
        let read = timeout_at(self.until, self.stream.read(&mut room))
            .await
            .map_err(late)?;
        match read.map_err(ClientError::Broken)? {
            0 => Err(ClientError::Broken(std::io::ErrorKind::UnexpectedEof.into())),
            length => {
                self.inbox.push(room.get(..length).unwrap_or_default());
                Ok(())
            }
        }
    }

    /// Writes one message. Servers tell messages apart by the records of TLS, so each goes out on its own.
    async fn write(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        let written = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        let written = timeout_at(self.until, written).await;
        written
            .map_err(|_| ClientError::Late(self.patience))?
            .map_err(ClientError::Broken)
    }
}

/// A server that waits for the certificate of a key that it has made.
#[derive(Debug)]
pub struct Put<S> {
    client: Client<S>,
    asked: Asked,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Put<S> {
    /// The key.
    pub const fn asked(&self) -> &Asked {
        &self.asked
    }

    /// Delegates: the certificate of the key, then those above it. When it returns, the server keeps the credential.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn finish(mut self, certificates: &[Vec<u8>]) -> Result<(), ClientError> {
        let chain = chain(certificates).ok_or(Unfit::Count(0))?;
        self.client.write(&chain).await?;
        self.client.answered().await.map(|_| ())
    }
}
