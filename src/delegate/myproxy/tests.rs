use std::time::Duration;

use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::secret::Secret;

fn request(command: Command) -> Request {
    let phrase = Secret::new("a quiet walk".to_owned());
    Request::new(command, "john", phrase, Duration::from_secs(3600))
}

fn message(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

#[test]
fn a_request_is_written_as_real_clients_write_it() {
    assert_eq!(
        request(Command::Put).write().expose(),
        "VERSION=MYPROXYv2\nCOMMAND=1\nUSERNAME=john\nPASSPHRASE=a quiet walk\nLIFETIME=3600\n\0"
    );
}

#[test]
fn what_real_servers_answer_is_read() {
    let fine = Response::read(b"VERSION=MYPROXYv2\nRESPONSE=0\n").unwrap();
    assert_eq!(fine, Response::fine());
    let refused = Response::read(b"VERSION=MYPROXYv2\nRESPONSE=1\nERROR=no\tsuch\nERROR=user\n").unwrap();
    assert_eq!(refused.reply, Reply::Refused("no such; user".into()));
    let more = Response::read(b"VERSION=MYPROXYv2\nRESPONSE=2\nAUTHORIZATION_DATA=x:y\n").unwrap();
    assert_eq!(more.reply, Reply::MoreWanted);
}

#[test]
fn requests_that_read_in_two_ways_or_in_none_are_refused() {
    let read = |lines: &str| Request::read(format!("VERSION=MYPROXYv2\n{lines}").as_bytes());
    assert!(read("COMMAND=0\nUSERNAME=john\nLIFETIME=0\n").is_ok());
    assert!(read("COMMAND=7\nUSERNAME=\nPASSPHRASE=\nLIFETIME=0\n").is_ok());
    for (lines, unfit) in [
        ("COMMAND=0\nCOMMAND=1\nUSERNAME=john", Unfit::Twice("COMMAND")),
        (
            "COMMAND=0\nUSERNAME=john\nUSERNAME=mary",
            Unfit::Twice("USERNAME"),
        ),
        (
            "COMMAND=0\nUSERNAME=j\nPASSPHRASE=a\nPASSPHRASE=b",
            Unfit::Twice("PASSPHRASE"),
        ),
        ("COMMAND=8\nUSERNAME=john", Unfit::Value("COMMAND")),
        ("COMMAND=+0\nUSERNAME=john", Unfit::Value("COMMAND")),
        ("USERNAME=john", Unfit::Value("COMMAND")),
        ("COMMAND=0", Unfit::Value("USERNAME")),
        ("COMMAND=0\nUSERNAME=jo\thn", Unfit::Value("USERNAME")),
        ("COMMAND=0\nUSERNAME=john\nLIFETIME=-1", Unfit::Value("LIFETIME")),
        (
            "COMMAND=0\nUSERNAME=john\nLIFETIME=99999999999",
            Unfit::Value("LIFETIME"),
        ),
        ("COMMAND=0\nUSERNAME=john\nnothing", Unfit::Line),
    ] {
        assert_eq!(read(lines), Err(unfit), "{lines}");
    }
    assert_eq!(Request::read(b"COMMAND=0\nUSERNAME=john\n"), Err(Unfit::Version));
    assert_eq!(
        Request::read(b"VERSION=MYPROXYv1\nCOMMAND=0\n"),
        Err(Unfit::Version)
    );
    assert_eq!(read(&"A=b\n".repeat(LINES_MAX)), Err(Unfit::TooMany));
    assert_eq!(read("USERNAME=\u{fffd}\n").err(), Some(Unfit::Value("COMMAND")));
    assert_eq!(
        Request::read(b"VERSION=MYPROXYv2\nUSERNAME=\xff\n"),
        Err(Unfit::Line)
    );
}

#[test]
fn an_endless_line_is_refused_before_it_is_kept() {
    let mut inbox = Inbox::default();
    inbox.push(&[b'a'; LINE_MAX]);
    assert_eq!(inbox.message(), Ok(None));
    inbox.push(b"a");
    assert_eq!(inbox.message(), Err(Unfit::TooLong));
    let mut inbox = Inbox::default();
    let mut refused = false;
    for _ in 0..=MESSAGE_MAX / 4 {
        inbox.push(b"A=b\n");
        refused = inbox.message().is_err();
    }
    assert!(refused);
}

#[test]
fn a_chain_of_a_wrong_count_or_of_huge_certificates_is_refused() {
    let ask = |bytes: &[u8]| {
        let mut inbox = Inbox::default();
        inbox.push(bytes);
        inbox.chain()
    };
    assert_eq!(ask(&[0]), Err(Unfit::Count(0)));
    assert_eq!(ask(&[200, 0x30]), Err(Unfit::Count(200)));
    assert_eq!(ask(&[1, 0x30, 0x82, 0xff, 0xff]), Err(Unfit::Der));
    assert_eq!(ask(&[1, 0x30, 0x84, 0, 0, 0, 1]), Err(Unfit::Der));
    assert_eq!(ask(&[1, 0x30, 0x80]), Err(Unfit::Der), "no indefinite length");
    assert_eq!(ask(&[1, 0x04, 0]), Err(Unfit::Der));
    assert_eq!(ask(&[2, 0x30, 0]), Ok(None));
    assert_eq!(
        ask(&[2, 0x30, 0, 0x30, 1, 5]),
        Ok(Some(vec![vec![0x30, 0], vec![0x30, 1, 5]]))
    );
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        username in "[^\\p{Cc}]{1,40}", phrase in "[^\n\0]{0,80}", lifetime in 0_u64..4_000_000_000, number in 0_usize..8,
        trust_roots: bool, credential in proptest::option::of("[a-z]{1,9}"),
    ) {
        let command = [
            Command::Get, Command::Put, Command::Info, Command::Destroy,
            Command::ChangePassphrase, Command::Store, Command::Retrieve, Command::TrustRoots,
        ][number];
        let phrase = Secret::new(phrase);
        let asked = Request { trust_roots, credential, ..Request::new(command, &username, phrase, Duration::from_secs(lifetime)) };
        let written = asked.write();
        let text = written.expose();
        prop_assert_eq!(Request::read(&text.as_bytes()[..text.len() - 1]), Ok(asked));
        fuzz_request(text.as_bytes());
    }

    #[test]
    fn an_answer_is_read_as_it_was_written(reason in "[a-z ]{1,80}", names in proptest::collection::vec("[A-Z]{2,9}", 0..5)) {
        let mut response = Response::refused(reason);
        for name in &names {
            response = response.with(format!("CRED_{name}"), "1");
        }
        let text = response.write();
        prop_assert_eq!(Response::read(&text.as_bytes()[..text.len() - 1]), Ok(response));
        fuzz_response(text.as_bytes());
    }

    #[test]
    fn whatever_comes_is_judged_alike_in_pieces_of_every_size(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        fuzz_request(&bytes);
        fuzz_response(&bytes);
    }
}

