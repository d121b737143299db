//! A PKCS#11 module and the one thread that speaks with it.
//!
//! A module is foreign code that may take its time, so nobody else waits inside it: whoever wants a signature leaves the
//! question with the thread and waits for as long as he likes. The thread opens what it needs when it is first asked, keeps
//! it open, and opens it anew when something fails: a token that is back is found again.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;

use crate::clock::Clock;
use crate::record::Hash;
use crate::secret;

use super::uri::Uri;
use super::{TokenConfig, TokenError};

/// Questions that may wait for one module, and those of one entry of the settings among them.
const WAITING: usize = 64;
const WAITING_OF_ONE: usize = 16;
/// A module is not opened anew more often: who signs with another token of it waits meanwhile.
const SELDOM: Duration = Duration::from_secs(5);

/// How a token is to sign.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// RSASSA-PKCS1-v1_5 with SHA-256, of a message.
    Pkcs1,
    /// ECDSA, of a digest.
    Ecdsa,
}

impl Way {
    fn mechanism(self) -> Mechanism<'static> {
        match self {
            Self::Pkcs1 => Mechanism::Sha256RsaPkcs,
            Self::Ecdsa => Mechanism::Ecdsa,
        }
    }
}

/// What a token is asked.
struct Question {
    token: Arc<TokenConfig>,
    key: Uri,
    way: Way,
    data: Vec<u8>,
    answer: SyncSender<Result<Vec<u8>, TokenError>>,
}

/// A module, opened when it is first asked.
pub(super) struct Module {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    questions: Mutex<Option<SyncSender<Question>>>,
    /// How many wait, by the name of their entry.
    waiting: Mutex<HashMap<String, usize>>,
}

/// A question that waits, counted until it is answered or given up.
pub(super) struct Waits<'a>(&'a Module, &'a str);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if let Some(count) = self.0.held().get_mut(self.1) {
            *count = count.saturating_sub(1);
        }
    }
}

