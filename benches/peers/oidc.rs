//! A sign-in by OpenID Connect at mod_auth_openidc: the provider's part and the browser's.

use std::collections::HashMap;

use aws_lc_rs::hmac;
use countersign::clock::{Clock, SystemClock};
use data_encoding::BASE64URL_NOPAD;
use http::header::{ACCEPT, CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use http::{HeaderMap, Method, StatusCode};

use crate::path::load::{Ask, Client, Protocol};

/// The secret that Apache shares with the provider, and with nobody else.
pub(crate) const SECRET: &str = "forty-two-bytes-that-are-no-secret-at-all";

/// Signs in; the cookie of the session.
pub(crate) async fn sign_in(client: &Client, path: &str) -> String {
    // Only somebody who reads HTML is sent to sign in.
    let browser = vec![(ACCEPT, "text/html".to_owned())];
    let first = ask(client, Ask::new(Method::GET, path, browser, StatusCode::FOUND)).await;
    let location = first[LOCATION].to_str().expect("a location");
    let (_, query) = location.split_once('?').expect("a query");
    let query: HashMap<_, _> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let form = format!("id_token={}&state={}", id_token(query["nonce"]), query["state"]);
    let headers = vec![
        (COOKIE, cookies(&first)),
        (CONTENT_TYPE, "application/x-www-form-urlencoded".to_owned()),
    ];
    let mut answer = Ask::new(Method::POST, "/redirect", headers, StatusCode::FOUND);
    answer.sends = form.len() as u64;
    let client = client.sending(form.into());
    cookies(&ask(&client, answer).await)
}

async fn ask(client: &Client, ask: Ask) -> HeaderMap {
    let mut connection = client.open(Protocol::Http1).await.expect("a connection");
    let answer = connection.answer(&ask, 0).await.expect("an answer");
    assert_eq!(answer.status(), ask.status, "{:?}", answer.headers());
    answer.headers().clone()
}

/// What a browser sends back; cookies that the answer takes away are not.
fn cookies(headers: &HeaderMap) -> String {
    let set = headers.get_all(SET_COOKIE).iter();
    let pairs = set.filter_map(|cookie| cookie.to_str().ok()?.split(';').next());
    pairs
        .filter(|pair| !pair.ends_with('='))
        .collect::<Vec<_>>()
        .join("; ")
}

/// A token for Anna, signed with the shared secret (HS256).
fn id_token(nonce: &str) -> String {
    let now = SystemClock::new().now().secs();
    let claims = serde_json::json!({
        "iss": "https://provider.example.org",
        "aud": "bench",
        "sub": "anna",
        "nonce": nonce,
        "iat": now,
        "exp": now + 3600,
    });
    let part = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
    let signed = format!(
        "{}.{}",
        part(r#"{"alg":"HS256","typ":"JWT"}"#),
        part(&claims.to_string())
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = BASE64URL_NOPAD.encode(hmac::sign(&key, signed.as_bytes()).as_ref());
    format!("{signed}.{signature}")
}