/// A server that says `script`, one piece for each message that it is sent, and then holds the line or hangs up.
async fn server(mut stream: DuplexStream, script: Vec<Vec<u8>>, hangs_up: bool) -> Vec<u8> {
    let (mut heard, mut room) = (Vec::new(), [0; 4096]);
    let mut script = script.into_iter().peekable();
    loop {
        match stream.read(&mut room).await {
            Ok(0) | Err(_) => return heard,
            Ok(length) => heard.extend_from_slice(&room[..length]),
        }
        let whole = heard.len() > 1
            && (heard.ends_with(&[0]) || !heard[1..].starts_with(b"VERSION") || heard.contains(&0));
        if !whole {
            continue;
        }
        if let Some(piece) = script.next()
            && stream.write_all(&piece).await.is_err()
        {
            return heard;
        }
        if hangs_up && script.peek().is_none() {
            return heard;
        }
    }
}

async fn put(script: Vec<Vec<u8>>, hangs_up: bool, patience: Duration) -> (Result<(), ClientError>, Vec<u8>) {
    let (ours, theirs) = tokio::io::duplex(4096);
    let server = tokio::spawn(server(theirs, script, hangs_up));
    let done = async {
        let put = Client::begin(ours, patience)
            .await?
            .put(&request(Command::Put))
            .await?;
        assert!(!put.asked().spki().is_empty());
        put.finish(&[vec![0x30, 1, 7]]).await
    };
    let done = done.await;
    (done, server.await.unwrap())
}

