//! Key files and passphrases: what is written, who may read it, and what is refused in which words.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use chancery_pki::{KeyKind, PublicKey};
use chancery_signer::{
    Cost, CostOutOfRange, KeyFile, KeyFileError, KeyRole, KeySigner, LoadedKey, Passphrase, PassphraseError,
};
use serde_json::Value;

const SECRET: &str = "correct horse battery staple";

const KINDS: [KeyKind; 6] =
    [KeyKind::P256, KeyKind::P384, KeyKind::Ed25519, KeyKind::Rsa2048, KeyKind::Rsa3072, KeyKind::Rsa4096];

fn passphrase() -> Passphrase {
    Passphrase::new(SECRET).expect("long enough")
}

fn cheap() -> Cost {
    Cost::new(8, 1).expect("the least there is")
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder can be made"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).expect("readable");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// A P-256 issuing key in `issuing.key`.
    fn with_key(&self) -> (PathBuf, PublicKey) {
        let path = self.path("issuing.key");
        let key = create(&path, KeyKind::P256).expect("made");
        (path, key)
    }
}

fn create(path: &Path, kind: KeyKind) -> Result<PublicKey, KeyFileError> {
    KeyFile::create(path, "issuing", KeyRole::Issuing, kind, &passphrase(), cheap())
}

fn open(path: &Path) -> Result<LoadedKey, KeyFileError> {
    KeyFile::open(path, &passphrase())
}

fn refusal(path: &Path) -> KeyFileError {
    open(path).expect_err("refused")
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("there")).expect("JSON")
}

fn octets(value: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(value.as_str().expect("a text")).expect("base64")
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
}

#[test]
fn a_key_of_every_kind_comes_back_as_what_it_was_made() {
    let folder = Folder::new();
    for kind in KINDS {
        let path = folder.path(&format!("{kind}.key"));
        let made = create(&path, kind).expect("made");
        assert_eq!(made.kind(), kind);
        let read = KeyFile::read(&path).expect("readable without a passphrase");
        assert_eq!((read.name(), read.role(), read.public_key()), ("issuing", KeyRole::Issuing, &made));
        let loaded = open(&path).expect("opened");
        assert_eq!((loaded.name(), loaded.role(), loaded.public_key()), ("issuing", KeyRole::Issuing, &made));
        KeySigner::new(vec![loaded]).expect("one key");
    }
}

/// The format written down a second time, so that it cannot change unseen: a key file must be
/// readable as long as its authority lives, by other tools too.
#[test]
fn a_file_is_argon2id_and_aes_256_gcm_over_pkcs_8_as_openssl_reads_it() {
    use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    let folder = Folder::new();
    for kind in KINDS {
        let path = folder.path(&format!("{kind}.key"));
        let made = create(&path, kind).expect("made");
        let file = json(&path);
        let (derivation, cipher) = (&file["derivation"], &file["cipher"]);
        let (salt, nonce) = (octets(&derivation["salt"]), octets(&cipher["nonce"]));
        let mut key = [0; 32];
        argon2::Argon2::new(
            argon2::Algorithm::Argon2id,
            argon2::Version::V0x13,
            argon2::Params::new(8, 1, 1, None).expect("as in the file"),
        )
        .hash_password_into(SECRET.as_bytes(), &salt, &mut key)
        .expect("derived");
        let mut authenticated = Vec::new();
        for part in [
            b"chancery-key-v1".as_slice(),
            b"issuing",
            b"issuing",
            kind.as_str().as_bytes(),
            &octets(&file["public_key"]),
            b"argon2id",
            &[0, 0, 0, 8, 0, 0, 0, 1],
            &salt,
            b"AES-256-GCM",
            &nonce,
        ] {
            authenticated.extend_from_slice(&u32::try_from(part.len()).expect("short").to_be_bytes());
            authenticated.extend_from_slice(part);
        }
        let mut content = octets(&cipher["ciphertext"]);
        let plain = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).expect("32 octets"))
            .open_in_place(
                Nonce::try_assume_unique_for_key(&nonce).expect("12 octets"),
                Aad::from(authenticated),
                &mut content,
            )
            .expect("authentic");
        fs::write(folder.path("pkcs8"), plain).expect("written");
        let public = Command::new("openssl")
            .args(["pkey", "-inform", "DER", "-in", "pkcs8", "-pubout", "-outform", "DER"])
            .current_dir(folder.0.path())
            .output()
            .expect("openssl is installed");
        assert!(public.status.success(), "{kind}: {public:?}");
        assert_eq!(public.stdout, made.spki(), "{kind}");
    }
}