impl Module {
    pub(super) fn new(path: &Path, clock: Arc<dyn Clock>) -> Self {
        Self {
            path: path.to_owned(),
            clock,
            questions: Mutex::default(),
            waiting: Mutex::default(),
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a question; `None` where too many of the entry wait already.
    pub(super) fn waits<'a>(&'a self, name: &'a str) -> Option<Waits<'a>> {
        let mut waiting = self.held();
        let count = waiting.entry(name.to_owned()).or_default();
        if *count >= WAITING_OF_ONE {
            return None;
        }
        *count += 1;
        Some(Waits(self, name))
    }

    /// Has a token sign, and waits for it: at most `patience`.
    pub(super) fn sign(
        &self,
        token: &Arc<TokenConfig>,
        key: &Uri,
        (way, data): (Way, Vec<u8>),
        patience: Duration,
    ) -> Result<Vec<u8>, TokenError> {
        let (answer, answered) = sync_channel(1);
        let question = Question {
            token: token.clone(),
            key: key.clone(),
            way,
            data,
            answer,
        };
        let slow = || TokenError::Slow(token.name.clone());
        let _waits = self.waits(&token.name).ok_or_else(slow)?;
        let asked = self.questions(token)?.try_send(question);
        asked.map_err(|_| slow())?;
        answered.recv_timeout(patience).unwrap_or_else(|_| Err(slow()))
    }

    /// Where questions are left; begins the thread with the first.
    fn questions(&self, token: &TokenConfig) -> Result<SyncSender<Question>, TokenError> {
        let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(questions) = &*questions {
            return Ok(questions.clone());
        }
        let (send, receive) = sync_channel(WAITING);
        let mut desk = Desk {
            path: self.path.clone(),
            clock: self.clock.clone(),
            context: None,
            open: HashMap::new(),
            refused: HashMap::new(),
            opened: None,
        };
        let thread = std::thread::Builder::new().name("pkcs11".to_owned());
        thread.spawn(move || desk.run(&receive)).map_err(|error| {
            tracing::error!("no thread for the PKCS#11 module: {error}");
            TokenError::Module(token.name.clone())
        })?;
        Ok(questions.insert(send).clone())
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Module({})", self.path.display())
    }
}

/// A token with a session that is logged in, and the keys that were found on it.
struct Open {
    session: Session,
    keys: HashMap<Uri, ObjectHandle>,
}

/// What the thread has.
struct Desk {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    context: Option<Pkcs11>,
    /// Tokens by their name in the settings.
    open: HashMap<String, Open>,
    /// The PINs that tokens refused.
    refused: HashMap<String, Hash>,
    /// When the module was opened.
    opened: Option<Duration>,
}

impl Desk {
    /// Answers until nobody can ask any more.
    fn run(&mut self, questions: &Receiver<Question>) {
        for question in questions {
            let answer = self.answer(&question);
            if let Err(error) = &answer {
                tracing::error!("{error}");
            }
            // Whoever asked may have gone.
            let _ = question.answer.send(answer);
        }
        self.close();
    }

    fn answer(&mut self, question: &Question) -> Result<Vec<u8>, TokenError> {
        match self.sign(question) {
            Err(error) if error.may_pass() && self.may_open_anew() => {
                // A session that broke, or a token that was away when the module looked for it.
                self.close();
                self.sign(question)
            }
            answer => answer,
        }
    }

    fn may_open_anew(&self) -> bool {
        let now = self.clock.monotonic();
        self.opened
            .is_none_or(|opened| now.saturating_sub(opened) >= SELDOM)
    }

    fn sign(&mut self, question: &Question) -> Result<Vec<u8>, TokenError> {
        let name = &question.token.name;
        if !self.open.contains_key(name) {
            let session = self.log_in(question)?;
            let keys = HashMap::new();
            self.open.insert(name.clone(), Open { session, keys });
        }
        let Some(open) = self.open.get_mut(name) else {
            return Err(TokenError::Absent(name.clone()));
        };
        let key = match open.keys.get(&question.key) {
            Some(key) => *key,
            None => {
                let key = find(&open.session, question)?;
                open.keys.insert(question.key.clone(), key);
                key
            }
        };
        let signed = open.session.sign(&question.way.mechanism(), key, &question.data);
        signed.map_err(|error| {
            // The next question looks for everything anew.
            self.open.remove(name);
            refused(name, &error)
        })
    }

    fn log_in(&mut self, question: &Question) -> Result<Session, TokenError> {
        let token = &question.token;
        let name = &token.name;
        let slot = slot(self.context(name)?, question)?;
        let pin = secret::read_text(&token.pin_file).map_err(|error| {
            tracing::error!(
                "the PIN of the token `{name}` cannot be read from `{}`: {error}",
                token.pin_file.display()
            );
            TokenError::PinFile(name.clone())
        })?;
        let tried = Hash::of(pin.expose().as_bytes());
        // SECURITY: a token locks itself when a wrong PIN was tried a few times; so one is tried once.
        if self.refused.get(name) == Some(&tried) {
            return Err(TokenError::PinRefused(name.clone()));
        }
        let session = self
            .context(name)?
            .open_ro_session(slot)
            .map_err(|error| refused(name, &error))?;
        let entered = session.login(UserType::User, Some(&AuthPin::from(pin.expose().as_str())));
        match entered {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {
                self.refused.remove(name);
                Ok(session)
            }
            Err(Error::Pkcs11(
                RvError::PinIncorrect
                | RvError::PinInvalid
                | RvError::PinLenRange
                | RvError::PinExpired
                | RvError::PinLocked,
                _,
            )) => {
                tracing::error!(
                    "the token `{name}` did not take its PIN from `{}`",
                    token.pin_file.display()
                );
                self.refused.insert(name.clone(), tried);
                Err(TokenError::PinRefused(name.clone()))
            }
            Err(error) => Err(refused(name, &error)),
        }
    }

    /// The module, opened.
    fn context(&mut self, name: &str) -> Result<&Pkcs11, TokenError> {
        if self.context.is_none() {
            self.opened = Some(self.clock.monotonic());
            let opened = Pkcs11::new(&self.path).and_then(|module| {
                match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
                    Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(module),
                    Err(error) => Err(error),
                }
            });
            let opened = opened.map_err(|error| {
                tracing::error!(
                    "the PKCS#11 module `{}` cannot be used: {error}",
                    self.path.display()
                );
                TokenError::Module(name.to_owned())
            })?;
            self.context = Some(opened);
        }
        self.context
            .as_ref()
            .ok_or_else(|| TokenError::Module(name.to_owned()))
    }

    fn close(&mut self) {
        self.open.clear();
        if let Some(context) = self.context.take()
            && let Err(error) = context.finalize()
        {
            tracing::warn!(
                "the PKCS#11 module `{}` did not close: {error}",
                self.path.display()
            );
        }
    }
}

/// The slot of the token that the settings and the key's name mean.
fn slot(context: &Pkcs11, question: &Question) -> Result<Slot, TokenError> {
    let (name, key) = (&question.token.name, &question.key);
    let absent = || TokenError::Absent(name.clone());
    let slots = context
        .get_slots_with_token()
        .map_err(|error| refused(name, &error))?;
    let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
    let mut found = slots.into_iter().filter(|slot| {
        context.get_token_info(*slot).is_ok_and(|token| {
            token.label() == question.token.label
                && is(&key.serial, token.serial_number())
                && is(&key.model, token.model())
                && is(&key.manufacturer, token.manufacturer_id())
        })
    });
    match (found.next(), found.next()) {
        (Some(slot), None) => Ok(slot),
        (None, _) => Err(absent()),
        (Some(_), Some(_)) => Err(TokenError::Alike(name.clone())),
    }
}

/// The one private key of that name, which must not be able to leave its token.
fn find(session: &Session, question: &Question) -> Result<ObjectHandle, TokenError> {
    let (name, key) = (&question.token.name, &question.key);
    let object = key
        .object
        .as_ref()
        .map(|label| Attribute::Label(label.clone().into_bytes()));
    let id = key.id.as_ref().map(|id| Attribute::Id(id.clone()));
    let wanted: Vec<Attribute> = [Some(Attribute::Class(ObjectClass::PRIVATE_KEY)), object, id]
        .into_iter()
        .flatten()
        .collect();
    let found = session
        .find_objects(&wanted)
        .map_err(|error| refused(name, &error))?;
    let [found] = found.as_slice() else {
        return Err(TokenError::NoKey(name.clone()));
    };
    let said = session.get_attributes(*found, &[AttributeType::Extractable, AttributeType::Sensitive]);
    let said = said.map_err(|error| refused(name, &error))?;
    // SECURITY: a key that can be copied out of its token is no better kept there than in a file.
    let stays = said.contains(&Attribute::Extractable(false)) && said.contains(&Attribute::Sensitive(true));
    if stays {
        Ok(*found)
    } else {
        Err(TokenError::Extractable(name.clone()))
    }
}

/// SECURITY: what a module says stays in the log of the server.
fn refused(name: &str, error: &Error) -> TokenError {
    tracing::error!("the token `{name}` did not do it: {error}");
    TokenError::Refused(name.to_owned())
}
