use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::*;
use crate::id::SystemSource;
use crate::settings::testing;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(seconds)
}

/// A folder that only its owner may write into, by its own path.
fn place() -> (tempfile::TempDir, PathBuf) {
    let outer = tempfile::tempdir().unwrap();
    let folder = fs::canonicalize(outer.path()).unwrap().join("spool");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o711)).unwrap();
    (outer, folder)
}

fn config(folder: &Path) -> SpoolConfig {
    SpoolConfig {
        name: "grid".to_owned(),
        folder: folder.to_owned(),
        mode: 0o600,
        owner: None,
        group: None,
        vos: Vec::new(),
    }
}

fn take(config: SpoolConfig) -> Result<Arc<Folder>, SpoolError> {
    Folder::take(config, Arc::new(SystemSource::new())).map(Arc::new)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn secret(text: &str) -> Secret<Vec<u8>> {
    Secret::new(text.as_bytes().to_vec())
}

#[tokio::test]
async fn a_file_is_whole_and_only_its_owners_while_its_request_lasts() {
    let (_outer, folder) = place();
    let taken = take(config(&folder)).unwrap();
    let to_spool = |text: &str| {
        let base64 = Secret::new(BASE64.encode(text.as_bytes()));
        ToSpool::new(&Spool(taken.clone()), &base64, at(1_000))
    };
    let (one, two) = (
        to_spool("one").put().await.unwrap(),
        to_spool("two").put().await.unwrap(),
    );
    let Credential::Header { name, value } = one.told() else {
        panic!("no header")
    };
    assert_eq!(name.as_str(), "x-countersign-proxy-file");
    let path = PathBuf::from(value.expose());
    assert_eq!(path.parent(), Some(folder.as_path()));
    assert_eq!(fs::read_to_string(&path).unwrap(), "one");
    let found = fs::metadata(&path).unwrap();
    assert_eq!(found.mode() & 0o7777, 0o600);
    assert_eq!(names(&folder).len(), 2, "and nothing that is not whole");
    drop(one);
    assert!(!path.exists());
    assert_eq!(names(&folder).len(), 1);
    drop(two);
    assert_eq!(names(&folder), [""; 0]);
}

#[test]
fn a_group_reads_it_where_the_settings_say_so() {
    let (_outer, folder) = place();
    let own = rustix::process::getegid().as_raw();
    let taken = take(SpoolConfig {
        mode: 0o640,
        group: Some(own),
        owner: Some(rustix::process::geteuid().as_raw()),
        ..config(&folder)
    })
    .unwrap();
    let _file = taken.put(&secret("one"), at(1_000)).unwrap();
    let found = fs::metadata(folder.join(&names(&folder)[0])).unwrap();
    assert_eq!((found.mode() & 0o7777, found.gid()), (0o640, own));
}

#[test]
fn a_file_goes_with_its_proxy_although_its_request_goes_on() {
    let (_outer, folder) = place();
    let taken = take(config(&folder)).unwrap();
    let file = taken.put(&secret("one"), at(1_000)).unwrap();
    let later = taken.put(&secret("two"), at(2_000)).unwrap();
    taken.remove_ended(at(999));
    assert_eq!(names(&folder).len(), 2);
    taken.remove_ended(at(1_000));
    assert_eq!(names(&folder), std::slice::from_ref(&later.name));
    drop(file);
    assert_eq!(names(&folder).len(), 1);
}

#[test]
fn what_cannot_be_written_leaves_nothing_behind() {
    let (_outer, folder) = place();
    let taken = take(SpoolConfig {
        // No account can give a file to this group.
        group: Some(u32::MAX - 1),
        owner: Some(u32::MAX - 1),
        ..config(&folder)
    })
    .unwrap();
    // Root may do so; then the file is there, and goes.
    match taken.put(&secret("one"), at(1_000)) {
        Ok(file) => drop(file),
        Err(error) => assert!(matches!(error, SpoolError::Put { .. }), "{error}"),
    }
    assert_eq!(names(&folder), [""; 0]);
    assert!(taken.lock().is_empty());
    // The folder was taken away.
    fs::remove_dir(&folder).unwrap();
    let error = taken.put(&secret("one"), at(1_000)).unwrap_err();
    assert!(!error.to_string().contains("os error"), "{error}");
    assert!(taken.lock().is_empty());
}

#[test]
fn what_a_killed_gateway_left_is_removed_and_nothing_else() {
    let (outer, folder) = place();
    let left = format!("countersign-{}.pem", "0123456789abcdef".repeat(2));
    let other = format!("countersign-{}.pem", "0".repeat(32));
    let precious = outer.path().join("precious");
    fs::write(&precious, "keep").unwrap();
    fs::write(folder.join(&left), "key").unwrap();
    fs::write(folder.join(format!(".{left}.part")), "key").unwrap();
    symlink(&precious, folder.join(&other)).unwrap();
    let stay = [
        "README",
        "countersign-1.pem",
        "countersign-x.pem.bak",
        "x509up_u1000",
    ];
    for name in stay {
        fs::write(folder.join(name), "mine").unwrap();
    }
    let taken = take(config(&folder)).unwrap();
    assert_eq!(names(&folder), stay);
    assert_eq!(fs::read_to_string(&precious).unwrap(), "keep");
    drop(taken);
    assert!(take(config(&folder)).is_ok());
}

#[test]
fn a_folder_belongs_to_one_gateway_and_to_nobody_else() {
    let (outer, folder) = place();
    let taken = take(config(&folder)).unwrap();
    let error = take(config(&folder)).unwrap_err();
    assert!(matches!(error, SpoolError::Taken(_)), "{error}");
    drop(taken);

    let link = fs::canonicalize(outer.path()).unwrap().join("link");
    symlink(&folder, &link).unwrap();
    let error = take(config(&link)).unwrap_err();
    assert!(matches!(error, SpoolError::Linked { .. }), "{error}");
    let error = take(config(&link.join("..").join("spool"))).unwrap_err();
    assert!(matches!(error, SpoolError::Linked { .. }), "{error}");

    for mode in [0o720, 0o702, 0o777] {
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
        let error = take(config(&folder)).unwrap_err();
        assert!(matches!(error, SpoolError::Shared { .. }), "{error}");
        assert!(error.to_string().contains("accepted: "), "{error}");
    }
    let file = outer.path().join("file");
    fs::write(&file, "").unwrap();
    let file = fs::canonicalize(file).unwrap();
    for missing in [file, folder.join("missing")] {
        let error = take(config(&missing)).unwrap_err();
        assert!(matches!(error, SpoolError::Open { .. }), "{error}");
    }
}

#[test]
fn a_folder_that_others_may_list_or_exchange_is_refused() {
    let (outer, folder) = place();
    for mode in [0o755, 0o751, 0o715, 0o744] {
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
        let error = take(config(&folder)).unwrap_err();
        assert!(matches!(error, SpoolError::Listed { .. }), "{mode:o}: {error}");
        assert!(error.to_string().contains("accepted: "), "{error}");
    }
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o711)).unwrap();
    for (mode, taken) in [(0o777, false), (0o770, false), (0o1777, true), (0o755, true)] {
        fs::set_permissions(outer.path(), fs::Permissions::from_mode(mode)).unwrap();
        match take(config(&folder)) {
            Ok(_) => assert!(taken, "{mode:o}"),
            Err(error) => {
                assert!(
                    !taken && matches!(error, SpoolError::Above { .. }),
                    "{mode:o}: {error}"
                );
                assert!(error.to_string().contains("accepted: "), "{error}");
            }
        }
    }
}