#[test]
fn a_key_file_is_ours_alone_and_nothing_else_is_left_in_the_folder() {
    let folder = Folder::new();
    let (path, _) = folder.with_key();
    let metadata = fs::metadata(&path).expect("there");
    assert_eq!(metadata.mode() & 0o7777, 0o600);
    assert_eq!(folder.names(), ["issuing.key"]);
}

#[test]
fn two_files_under_one_passphrase_share_no_salt_no_nonce_and_no_ciphertext() {
    let folder = Folder::new();
    let parts = |name: &str| {
        create(&folder.path(name), KeyKind::Ed25519).expect("made");
        let file = json(&folder.path(name));
        [
            file["derivation"]["salt"].clone(),
            file["cipher"]["nonce"].clone(),
            file["cipher"]["ciphertext"].clone(),
            file["public_key"].clone(),
        ]
    };
    for (one, other) in parts("a").iter().zip(parts("b")) {
        assert_ne!(*one, other);
    }
}

#[test]
fn a_key_is_never_overwritten() {
    let folder = Folder::new();
    let (path, key) = folder.with_key();
    assert!(matches!(create(&path, KeyKind::P256), Err(KeyFileError::Exists { .. })));
    symlink(folder.path("nowhere"), folder.path("link")).expect("linked");
    assert!(matches!(create(&folder.path("link"), KeyKind::P256), Err(KeyFileError::Exists { .. })));
    assert_eq!(open(&path).expect("untouched").public_key(), &key);
    assert_eq!(folder.names(), ["issuing.key", "link"]);
}

#[test]
fn of_many_that_make_the_same_file_at_once_one_succeeds_and_its_key_is_the_one_that_stays() {
    let folder = Folder::new();
    let path = folder.path("issuing.key");
    let made: Vec<PublicKey> = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..8).map(|_| scope.spawn(|| create(&path, KeyKind::P256))).collect();
        makers.into_iter().filter_map(|maker| maker.join().expect("no panic").ok()).collect()
    });
    assert_eq!(made.len(), 1);
    assert_eq!(open(&path).expect("whole").public_key(), &made[0]);
    assert_eq!(folder.names(), ["issuing.key"]);
}

#[test]
fn a_folder_that_is_not_there_is_an_error_in_words() {
    let folder = Folder::new();
    let error = create(&folder.path("missing/issuing.key"), KeyKind::P256).expect_err("no folder");
    assert!(matches!(error, KeyFileError::Write { .. }), "{error}");
}

#[test]
fn another_passphrase_does_not_open_it() {
    let folder = Folder::new();
    let (path, _) = folder.with_key();
    for other in ["correct horse battery stapl3", "correct horse battery staple ", "Correct horse battery staple"] {
        let error = KeyFile::open(&path, &Passphrase::new(other).expect("long enough")).expect_err("wrong");
        assert!(matches!(error, KeyFileError::Passphrase { .. }), "{error}");
    }
}

#[test]
fn no_octet_of_the_file_can_be_changed_without_being_found() {
    let folder = Folder::new();
    let (path, key) = folder.with_key();
    let whole = fs::read(&path).expect("there");
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        fs::write(&path, &flipped).expect("ours");
        assert!(open(&path).is_err(), "octet {at}");
        fs::write(&path, &whole[..at]).expect("ours");
        // All that may be missing is the line feed at the end.
        assert!(open(&path).is_err() || at + 1 == whole.len(), "cut at {at}");
    }
    fs::write(&path, &whole).expect("ours");
    assert_eq!(open(&path).expect("as it was").public_key(), &key);
}

