//! What a start needs and can be looked at without changing anything: `serve --check-config` and every start look at
//! the same, and say all of it at once.

use std::path::Path;

use crate::alert;
use crate::audit::{self, LogKey, syslog, witness};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::delegate::spool;
use crate::gateway::{self, MyProxyServer, Words};
use crate::secret;
use crate::telemetry::Exporter;
use crate::trust::chain::Anchors;
use crate::trust::seal::SealingKey;
use crate::trust::tls::{self, Identity};

/// What was found, a sentence each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// What keeps the gateway from starting.
    pub flaws: Vec<String>,
    /// What it starts with, and probably not as meant.
    pub warnings: Vec<String>,
}

/// Looks at everything that `config` names. Nothing is written, no address is taken, and the store is not opened.
#[must_use]
pub fn check(config: &Config, now: Timestamp) -> Checked {
    let mut found = Checked::default();
    found.identity(config, now);
    found.log(config);
    if let Some(listener) = &config.certificate_listener {
        found.trusted(&listener.trust);
    }
    if let Some(section) = &config.myproxy {
        found.take(MyProxyServer::new(section.clone()));
    }
    let records = config.data.join("keys/records.key");
    found.take(read_words(&records));
    found.take(config.store.check());
    found.take(alert::check(&config.alert, &config.data));
    found.take(Exporter::check(&config.telemetry.traces));
    found.take(config.gateway.bounds.clone().within(gateway::raise_file_limit()));
    for folder in &config.delegate.spool {
        let warning = found.take(spool::check(folder)).flatten();
        found.warnings.extend(warning);
    }
    for token in &config.delegate.token {
        if let Err(error) = secret::read_text(&token.pin_file) {
            let (name, file) = (&token.name, token.pin_file.display());
            let warning =
                format!("the token `{name}` signs nothing, its PIN cannot be read from `{file}`: {error}");
            found.warnings.push(warning);
        }
    }
    found.sealing(config);
    found.exposure(config);
    found
}

impl Checked {
    /// What was read, or else another flaw.
    fn take<T, E: std::fmt::Display>(&mut self, read: Result<T, E>) -> Option<T> {
        read.map_err(|error| self.flaws.push(error.to_string())).ok()
    }

    /// Certificate and key, and whether clients will take them.
    fn identity(&mut self, config: &Config, now: Timestamp) {
        let file = |path: &Path| config.data.join(path);
        let read = Identity::load(&file(&config.gateway.certificate), &file(&config.gateway.key));
        let Some(identity) = self.take(read) else {
            return;
        };
        // A certificate that clients refuse is no reason to serve nobody: the next one is taken up without a restart.
        if let Err(error) = identity.check_validity(now) {
            self.warnings.push(error.to_string());
        }
        let (name, shown) = (&config.gateway.name, config.gateway.certificate.display());
        if !identity.is_for(name) {
            self.warnings.push(format!(
                "the certificate in `{shown}` is not for `{name}`: clients will refuse this gateway; \
                 give it one for `{name}` and `*.{name}`, or another `[gateway] name`"
            ));
        } else if !identity.is_for(&format!("tool.{name}")) {
            self.warnings.push(format!(
                "the certificate in `{shown}` is not for `*.{name}`: browsers will refuse tools that have a host name"
            ));
        }
        self.take(tls::server_config(identity, &[]));
    }

    /// CAs and lists of the listener for certificates. They are no reason to serve nobody: it waits for better ones.
    fn trusted(&mut self, path: &Path) {
        if let Err(error) = Anchors::load(path) {
            self.warnings.push(format!(
                "nobody can sign in with a certificate, until this is mended (no restart is needed): {error}"
            ));
        }
    }

    /// The log's key and the place where it lies.
    fn log(&mut self, config: &Config) {
        self.take(LogKey::load(&config.data.join("keys/log.key")));
        self.take(audit::check(&config.audit));
        self.take(
            config
                .audit
                .witness
                .as_ref()
                .map_or(Ok(()), witness::Client::check),
        );
        for receiver in &config.audit.syslog {
            self.take(syslog::check(receiver));
        }
        let outside = config.audit.outside.as_deref().and_then(Path::parent);
        if let Some(folder) = outside.filter(|folder| !folder.is_dir()) {
            self.warnings.push(format!(
                "the folder `{}` of `[audit] outside` is not there: no checkpoint can be written into it",
                folder.display()
            ));
        }
    }

    fn sealing(&mut self, config: &Config) {
        if let Err(error) = SealingKey::load(&config.sealing_key) {
            self.warnings.push(format!(
                "the gateway starts sealed, tools that need a key are refused: {error}"
            ));
        }
        if config.sealing_key.starts_with(&config.data) {
            let warning = "the sealing key lies in the data folder; whoever takes the folder has both";
            self.warnings.push(warning.to_owned());
        }
    }

    fn exposure(&mut self, config: &Config) {
        let witness = config.audit.witness.as_ref();
        if witness.is_some_and(witness::Config::is_here) {
            self.warnings.push(
                "the witness of `[audit.witness]` is on this machine: whoever has the machine has both, so it counts for nothing"
                    .to_owned(),
            );
        }
        let leaves = config.audit.outside.is_some() || witness.is_some_and(|witness| !witness.is_here());
        if !leaves && config.alert.auditor.is_none() {
            self.warnings.push(
                "no checkpoint of the audit log leaves this machine: name an auditor (`[alert] auditor`), a witness \
                 (`[audit.witness]`) or a file elsewhere (`[audit] outside`)"
                    .to_owned(),
            );
        }
        if config.audit.allow_any_fs {
            self.warnings.push(
                "`[audit] allow_any_fs` is set: a crash may lose records that were acknowledged".to_owned(),
            );
        }
        if !config.gateway.listen.ip().is_loopback() && config.gateway.private_ca {
            self.warnings.push(
                "this gateway listens beyond loopback with a certificate of the private CA of first use"
                    .to_owned(),
            );
        }
    }
}

/// The key under which records hold what must not be read from them.
pub(super) fn read_words(path: &Path) -> Result<Words, String> {
    let shown = path.display();
    let text = secret::read_text(path).map_err(|error| format!("`{shown}` cannot be read: {error}"))?;
    Words::from_hex(text.expose()).ok_or_else(|| format!("`{shown}` must hold 64 hexadecimal digits"))
}
