//! What commands read: files, moments, and secrets, which never stand among the arguments.

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use super::failure::Failure;
use crate::clock::Timestamp;
use crate::secret::Secret;

/// Largest file that a command sends or reads whole, in bytes.
const LONGEST: u64 = 64 * 1024 * 1024;

/// Why something is done that stands in the audit log with its reason.
#[derive(Debug, clap::Args)]
pub(crate) struct Reason {
    /// Why, for the audit log: 1 to 500 characters, without names of patients and the like. The gateway asks for it unless
    /// its settings say otherwise.
    #[arg(long, env = "COUNTERSIGN_REASON", hide_env_values = true, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

/// A moment as the command line takes it.
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).map_err(|_| "give a date and time such as 2030-01-31T12:00:00Z".to_owned())
}

/// The bytes of a file; `-` is standard input.
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let shown = if path == Path::new("-") {
        "standard input".to_owned()
    } else {
        format!("`{}`", path.display())
    };
    let mut bytes = Vec::new();
    let read = match path == Path::new("-") {
        true => io::stdin().lock().take(LONGEST + 1).read_to_end(&mut bytes),
        false => fs::File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes)),
    };
    read.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::not_found(format!("there is no file {shown}")),
        _ => Failure::failed(format!("cannot read {shown}: {error}")),
    })?;
    if bytes.len() as u64 > LONGEST {
        return Err(Failure::failed(format!("{shown} is longer than 64 MiB")));
    }
    Ok(bytes)
}

/// The text of a file; `-` is standard input.
pub(crate) fn text_file(path: &Path) -> Result<String, Failure> {
    String::from_utf8(bytes(path)?)
        .map_err(|_| Failure::failed(format!("`{}` is not text in UTF-8", path.display())))
}

/// A secret from a file (without the line end that closes it); `-` is standard input.
pub(crate) fn secret_file(path: &Path) -> Result<Secret<String>, Failure> {
    let whole = Secret::new(text_file(path)?);
    let text = whole.expose().strip_suffix('\n').unwrap_or(whole.expose());
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(Failure::usage(format!("`{}` is empty", path.display())));
    }
    Ok(Secret::new(text.to_owned()))
}

/// Whether somebody can be asked.
pub(crate) fn asks() -> bool {
    io::stdin().is_terminal()
}

/// A password: from a file, else asked for on the terminal.
pub(crate) fn password(file: Option<&Path>, prompt: &str, option: &str) -> Result<Secret<String>, Failure> {
    match file {
        Some(file) => secret_file(file),
        None if asks() => ask(prompt),
        None => Err(
            Failure::usage("a password is needed, and there is no terminal to ask on")
                .hint(format!("give it with {option} FILE (- for standard input)")),
        ),
    }
}

/// A new password: from a file, else asked for twice on the terminal.
pub(crate) fn new_password(file: Option<&Path>) -> Result<Secret<String>, Failure> {
    if file.is_some() || !asks() {
        return password(file, "", "--new-password-file");
    }
    for _ in 0..3 {
        let first =
            ask("New password (at least 15 characters, or 8 beside a second factor; a phrase is fine): ")?;
        if first == ask("The same again: ")? {
            return Ok(first);
        }
        eprint("These two differ. Try again.");
    }
    Err(Failure::failed("no new password was chosen"))
}

/// A code of a second factor, or a recovery code: from a file, else asked for on the terminal.
pub(crate) fn code(file: Option<&Path>) -> Result<Secret<String>, Failure> {
    match file {
        Some(file) => secret_file(file),
        None if asks() => ask("Code of your authenticator, or a recovery code: "),
        None => Err(Failure::usage(
            "a code of your second factor is needed, and there is no terminal to ask on",
        )
        .hint("give it with --code-file FILE (- for standard input)")),
    }
}

fn ask(prompt: &str) -> Result<Secret<String>, Failure> {
    let answer = rpassword::prompt_password(prompt)
        .map_err(|error| Failure::failed(format!("the terminal cannot be asked: {error}")))?;
    Ok(Secret::new(answer))
}

fn eprint(text: &str) {
    super::output::Output::new(false).note(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_loses_the_line_end_that_closes_it_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        for (written, read) in [("a b \n", "a b "), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a", " a")] {
            fs::write(&file, written).unwrap();
            assert_eq!(secret_file(&file).unwrap().expose(), read);
        }
        fs::write(&file, "\n").unwrap();
        assert_eq!(secret_file(&file).unwrap_err().code, 2);
        assert_eq!(secret_file(&folder.path().join("none")).unwrap_err().code, 4);
    }

    #[test]
    fn a_moment_is_rfc_3339() {
        assert_eq!(
            moment("2030-01-31T12:00:00Z").unwrap().to_string(),
            "2030-01-31T12:00:00Z"
        );
        assert!(moment("tomorrow").is_err());
    }
}