#[test]
fn name_role_public_key_and_cost_cannot_be_exchanged_for_others() {
    let folder = Folder::new();
    let (path, _) = folder.with_key();
    let other = folder.path("other.key");
    create(&other, KeyKind::P256).expect("made");
    let (mine, other) = (json(&path), json(&other));
    let attempt = |change: &dyn Fn(&mut Value)| {
        let mut changed = mine.clone();
        change(&mut changed);
        fs::write(&path, changed.to_string()).expect("ours");
        refusal(&path)
    };
    for changed in [
        attempt(&|file| file["name"] = "ledger".into()),
        attempt(&|file| file["role"] = "ledger".into()),
        attempt(&|file| file["public_key"] = other["public_key"].clone()),
        attempt(&|file| file["cipher"] = other["cipher"].clone()),
        attempt(&|file| file["derivation"]["memory_kib"] = 16.into()),
        attempt(&|file| file["derivation"]["passes"] = 2.into()),
        attempt(&|file| file["derivation"]["salt"] = other["derivation"]["salt"].clone()),
    ] {
        assert!(matches!(changed, KeyFileError::Passphrase { .. }), "{changed}");
    }
    for changed in [
        attempt(&|file| file["format"] = "chancery-key-v2".into()),
        attempt(&|file| file["kind"] = "P-384".into()),
        attempt(&|file| file["role"] = "tls".into()),
        attempt(&|file| file["derivation"]["algorithm"] = "argon2d".into()),
        attempt(&|file| file["cipher"]["algorithm"] = "AES-128-GCM".into()),
        attempt(&|file| file["comment"] = "hello".into()),
        attempt(&|file| file["cipher"]["nonce"] = "AAAA".into()),
    ] {
        assert!(matches!(changed, KeyFileError::NotAKeyFile { .. }), "{changed}");
    }
}

#[test]
fn a_file_cannot_make_us_take_a_tebibyte_or_work_for_ever() {
    let folder = Folder::new();
    let (path, _) = folder.with_key();
    let text = fs::read_to_string(&path).expect("there");
    for (member, with) in [
        ("\"memory_kib\": 8", "\"memory_kib\": 1073741824"),
        ("\"memory_kib\": 8", "\"memory_kib\": 1048577"),
        ("\"memory_kib\": 8", "\"memory_kib\": 7"),
        ("\"passes\": 1", "\"passes\": 4294967295"),
        ("\"passes\": 1", "\"passes\": 17"),
        ("\"passes\": 1", "\"passes\": 0"),
    ] {
        assert!(text.contains(member));
        fs::write(&path, text.replace(member, with)).expect("ours");
        assert!(matches!(refusal(&path), KeyFileError::Cost { .. }), "{with}");
    }
    fs::write(&path, text.replace("\"memory_kib\": 8", "\"memory_kib\": 99999999999999")).expect("ours");
    assert!(matches!(refusal(&path), KeyFileError::NotAKeyFile { .. }));
    fs::write(&path, format!("{text}{}", " ".repeat(20_000))).expect("ours");
    assert!(matches!(refusal(&path), KeyFileError::TooLarge { .. }));
    assert_eq!(Cost::new(1, 1), Err(CostOutOfRange { memory_kib: 1, passes: 1 }));
}

#[test]
fn a_file_that_others_can_read_or_write_is_refused_and_each_says_so() {
    let folder = Folder::new();
    let (path, _) = folder.with_key();
    for (mode, words) in [
        (0o640, "can be read by its group or by others (mode 0640)"),
        (0o604, "can be read by its group or by others (mode 0604)"),
        (0o660, "can be written by its group or by others (mode 0660)"),
        (0o602, "can be written by its group or by others (mode 0602)"),
        (0o666, "can be written by its group or by others (mode 0666)"),
    ] {
        set_mode(&path, mode);
        let error = refusal(&path).to_string();
        assert!(error.contains(words) && error.contains("chmod 600"), "{error}");
    }
    for mode in [0o600, 0o400] {
        set_mode(&path, mode);
        assert!(open(&path).is_ok());
    }
}

