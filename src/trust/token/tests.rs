use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

use super::*;
use crate::clock::SystemClock;
use crate::settings::testing;

fn config(name: &str, vo: &str, keys: &[&str]) -> TokenConfig {
    TokenConfig {
        name: name.to_owned(),
        module: "/nonexistent/module.so".into(),
        label: "cards".to_owned(),
        pin_file: "/nonexistent/pin".into(),
        vo: vo.to_owned(),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
    }
}

fn tokens(all: &[TokenConfig]) -> Tokens {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    Tokens::new(all, &clock)
}

#[test]
fn what_a_token_gives_becomes_what_stands_in_a_certificate() {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    // Often enough that some numbers begin with a zero, and some with a set bit.
    for round in 0..2_000_u32 {
        let message = round.to_be_bytes();
        #[expect(
            clippy::disallowed_methods,
            reason = "the signature is the library's own business"
        )]
        let fixed = pair.sign(&SystemRandom::new(), &message).unwrap();
        let der = ecdsa(fixed.as_ref()).unwrap();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, pair.public_key().as_ref());
        key.verify(&message, &der).unwrap();
    }
    assert!(ecdsa(&[1, 2, 3]).is_err());
}

#[test]
fn a_token_is_for_the_vos_that_the_settings_name_and_nobody_else() {
    let tokens = tokens(&[config("one", "imaging", &[]), config("two", "lab", &["vo"])]);
    let key = |vo: &str, uri: &str| tokens.key(vo, &Uri::parse(uri).unwrap(), Algorithm::P256, Vec::new());
    let uri = "pkcs11:token=cards;object=vo";
    assert_eq!(key("imaging", uri).unwrap().token.name, "one");
    assert_eq!(key("lab", uri).unwrap().token.name, "two");
    for (vo, uri) in [
        ("other", uri),
        ("imaging", "pkcs11:token=safe;object=vo"),
        // Those of others on the same token.
        ("lab", "pkcs11:token=cards;object=imaging"),
        ("lab", "pkcs11:token=cards;id=%01"),
    ] {
        let error = key(vo, uri).unwrap_err();
        assert!(matches!(error, TokenError::NotAllowed { .. }), "{error}");
    }
}

#[test]
fn a_module_that_is_not_there_keeps_nothing_from_starting_and_says_so_when_it_is_asked() {
    let tokens = tokens(&[config("one", "imaging", &[])]);
    let uri = Uri::parse("pkcs11:token=cards;object=vo").unwrap();
    let key = tokens
        .key("imaging", &uri, Algorithm::Rsa(2048), Vec::new())
        .unwrap();
    for _ in 0..3 {
        let error = key.sign(b"message").unwrap_err();
        assert_eq!(error, SignError::Token(TokenError::Module("one".to_owned())));
        assert!(!error.to_string().contains("nonexistent"), "{error}");
    }
}

#[test]
fn each_flaw_of_a_tokens_settings_is_told() {
    let flaws = |text: &str| {
        let read = |table: &mut Table<'_>| table.tables("token").into_iter().map(TokenConfig::read).count();
        testing::read(&format!("[[token]]\n{text}\n"), read).1.join("\n")
    };
    let good = "name = \"hsm\"\nmodule = \"/usr/lib/x.so\"\nlabel = \"cards\"\npin_file = \"pin\"\n";
    assert_eq!(flaws(&format!("{good}vo = \"imaging\"")), "");
    for (text, said) in [
        (good.to_owned(), "`token[0].vo` is missing"),
        (format!("{good}vo = \"A b\""), "`token[0].vo`"),
        (good.replace("/usr/lib/", "") + "vo = \"a\"", "`token[0].module`"),
        (good.replace("cards", "") + "vo = \"a\"", "`token[0].label`"),
        (
            format!("{good}vo = \"a\"\npin = \"1234\""),
            "unknown key `token[0].pin`",
        ),
    ] {
        assert!(flaws(&text).contains(said), "{text}: {}", flaws(&text));
    }
}

#[test]
fn one_entry_does_not_take_all_places_of_a_module() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let module = Module::new(Path::new("/nonexistent/module.so"), clock);
    let waiting: Vec<_> = std::iter::from_fn(|| module.waits("one")).collect();
    assert_eq!(waiting.len(), 16);
    assert!(module.waits("two").is_some());
    drop(waiting);
    assert!(module.waits("one").is_some());
}