fn certification_request() -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::new(Vec::new())
        .unwrap()
        .serialize_request(&key);
    request.unwrap().der().to_vec()
}

const FINE: &str = "VERSION=MYPROXYv2\nRESPONSE=0\n";
const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_credential_is_put_as_the_protocol_says() {
    // The lone NUL is what servers send first over TLS 1.3.
    let first = [&[0], &message(FINE)[..], &certification_request()].concat();
    let (done, heard) = put(vec![first, message(FINE)], false, LONG).await;
    done.unwrap();
    assert!(heard.starts_with(b"0VERSION=MYPROXYv2\nCOMMAND=1\n"));
    assert!(heard.ends_with(&[1, 0x30, 1, 7]));
}

#[tokio::test]
async fn a_server_that_refuses_breaks_off_or_says_nonsense_is_an_error_that_says_so() {
    let no = || message("VERSION=MYPROXYv2\nRESPONSE=1\nERROR=not\x1b[31m you\n");
    let said = |done: Result<(), ClientError>| done.unwrap_err().to_string();
    for (script, hangs_up, expected) in [
        (vec![no()], false, "it refused: not [31m you"),
        (vec![[message(FINE), no()].concat()], false, "it refused"),
        (
            vec![[message(FINE), certification_request()].concat(), no()],
            false,
            "it refused",
        ),
        (vec![], true, "the connection broke"),
        (vec![message(FINE)], true, "the connection broke"),
        (
            vec![b"HTTP/1.1 400 Bad Request\r\n\r\n\0".to_vec()],
            false,
            "protocol",
        ),
        (
            vec![[message(FINE), vec![0x30, 0x84, 9, 9, 9, 9]].concat()],
            false,
            "DER",
        ),
        (
            vec![[message(FINE), vec![0x30, 2, 5, 0]].concat()],
            false,
            "certification request",
        ),
        (vec![vec![b'a'; 100_000]], false, "longer than"),
    ] {
        let (done, _) = put(script, hangs_up, LONG).await;
        let text = said(done);
        assert!(text.contains(expected), "{text}");
    }
}

#[tokio::test]
async fn a_server_that_sends_a_byte_now_and_then_is_left_in_time() {
    let (ours, mut theirs) = tokio::io::duplex(4096);
    // Each byte comes soon enough; all of them together never end.
    let drip = tokio::spawn(async move {
        while theirs.write_all(b"V").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let client = Client::begin(ours, Duration::from_millis(200)).await.unwrap();
    let error = client.put(&request(Command::Put)).await.unwrap_err();
    assert!(matches!(error, ClientError::Late(_)), "{error}");
    drip.await.unwrap();
}

#[test]
fn only_words_that_say_that_nothing_is_there_are_taken_for_it() {
    let refused = |reason: &str| ClientError::Refused(reason.to_owned()).says_that_nothing_is_there();
    // What MyProxy 6.2 answers, as it comes out of its response.
    let response =
        Response::read(b"VERSION=MYPROXYv2\nRESPONSE=1\nERROR=Credentials do not exist. \n").unwrap();
    let Reply::Refused(reason) = response.reply else {
        panic!()
    };
    assert!(refused(&reason), "{reason}");
    assert!(refused("No credentials exist for username \"countersign-1\"."));
    assert!(refused(
        "no credentials found for user countersign-1, owner \"/O=Grid/CN=VO\""
    ));
    for other in [
        "",
        "try again later",
        "permission denied",
        "authorization failed",
        "Error checking credential existence",
        "it cannot be said whether credentials do not exist.",
        "credentials do not exist. No: the store is not mounted",
    ] {
        assert!(!refused(other), "{other}");
    }
    let late = ClientError::Late(std::time::Duration::from_secs(1));
    assert!(!late.says_that_nothing_is_there() && !ClientError::MoreWanted.says_that_nothing_is_there());
}