#[test]
fn links_folders_pipes_missing_files_and_foreign_owners_are_refused_each_by_name() {
    let folder = Folder::new();
    let (path, _) = folder.with_key();
    symlink(&path, folder.path("link")).expect("linked");
    assert!(refusal(&folder.path("link")).to_string().contains("is a symbolic link"));
    fs::create_dir(folder.path("folder")).expect("made");
    assert!(refusal(&folder.path("folder")).to_string().contains("is not a plain file"));
    let made = Command::new("mkfifo").arg(folder.path("pipe")).status().expect("mkfifo is there");
    assert!(made.success());
    assert!(refusal(&folder.path("pipe")).to_string().contains("is not a plain file"));
    assert!(refusal(&folder.path("nothing")).to_string().contains("there is no key file"));
    // Root gives its file away; everybody else finds one of root's.
    let foreign = if fs::metadata(&path).expect("there").uid() == 0 {
        std::os::unix::fs::chown(&path, Some(65_534), None).expect("we are root");
        path
    } else {
        PathBuf::from("/etc/passwd")
    };
    assert!(refusal(&foreign).to_string().contains("belongs to user"));
}

#[test]
fn names_and_kinds_that_cannot_be_are_refused_before_anything_is_made() {
    let folder = Folder::new();
    for name in ["", "Issuing", "a b", "../a", "a/b", ".a", "ключ", &"a".repeat(65)] {
        let error =
            KeyFile::create(&folder.path("a.key"), name, KeyRole::Issuing, KeyKind::P256, &passphrase(), cheap());
        assert!(matches!(error, Err(KeyFileError::Name { .. })), "{name:?}");
    }
    assert!(matches!(create(&folder.path("a.key"), KeyKind::P521), Err(KeyFileError::Kind { .. })));
    assert_eq!(folder.names(), Vec::<String>::new());
}