#[test]
fn a_removal_that_failed_is_tried_again() {
    let (_outer, folder) = place();
    let taken = take(config(&folder)).unwrap();
    let file = taken.put(&secret("one"), at(1_000)).unwrap();
    let path = folder.join(&file.name);
    // What is no file cannot be removed as one.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    drop(file);
    assert!(path.exists());
    fs::remove_dir(&path).unwrap();
    fs::write(&path, "one").unwrap();
    // Long before its proxy ends.
    taken.remove_ended(at(1));
    assert_eq!(names(&folder), [""; 0]);
    assert!(taken.lock().is_empty());
}

#[test]
fn what_is_on_another_machine_gets_no_file() {
    let tcp = |host: &str| UpstreamAddress::Tcp(host.to_owned(), 80);
    for here in ["localhost", "127.0.0.1", "127.8.0.1", "::1", "[::1]"] {
        assert!(is_here(&tcp(here)), "{here}");
    }
    assert!(is_here(&UpstreamAddress::Unix("/run/tool".into())));
    for far in [
        "10.0.0.1",
        "192.0.2.1",
        "ce.example.org",
        "localhost.example.org",
        "::",
    ] {
        assert!(!is_here(&tcp(far)), "{far}");
    }
}

#[test]
fn each_flaw_of_a_folders_settings_is_told() {
    let flaws = |text: &str| {
        let text = format!("[[spool]]\n{text}\n");
        testing::read(&text, read).1.join("\n")
    };
    let good = "name = \"grid\"\nfolder = \"/run/spool\"\n";
    assert_eq!(flaws(good), "");
    assert_eq!(
        flaws(&format!("{good}mode = \"0640\"\ngroup = 7\nvos = [\"imaging\"]")),
        ""
    );
    for (text, said) in [
        ("folder = \"/run/spool\"", "`spool[0].name` is missing"),
        ("name = \"grid\"", "`spool[0].folder` is missing"),
        ("name = \"Grid\"\nfolder = \"/run/spool\"", "`spool[0].name`"),
        ("name = \"grid\"\nfolder = \"run/spool\"", "`spool[0].folder`"),
        ("name = \"grid\"\nfolder = \"/run/my spool\"", "`spool[0].folder`"),
        (&format!("{good}mode = \"0644\""), "`spool[0].mode`"),
        (&format!("{good}mode = \"0640\""), "no `group` is named"),
        (&format!("{good}owner = -1"), "`spool[0].owner`"),
        (&format!("{good}size = 1"), "unknown key `spool[0].size`"),
        (&format!("{good}[[spool]]\n{good}"), "twice"),
    ] {
        assert!(flaws(text).contains(said), "{text}: {}", flaws(text));
    }
}
