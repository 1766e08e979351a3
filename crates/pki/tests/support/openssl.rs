//! OpenSSL's command line as the oracle: a folder of its own for each test, and what it makes there.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A folder with whatever OpenSSL made; removed at the end.
pub(crate) struct OpenSsl(tempfile::TempDir);

impl OpenSsl {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder can be made"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        std::fs::write(self.path(name), content).expect("the temporary folder can be written");
        self.path(name)
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("OpenSSL has written it")
    }

    /// Runs `openssl` with the words of `arguments` in the folder; its output.
    pub(crate) fn run(&self, arguments: &str) -> Vec<u8> {
        let (ok, output, errors) = self.try_run(arguments);
        assert!(ok, "openssl {arguments}: {errors}");
        output
    }

    pub(crate) fn try_run(&self, arguments: &str) -> (bool, Vec<u8>, String) {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.folder())
            .env("OPENSSL_CONF", "/dev/null")
            .output()
            .expect("openssl is installed");
        (output.status.success(), output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn folder(&self) -> &Path {
        self.0.path()
    }

    /// Makes `name.key` with the options of `genpkey` and returns its public half in DER.
    pub(crate) fn generate(&self, name: &str, options: &str) -> Vec<u8> {
        self.run(&format!("genpkey {options} -out {name}.key"));
        self.run(&format!("pkey -in {name}.key -pubout -outform DER"))
    }
}

/// Options of `genpkey` for every kind of key, by the kind's name.
pub(crate) const GENPKEY: [(&str, &str); 7] = [
    ("RSA-2048", "-algorithm RSA -pkeyopt rsa_keygen_bits:2048"),
    ("RSA-3072", "-algorithm RSA -pkeyopt rsa_keygen_bits:3072"),
    ("RSA-4096", "-algorithm RSA -pkeyopt rsa_keygen_bits:4096"),
    ("P-256", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
    ("P-384", "-algorithm EC -pkeyopt ec_paramgen_curve:P-384"),
    ("P-521", "-algorithm EC -pkeyopt ec_paramgen_curve:P-521"),
    ("Ed25519", "-algorithm ED25519"),
];