#[test]
fn secrets_are_in_no_debug_text_no_error_and_no_file() {
    let folder = Folder::new();
    let (path, _) = folder.with_key();
    let file = KeyFile::read(&path).expect("readable");
    let loaded = open(&path).expect("opened");
    let mut shown = format!("{:?} {file:?} {loaded:?} {loaded:#?}", passphrase());
    let signer = KeySigner::new(vec![loaded]).expect("one key");
    let wrong = KeyFile::open(&path, &Passphrase::new("another secret phrase").expect("long enough"));
    shown += &format!("{signer:?} {wrong:?} {}", fs::read_to_string(&path).expect("text"));
    // Somebody names the passphrase file, in whatever form, where the key file belongs.
    for content in [SECRET.to_owned(), format!("\"{SECRET}\""), format!("{{\"format\": \"x\", \"{SECRET}\": 1}}")] {
        fs::write(&path, content).expect("ours");
        let error = refusal(&path);
        shown += &format!("{error} {error:?}");
    }
    for secret in [SECRET, "correct horse", "another secret"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    // The debug text of octets would show them as numbers.
    assert!(!shown.contains("99, 111, 114, 114, 101, 99, 116"));
}

#[test]
fn a_passphrase_comes_from_the_one_line_of_a_file() {
    let folder = Folder::new();
    let path = folder.path("passphrase");
    let (key, _) = folder.with_key();
    for content in [SECRET.to_owned(), format!("{SECRET}\n"), format!("{SECRET}\r\n")] {
        fs::write(&path, content).expect("written");
        set_mode(&path, 0o600);
        let passphrase = Passphrase::from_file(&path).expect("a passphrase");
        assert!(KeyFile::open(&key, &passphrase).is_ok());
    }
    for content in
        ["", "short", "eleven char\n", "two lines are\none too many\n", "a tab\tis a control", "a nul\0 is too"]
    {
        fs::write(&path, content).expect("written");
        let error = Passphrase::from_file(&path).expect_err(content);
        assert!(matches!(error, PassphraseError::Length | PassphraseError::NotALine), "{error}");
    }
    fs::write(&path, b"\xff\xfe not text at all").expect("written");
    assert!(matches!(Passphrase::from_file(&path), Err(PassphraseError::NotALine)));
    fs::write(&path, "x".repeat(1025)).expect("written");
    assert!(matches!(Passphrase::from_file(&path), Err(PassphraseError::Length)));
    assert!(matches!(Passphrase::from_file(&folder.path("nothing")), Err(PassphraseError::Read { .. })));
    assert!(matches!(Passphrase::from_file(folder.0.path()), Err(PassphraseError::NotAFile { .. })));
}

#[test]
fn a_passphrase_file_that_everybody_reads_or_its_group_writes_is_refused() {
    let folder = Folder::new();
    let path = folder.path("passphrase");
    fs::write(&path, SECRET).expect("written");
    for mode in [0o644, 0o604, 0o602, 0o620, 0o660, 0o601] {
        set_mode(&path, mode);
        assert!(matches!(Passphrase::from_file(&path), Err(PassphraseError::Exposed { .. })), "{mode:o}");
    }
    for mode in [0o600, 0o400, 0o440] {
        set_mode(&path, mode);
        assert!(Passphrase::from_file(&path).is_ok(), "{mode:o}");
    }
}

#[test]
fn a_passphrase_comes_from_the_environment_and_from_systemds_credentials() {
    // A process of its own, since an environment cannot be changed safely beside other threads.
    let folder = Folder::new();
    let (key, _) = folder.with_key();
    fs::write(folder.path("issuing-passphrase"), format!("{SECRET}\n")).expect("written");
    set_mode(&folder.path("issuing-passphrase"), 0o440);
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "in_another_process", "--nocapture", "--include-ignored"])
        .env("CREDENTIALS_DIRECTORY", folder.0.path())
        .env("CHANCERY_TEST_PASSPHRASE", SECRET)
        .env("CHANCERY_TEST_KEY", key)
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert!(!text.contains(SECRET));
    assert!(matches!(
        Passphrase::from_environment("CHANCERY_TEST_NOT_SET"),
        Err(PassphraseError::NotInEnvironment { .. })
    ));
    let named = Passphrase::from_environment("CHANCERY_TEST_NOT_SET").expect_err("not set").to_string();
    assert!(named.contains("CHANCERY_TEST_NOT_SET"), "{named}");
    let mistaken = Passphrase::from_environment(SECRET).expect_err("not set").to_string();
    assert!(!mistaken.contains(SECRET), "the passphrase itself where its variable belongs: {mistaken}");
}

#[test]
#[ignore = "the second half of the test above, in a process with an environment of its own"]
fn in_another_process() {
    let key = PathBuf::from(std::env::var_os("CHANCERY_TEST_KEY").expect("set"));
    let from_environment = Passphrase::from_environment("CHANCERY_TEST_PASSPHRASE").expect("set");
    assert!(KeyFile::open(&key, &from_environment).is_ok());
    let credential = Passphrase::from_credential("issuing-passphrase").expect("there");
    assert!(KeyFile::open(&key, &credential).is_ok());
    for name in ["", ".", "..", "a/b", "../issuing-passphrase"] {
        assert!(matches!(Passphrase::from_credential(name), Err(PassphraseError::NotACredentialName)));
    }
    assert!(matches!(Passphrase::from_credential("another"), Err(PassphraseError::NoSuchCredential)));
}

/// Not a bound: it prints what one guess at the passphrase costs (`--nocapture`).
#[test]
fn what_the_standard_cost_costs() {
    let folder = Folder::new();
    let path = folder.path("issuing.key");
    KeyFile::create(&path, "issuing", KeyRole::Issuing, KeyKind::P256, &passphrase(), Cost::STANDARD).expect("made");
    let start = std::time::Instant::now();
    assert!(open(&path).is_ok());
    println!("opening at the standard cost: {} ms", start.elapsed().as_millis());
}
