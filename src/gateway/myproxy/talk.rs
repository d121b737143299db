//! One conversation with a MyProxy client.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, error::Elapsed, timeout_at};
use zeroize::Zeroizing;

use super::ask::{Asker, Known, No};
use super::roots::Roots;
use crate::delegate::myproxy::{Command, Inbox, Request, Response, Unfit, chain};

/// Why a client was left.
#[derive(Debug, thiserror::Error)]
pub(super) enum TalkError {
    #[error("{0}")]
    Broken(#[from] std::io::Error),
    #[error("it took too long")]
    Late,
    #[error("{0}")]
    Unfit(#[from] Unfit),
}

impl From<Elapsed> for TalkError {
    fn from(_: Elapsed) -> Self {
        Self::Late
    }
}

/// INVARIANT: nothing of the client's is waited for past `until`, but what was begun for her is always ended: this future is
/// never dropped half way.
pub(super) struct Talk<'a, S> {
    stream: S,
    until: Instant,
    inbox: Inbox,
    asker: Asker,
    roots: &'a Roots,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Talk<'a, S> {
    pub(super) fn new(stream: S, until: Instant, asker: Asker, roots: &'a Roots) -> Self {
        Self {
            stream,
            until,
            inbox: Inbox::default(),
            asker,
            roots,
        }
    }

    /// Hears one request and answers it; says something first where it `greets`.
    pub(super) async fn run(mut self, greets: bool) -> Result<(), TalkError> {
        if greets {
            self.write(&[0]).await?;
        }
        let answered = self.answer().await;
        // Whoever speaks the protocol at all hears what was wrong.
        if let Err(TalkError::Unfit(unfit)) = &answered {
            self.say(Response::refused(unfit.to_string())).await?;
        }
        if !matches!(answered, Err(TalkError::Broken(_) | TalkError::Late)) {
            timeout_at(self.until, self.stream.shutdown()).await??;
        }
        answered
    }

    async fn answer(&mut self) -> Result<(), TalkError> {
        let request = self.request().await?;
        match request.command {
            Command::Get => self.get(&request).await,
            Command::Info => self.say(info(&request)).await,
            Command::TrustRoots => {
                let answer = self.roots.answer().await;
                self.write(answer.as_bytes()).await
            }
            Command::Put
            | Command::Destroy
            | Command::ChangePassphrase
            | Command::Store
            | Command::Retrieve => {
                let words = "this server keeps no credentials; it answers `myproxy-logon`, `myproxy-info` and \
                             `myproxy-get-trustroots`";
                self.say(Response::refused(words)).await
            }
        }
    }

    async fn request(&mut self) -> Result<Request, TalkError> {
        loop {
            match self.inbox.byte() {
                Some(b'0') => break,
                Some(_) => return Err(Unfit::Begin.into()),
                None => self.read().await?,
            }
        }
        loop {
            match self.inbox.message()? {
                Some(message) => return Ok(Request::read(&Zeroizing::new(message))?),
                None => self.read().await?,
            }
        }
    }

    /// Signs somebody in, certifies her key, signs her out.
    async fn get(&mut self, request: &Request) -> Result<(), TalkError> {
        if request.attributes {
            let words = "attributes (VOMS) are not given here";
            return self.say(Response::refused(words)).await;
        }
        let known = match self.asker.sign_in(&request.username, &request.passphrase).await {
            Ok(known) => known,
            Err(No { why, .. }) => return self.say(Response::refused(why)).await,
        };
        let done = self.delegate(request, &known).await;
        self.asker.sign_out(&known).await;
        done
    }

    async fn delegate(&mut self, request: &Request, known: &Known) -> Result<(), TalkError> {
        let vo = match self.asker.vo(known, request.credential.as_deref()).await {
            Ok(vo) => vo,
            Err(No { why, .. }) => return self.say(Response::refused(why)).await,
        };
        match request.trust_roots {
            true => {
                // In one piece: a client that finds the head alone takes it for the whole.
                let answer = self.roots.answer().await;
                self.write(answer.as_bytes()).await?;
            }
            false => self.say(Response::fine()).await?,
        }
        let key = loop {
            match self.inbox.request()? {
                Some(key) => break key,
                None => self.read().await?,
            }
        };
        let seconds = request.lifetime.as_secs();
        match self.asker.download(known, &vo, &key, seconds).await {
            Err(No { why, .. }) => self.say(Response::refused(why)).await,
            Ok(certificates) => {
                let bytes = chain(&certificates).ok_or(Unfit::Count(0))?;
                self.write(&bytes).await?;
                self.say(Response::fine()).await
            }
        }
    }

    async fn say(&mut self, response: Response) -> Result<(), TalkError> {
        self.write(response.write().as_bytes()).await
    }

    /// Writes one piece. Clients tell pieces apart by the records of TLS, so each goes out on its own.
    async fn write(&mut self, bytes: &[u8]) -> Result<(), TalkError> {
        let written = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        Ok(timeout_at(self.until, written).await??)
    }

    async fn read(&mut self) -> Result<(), TalkError> {
        let mut room = Zeroizing::new([0; 2 * 1024]);
        let read = self.stream.read(&mut *room);
        match timeout_at(self.until, read).await?? {
            0 => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
            length => {
                self.inbox.push(room.get(..length).unwrap_or_default());
                Ok(())
            }
        }
    }
}

/// What is told of a name, whoever asks and whether or not anybody has it: nothing is kept, a proxy is made for whoever
/// logs on.
fn info(request: &Request) -> Response {
    Response::fine()
        .with("CRED_DESC", "made for whoever logs on")
        .with("CRED_START_TIME", "0")
        .with("CRED_END_TIME", "0")
        .with("CRED_OWNER", request.username.clone())
}
